//! Which logical unit a device is, and which cache it has.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use super::node::{self, Node};
use super::sys::LoopStatus;
use super::{scsi, vpd83};
use crate::path::{Cache, CacheScope, Identifier, IdentifierKind, Identity};

/// A regular file, also one that is behind a loop device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inode {
    /// Device number of the file system.
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Inode {
    fn name(self) -> String {
        format!("{}:{}", node::number(self.device), self.inode)
    }

    /// The page cache and whatever is below it: a flush through the file or through any loop device over it empties it.
    pub(super) fn cache(self) -> Cache {
        Cache::Shared(CacheScope(format!("file.{}", self.name())))
    }
}

/// Identity of a regular file. The file is also its own node: there is one way to it.
pub(super) fn of_file(file: Inode) -> Identity {
    Identity::none().with(IdentifierKind::File, file.name()).with_node(format!("file {}", file.name()))
}

/// A block device whose identity is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) number: u64,
    pub(super) node: &'a Node,
    /// Of a loop device.
    pub(super) status: Option<LoopStatus>,
    /// The open device: a disk is then asked itself. What the kernel remembers of it may be of another that was there before.
    pub(super) file: Option<&'a File>,
}

impl Subject<'_> {
    /// Identity of a block device. A partition has its disk's identifiers with its offset, so that two partitions of one
    /// disk differ; so does a loop device that begins within its file.
    pub(super) fn identity(&self) -> Identity {
        let start = self.node.offset() + self.status.map_or(0, |status| status.offset);
        // A number is given again, a sequence is not.
        let sequence = self.node.sequence().map_or(String::new(), |sequence| format!(", disk {sequence}"));
        let identity = Identity::none().with_node(format!("{}{sequence}", node::number(self.number)));
        let identifiers = self.of_disk().into_iter();
        identifiers
            .fold(identity, |identity, Identifier { kind, value }| identity.with(kind, placed(value, start)))
    }

    /// The cache of a block device: a loop device's is that of its file, whatever it says of itself; a disk with a volatile
    /// cache shares it with all that have an identifier of the disk.
    pub(super) fn cache(&self) -> Cache {
        if let Some(LoopStatus { device, inode, .. }) = self.status {
            return Inode { device, inode }.cache();
        }
        // Two paths that read the same identifiers take the same one: the least.
        match self.of_disk().into_iter().min() {
            Some(identifier) => Cache::Shared(CacheScope(identifier.to_string())),
            None => Cache::Private,
        }
    }

    /// Of the whole disk, also for a partition.
    pub(super) fn of_disk(&self) -> Vec<Identifier> {
        if let Some(LoopStatus { device, inode, .. }) = self.status {
            let value = Inode { device, inode }.name();
            return vec![Identifier { kind: IdentifierKind::File, value }];
        }
        if let Ok(remembered) = fs::read(self.node.disk().join("device/vpd_pg83")) {
            let asked = self.file.and_then(|file| scsi::identification(file).ok());
            return vpd83::identifiers(&asked.unwrap_or(remembered));
        }
        of_namespace(self.node)
    }
}

/// What sysfs says is behind a loop device.
pub(super) fn listed_status(node: &Node) -> Option<LoopStatus> {
    let found = fs::metadata(node.of_disk("loop/backing_file")?).ok()?;
    let offset = node.of_disk("loop/offset")?.parse().ok()?;
    Some(LoopStatus { device: found.dev(), inode: found.ino(), offset })
}

/// NVMe identifiers, each with the namespace's number.
fn of_namespace(node: &Node) -> Vec<Identifier> {
    let Some(nsid) = node.of_disk("nsid") else { return Vec::new() };
    let kinds = [
        ("uuid", IdentifierKind::NvmeUuid),
        ("nguid", IdentifierKind::NvmeNguid),
        ("eui", IdentifierKind::NvmeEui64),
    ];
    let found = kinds.into_iter().filter_map(|(name, kind)| {
        let digits: String = node.of_disk(name)?.chars().filter(char::is_ascii_hexdigit).collect();
        let is_set = digits.chars().any(|digit| digit != '0');
        is_set.then(|| Identifier { kind, value: format!("{}:{nsid}", digits.to_ascii_lowercase()) })
    });
    let mut found: Vec<Identifier> = found.collect();
    // The kernel hides those that it does not trust (`NVME_QUIRK_BOGUS_NID`). Then the number counts with the name of the
    // subsystem; beside others it does not: one namespace may be in several subsystems.
    if found.is_empty()
        && let Some(subsystem) = node.of_disk("device/subsysnqn")
    {
        found.push(Identifier { kind: IdentifierKind::NvmeSubsystem, value: format!("{subsystem}:{nsid}") });
    }
    found
}

fn placed(value: String, start: u64) -> String {
    if start == 0 { value } else { format!("{value}+{start}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing_support::TempDir;

    const FILE: Inode = Inode { device: 0x1b, inode: 42 };

    fn behind_loop(offset: u64) -> LoopStatus {
        LoopStatus { device: FILE.device, inode: FILE.inode, offset }
    }

    fn subject(node: &Node, status: Option<LoopStatus>) -> Subject<'_> {
        Subject { number: 0x800, node, status, file: None }
    }

    #[test]
    fn a_loop_device_is_its_file_and_has_its_cache() {
        let node = Node::at("/nonexistent".into());
        let behind = |offset| subject(&node, Some(behind_loop(offset)));
        let (file, device) = (of_file(FILE), behind(0).identity());
        assert_eq!(file.identifiers(), device.identifiers());
        assert_ne!(file.node(), device.node());
        assert_eq!(behind(0).cache(), FILE.cache());
        assert_ne!(behind(4096).identity().identifiers(), device.identifiers());
    }

    #[test]
    fn partitions_of_one_disk_differ_and_share_its_cache() {
        let dir = TempDir::new();
        let page = [0, 0x83, 0, 12, 1, 3, 0, 8, 0x50, 1, 2, 3, 4, 5, 6, 7];
        dir.write("sda/device/vpd_pg83", page);
        dir.write("sda/queue/write_cache", "write back\n");
        for (number, start) in [("1", "2048"), ("2", "4096")] {
            dir.write(&format!("sda/sda{number}/partition"), number);
            dir.write(&format!("sda/sda{number}/start"), start);
        }
        let [disk, first, second] =
            ["sda", "sda/sda1", "sda/sda2"].map(|name| Node::at(dir.path().join(name)));
        let value = |node: &Node| subject(node, None).identity().identifiers()[0].value.clone();
        assert_eq!(value(&disk), "5001020304050607");
        assert_eq!(value(&first), "5001020304050607+1048576");
        assert_eq!(value(&second), "5001020304050607+2097152");
        assert_eq!(subject(&first, None).cache(), subject(&disk, None).cache());
        assert_eq!(subject(&disk, None).cache(), Cache::Shared(CacheScope("naa.5001020304050607".into())));
    }

    #[test]
    fn nvme_identifiers_are_read_with_the_namespace_number() {
        let dir = TempDir::new();
        dir.write("nvme0n1/nsid", "7\n");
        dir.write("nvme0n1/uuid", "12345678-9ABC-def0-1234-56789abcdef0\n");
        dir.write("nvme0n1/nguid", "00000000-0000-0000-0000-000000000000\n");
        dir.write("nvme0n1/eui", "00 25 38 5b 71 00 12 34\n");
        let identity = subject(&Node::at(dir.path().join("nvme0n1")), None).identity();
        let found: Vec<String> = identity.identifiers().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["uuid.123456789abcdef0123456789abcdef0:7", "eui.0025385b71001234:7"]);
    }

    #[test]
    fn a_namespace_whose_identifiers_are_hidden_has_a_number_in_its_subsystem() {
        let dir = TempDir::new();
        dir.write("nvme0n1/nsid", "7\n");
        dir.write("nvme0n1/device/subsysnqn", "nqn.2026-01.example:array\n");
        let node = Node::at(dir.path().join("nvme0n1"));
        let found = |node: &Node| subject(node, None).identity().identifiers()[0].to_string();
        assert_eq!(found(&node), "nvme.nqn.2026-01.example:array:7");
        dir.write("nvme0n1/uuid", "12345678-9abc-def0-1234-56789abcdef0\n");
        assert!(found(&node).starts_with("uuid."));
        assert_eq!(subject(&node, None).identity().identifiers().len(), 1);
    }

    #[test]
    fn a_cache_without_a_name_is_private_and_a_write_through_one_is_none() {
        let dir = TempDir::new();
        dir.write("vda/queue/write_cache", "write back\n");
        let cache = |dir: std::path::PathBuf| subject(&Node::at(dir), None).cache();
        assert_eq!(cache(dir.path().join("vda")), Cache::Private);
        // It may be switched back at any moment, and to flush it costs nothing while it is not.
        dir.write("vda/queue/write_cache", "write through\n");
        assert_eq!(cache(dir.path().join("vda")), Cache::Private);
        assert_eq!(cache("/nonexistent".into()), Cache::Private);
    }
}
