//! Which logical unit a device is, and which cache it has.

use std::fs;

use super::node::{self, Node};
use super::sys::LoopStatus;
use super::vpd83;
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

/// Identity of a block device. A partition has its disk's identifiers with its offset, so that two partitions of one
/// disk differ; so does a loop device that begins within its file.
pub(super) fn of_device(device: u64, node: &Node, status: Option<LoopStatus>) -> Identity {
    let start = node.offset() + status.map_or(0, |status| status.offset);
    let identity = Identity::none().with_node(node::number(device));
    of_disk(node, status)
        .into_iter()
        .fold(identity, |identity, Identifier { kind, value }| identity.with(kind, placed(value, start)))
}

/// The cache of a block device: a loop device's is that of its file, whatever it says of itself; a disk with a volatile
/// cache shares it with all that have an identifier of the disk.
pub(super) fn cache(node: &Node, status: Option<LoopStatus>) -> Cache {
    if let Some(LoopStatus { device, inode, .. }) = status {
        return Inode { device, inode }.cache();
    }
    // Two paths that read the same identifiers take the same one: the least.
    match of_disk(node, status).into_iter().min() {
        Some(identifier) => Cache::Shared(CacheScope(identifier.to_string())),
        None => Cache::Private,
    }
}

fn of_disk(node: &Node, status: Option<LoopStatus>) -> Vec<Identifier> {
    if let Some(LoopStatus { device, inode, .. }) = status {
        let value = Inode { device, inode }.name();
        return vec![Identifier { kind: IdentifierKind::File, value }];
    }
    if let Ok(page) = fs::read(node.disk().join("device/vpd_pg83")) {
        return vpd83::identifiers(&page);
    }
    of_namespace(node)
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
    found.collect()
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

    #[test]
    fn a_loop_device_is_its_file_and_has_its_cache() {
        let node = Node::at("/nonexistent".into());
        let (file, device) = (of_file(FILE), of_device(0x700, &node, Some(behind_loop(0))));
        assert_eq!(file.identifiers(), device.identifiers());
        assert_ne!(file.node(), device.node());
        assert_eq!(cache(&node, Some(behind_loop(0))), FILE.cache());
        assert_ne!(of_device(0x700, &node, Some(behind_loop(4096))).identifiers(), device.identifiers());
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
        let value = |node: &Node| of_device(0x800, node, None).identifiers()[0].value.clone();
        assert_eq!(value(&disk), "5001020304050607");
        assert_eq!(value(&first), "5001020304050607+1048576");
        assert_eq!(value(&second), "5001020304050607+2097152");
        assert_eq!(cache(&first, None), cache(&disk, None));
        assert_eq!(cache(&disk, None), Cache::Shared(CacheScope("naa.5001020304050607".into())));
    }

    #[test]
    fn nvme_identifiers_are_read_with_the_namespace_number() {
        let dir = TempDir::new();
        dir.write("nvme0n1/nsid", "7\n");
        dir.write("nvme0n1/uuid", "12345678-9ABC-def0-1234-56789abcdef0\n");
        dir.write("nvme0n1/nguid", "00000000-0000-0000-0000-000000000000\n");
        dir.write("nvme0n1/eui", "00 25 38 5b 71 00 12 34\n");
        let identity = of_device(0x1_0300, &Node::at(dir.path().join("nvme0n1")), None);
        let found: Vec<String> = identity.identifiers().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["uuid.123456789abcdef0123456789abcdef0:7", "eui.0025385b71001234:7"]);
    }

    #[test]
    fn a_cache_without_a_name_is_private_and_a_write_through_one_is_none() {
        let dir = TempDir::new();
        dir.write("vda/queue/write_cache", "write back\n");
        assert_eq!(cache(&Node::at(dir.path().join("vda")), None), Cache::Private);
        // It may be switched back at any moment, and to flush it costs nothing while it is not.
        dir.write("vda/queue/write_cache", "write through\n");
        assert_eq!(cache(&Node::at(dir.path().join("vda")), None), Cache::Private);
        assert_eq!(cache(&Node::at("/nonexistent".into()), None), Cache::Private);
    }
}
