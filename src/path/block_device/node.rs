//! A block device's directory in sysfs.

use std::fs;
use std::path::{Path, PathBuf};

/// Unit of sizes and offsets in sysfs, in bytes, whatever the block size.
const SECTOR: u64 = 512;

/// Where sysfs describes a block device. Where it does not (no sysfs, no permission), every attribute is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// The device's own directory.
    dir: PathBuf,
    /// The directory of the whole disk: the same, or the parent of a partition's.
    disk: PathBuf,
    /// Where the partition begins on the disk, in bytes.
    offset: u64,
}

impl Node {
    /// The node with this device number.
    pub(super) fn of(device: u64) -> Self {
        let link = format!("/sys/dev/block/{}", number(device));
        Self::at(fs::canonicalize(&link).unwrap_or_else(|_| link.into()))
    }

    /// The node whose directory is `dir`.
    pub(super) fn at(dir: PathBuf) -> Self {
        let is_partition = dir.join("partition").exists();
        let disk = dir.parent().filter(|_| is_partition).unwrap_or(&dir).to_owned();
        let mut node = Self { dir, disk, offset: 0 };
        if is_partition {
            node.offset = node.own("start").and_then(|start| start.parse().ok()).unwrap_or(0_u64) * SECTOR;
        }
        node
    }

    /// The directory of the whole disk.
    pub(super) fn disk(&self) -> &Path {
        &self.disk
    }

    /// Where a partition begins on the disk, in bytes; 0 for a whole disk.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// An attribute of the device itself.
    pub(super) fn own(&self, name: &str) -> Option<String> {
        read(&self.dir.join(name))
    }

    /// An attribute of the whole disk.
    pub(super) fn of_disk(&self, name: &str) -> Option<String> {
        read(&self.disk.join(name))
    }

    /// A number from the request queue's directory.
    pub(super) fn queue(&self, name: &str) -> Option<u64> {
        self.of_disk(&format!("queue/{name}"))?.parse().ok()
    }

    /// Number of the disk within all disks since boot (kernel 5.15): never given twice.
    pub(super) fn sequence(&self) -> Option<String> {
        self.of_disk("diskseq")
    }

    /// What builds on the device: device mapper, MD.
    pub(super) fn holders(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.dir.join("holders")) else { return Vec::new() };
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Numbers of the device and of its partitions, as `major:minor`.
    pub(super) fn numbers(&self) -> Vec<String> {
        let partitions = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let partitions = partitions.map(|entry| entry.path()).filter(|path| path.join("partition").exists());
        let partitions = partitions.filter_map(|path| read(&path.join("dev")));
        self.own("dev").into_iter().chain(partitions).collect()
    }
}

/// A device number as the field writes it.
pub(super) fn number(device: u64) -> String {
    format!("{}:{}", libc::major(device), libc::minor(device))
}

/// An attribute's trimmed text, `None` if there is none or it is empty.
pub(super) fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing_support::TempDir;

    #[test]
    fn a_partition_begins_somewhere_on_its_disk() {
        let dir = TempDir::new();
        dir.write("sda/sda2/partition", "2\n");
        dir.write("sda/sda2/start", "2048\n");
        dir.write("sda/sda2/dev", "8:2\n");
        dir.write("sda/dev", "8:0\n");
        dir.write("sda/queue/nr_requests", "64\n");
        let partition = Node::at(dir.path().join("sda/sda2"));
        assert_eq!((partition.offset(), partition.queue("nr_requests")), (1 << 20, Some(64)));
        assert_eq!(Node::at(dir.path().join("sda")).numbers(), ["8:0", "8:2"]);
    }

    #[test]
    fn without_sysfs_every_attribute_is_missing() {
        let node = Node::at("/nonexistent".into());
        assert!(node.own("dev").is_none() && node.holders().is_empty());
    }
}
