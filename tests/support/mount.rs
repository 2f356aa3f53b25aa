//! File systems for tests.

use std::fs;
use std::path::{Path, PathBuf};

use crate::testing_support::run;

/// A mounted ext4, thawed and unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// Makes the file system on `device` and mounts it at `target`, which is made too.
    pub(crate) fn new(device: &Path, target: &Path) -> Result<Self, String> {
        fs::create_dir(target).map_err(|error| error.to_string())?;
        let (device, at) = (device.display().to_string(), target.display().to_string());
        // Nothing that writes in the background.
        let now = "lazy_itable_init=0,lazy_journal_init=0";
        if !run("mkfs.ext4", &["-q", "-F", "-b", "4096", "-m", "0", "-E", now, &device]) {
            return Err(format!("mkfs.ext4 on {device} failed"));
        }
        Self::mount(&device, &at)?;
        Ok(Self(target.to_owned()))
    }

    /// Mounts what is on `device` already at `target`, which is there.
    pub(crate) fn again(device: &Path, target: &Path) -> Result<Self, String> {
        Self::mount(&device.display().to_string(), &target.display().to_string())?;
        Ok(Self(target.to_owned()))
    }

    fn mount(device: &str, at: &str) -> Result<(), String> {
        if run("mount", &["-t", "ext4", device, at]) {
            return Ok(());
        }
        Err(format!("mounting {device} failed"))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// `--freeze`: every write hangs from now on; `--unfreeze`: what hangs goes on.
    pub(crate) fn set(&self, state: &str) -> bool {
        run("fsfreeze", &[state, &self.0.display().to_string()])
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let at = self.0.display().to_string();
        // Fails where it is not frozen.
        self.set("--unfreeze");
        // After a test that failed the loop device over the file goes only when what hung in it has ended.
        for _ in 0..100 {
            if run("umount", &[&at]) {
                return;
            }
            std::thread::yield_now();
        }
        run("umount", &["--lazy", &at]);
    }
}
