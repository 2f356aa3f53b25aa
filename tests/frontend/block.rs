//! What the kernel says of block devices, and file systems on them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::testing_support::{TempDir, run};

/// What sysfs says of a device.
pub(crate) fn attribute(device: &Path, name: &str) -> Option<String> {
    let path = Path::new("/sys/block").join(device.file_name().unwrap()).join(name);
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// Whether a file is attached to a loop device.
pub(crate) fn is_attached(device: &Path) -> bool {
    attribute(device, "loop/backing_file").is_some()
}

/// ext4 on a device, unmounted when dropped.
pub(crate) struct Mounted {
    dir: TempDir,
}

impl Mounted {
    pub(crate) fn new(device: &str) -> Self {
        assert!(run("mkfs.ext4", &["-q", "-F", device]), "mkfs.ext4 {device}");
        Self::again(device)
    }

    /// What is on the device already.
    pub(crate) fn again(device: &str) -> Self {
        let dir = TempDir::new();
        let mounted = Self { dir };
        assert!(run("mount", &["-t", "ext4", device, &mounted.path().display().to_string()]));
        mounted
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &[&self.path().display().to_string()]);
    }
}
