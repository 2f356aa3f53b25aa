//! The block devices of this host, as sysfs lists them. Nothing is opened.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use super::node::{self, Node};

/// One of them: a disk or a partition.
#[derive(Clone, Debug)]
pub(super) struct HostDevice {
    /// Its node in `/dev`.
    pub(super) path: PathBuf,
    pub(super) number: u64,
    pub(super) node: Node,
}

/// All that have a node in `/dev`, by name.
pub(super) fn devices() -> Vec<HostDevice> {
    let entries = fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
    let mut devices: Vec<HostDevice> = entries
        .filter_map(|entry| {
            let dir = fs::canonicalize(entry.path()).ok()?;
            let number = node::parsed(&node::read(&dir.join("dev"))?)?;
            // sysfs writes a slash in a name as an exclamation mark.
            let name = entry.file_name().to_string_lossy().replace('!', "/");
            let path = PathBuf::from("/dev").join(name);
            let found = fs::metadata(&path).ok()?;
            let is_it = found.file_type().is_block_device() && found.rdev() == number;
            is_it.then(|| HostDevice { path, number, node: Node::at(dir) })
        })
        .collect();
    devices.sort_by(|a, b| a.path.cmp(&b.path));
    devices
}
