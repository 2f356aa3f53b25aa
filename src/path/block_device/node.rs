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

    /// Whether it is a part of a disk.
    pub(super) fn is_partition(&self) -> bool {
        self.dir != self.disk
    }

    /// The number of the whole disk.
    pub(super) fn disk_number(&self) -> Option<u64> {
        parsed(&self.of_disk("dev")?)
    }

    /// The directory of the whole disk.
    pub(super) fn disk(&self) -> &Path {
        &self.disk
    }

    /// Where a partition begins on the disk, in bytes; 0 for a whole disk.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of the device, as sysfs has them.
    pub(super) fn len(&self) -> Option<u64> {
        self.own("size")?.parse().ok().map(|sectors: u64| sectors.saturating_mul(SECTOR))
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

    /// Where the disk hangs, without the numbers that the kernel gives anew each time: two disks of one place, one after the
    /// other, are the same way to the same port. An NVMe controller's address; for others their place in the tree of devices.
    pub(super) fn place(&self) -> Option<String> {
        if let Some(address) = self.of_disk("device/address") {
            // Where this host calls from may change.
            let lasting = address.split(',').filter(|part| !part.starts_with("src_addr="));
            return Some(format!("nvme {}", lasting.collect::<Vec<_>>().join(",")));
        }
        let mut way = Vec::new();
        let mut dir = PathBuf::new();
        for part in self.disk.iter().take_while(|&part| part != "block") {
            dir.push(part);
            way.extend(lasting(&dir, &part.to_string_lossy()));
        }
        (!way.is_empty()).then(|| way.join(" "))
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

/// What lasts of a part of a disk's place: parts that bear a number of the host adapter's, which is given anew each time, are
/// named by the port at the other end, or not at all.
fn lasting(dir: &Path, part: &str) -> Option<String> {
    let is_numbered = |prefix: &str| {
        part.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    let named = |class: &str, name: &str| read(&dir.join(class).join(part).join(name));
    let ends = [
        ("rport-", named("fc_remote_ports", "port_name")),
        ("session", named("iscsi_session", "targetname")),
        ("end_device-", named("sas_device", "sas_address")),
    ];
    if let Some((_, name)) = ends.into_iter().find(|(prefix, _)| is_numbered(prefix)) {
        return name;
    }
    if ["host", "target", "port-", "expander-", "connection"].into_iter().any(is_numbered) {
        return None;
    }
    let numbers: Vec<&str> = part.split(':').collect();
    match numbers[..] {
        // Host, channel, target, logical unit.
        [_, channel, target, unit] if numbers.iter().all(|number| number.parse::<u64>().is_ok()) => {
            Some(format!("{channel}:{target}:{unit}"))
        }
        _ => Some(part.to_owned()),
    }
}

/// A device number as the field writes it.
pub(super) fn number(device: u64) -> String {
    format!("{}:{}", libc::major(device), libc::minor(device))
}

/// The device number that the field writes so.
pub(super) fn parsed(number: &str) -> Option<u64> {
    let (major, minor) = number.split_once(':')?;
    Some(libc::makedev(major.parse().ok()?, minor.parse().ok()?))
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
    fn a_device_number_is_read_as_it_is_written() {
        for device in [libc::makedev(8, 0), libc::makedev(259, 70_000)] {
            assert_eq!(parsed(&number(device)), Some(device));
        }
        assert!(parsed("8").is_none() && parsed("8:x").is_none());
    }

    #[test]
    fn a_place_names_what_stays_when_a_disk_comes_back() {
        let dir = TempDir::new();
        let place = |disk: &str| Node::at(dir.path().join(disk)).place();
        let at = |host: u32| {
            format!("pci0000:00/0000:00:04.0/virtio1/host{host}/target{host}:0:0/{host}:0:0:5/block/sd{host}")
        };
        for host in [2, 3] {
            dir.write(&format!("{}/size", at(host)), "8");
        }
        assert_eq!(place(&at(2)), place(&at(3)));
        assert!(place(&at(2)).is_some_and(|place| place.ends_with("0000:00:04.0 virtio1 0:0:5")));
        dir.write("nvme0n1/device/address", "traddr=10.0.0.1,trsvcid=4420,src_addr=10.0.0.2");
        assert_eq!(place("nvme0n1").as_deref(), Some("nvme traddr=10.0.0.1,trsvcid=4420"));
        // The same remote port, by another number.
        for number in [1, 2] {
            let port = format!("host{number}/rport-{number}:0-{number}");
            dir.write(
                &format!("{port}/fc_remote_ports/rport-{number}:0-{number}/port_name"),
                "0x5006016841e0a1b2\n",
            );
            dir.write(&format!("{port}/target{number}:0:0/{number}:0:0:1/block/sdz{number}/size"), "8");
        }
        let [one, other] = [1, 2].map(|number| {
            place(&format!(
                "host{number}/rport-{number}:0-{number}/target{number}:0:0/{number}:0:0:1/block/sdz{number}"
            ))
        });
        assert!(one == other && one.is_some_and(|place| place.ends_with("0x5006016841e0a1b2 0:0:1")));
    }

    #[test]
    fn without_sysfs_every_attribute_is_missing() {
        let node = Node::at("/nonexistent".into());
        assert!(node.own("dev").is_none() && node.holders().is_empty());
    }
}
