//! What the kernel says of loop devices.

use std::fs;
use std::path::{Path, PathBuf};

/// What sysfs says of a device.
pub(crate) fn attribute(device: &Path, name: &str) -> Option<String> {
    let path = Path::new("/sys/block").join(device.file_name().unwrap()).join(name);
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// One file's being attached to a loop device: others may take the device as soon as it is free.
pub(crate) struct Attachment {
    device: PathBuf,
    /// Another with each file.
    sequence: Option<String>,
}

impl Attachment {
    /// The present one.
    pub(crate) fn of(device: &Path) -> Self {
        let attachment = Self { device: device.to_owned(), sequence: attribute(device, "diskseq") };
        assert!(attachment.stands(), "nothing is attached to {}", device.display());
        attachment
    }

    /// Whether it is the present one still.
    pub(crate) fn stands(&self) -> bool {
        let attached = attribute(&self.device, "loop/backing_file").is_some();
        attached && attribute(&self.device, "diskseq") == self.sequence
    }
}
