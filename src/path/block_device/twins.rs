//! Other names that this host has for a unit: a claim on one of them keeps nobody from the others.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use super::claim::{self, Claimed};
use super::fault::Backing;
use super::host::{self, HostDevice};
use super::identity::{self, Inode, Subject};
use super::node::{self, Node};
use super::sys;
use crate::path::{Identifier, IdentifierKind};

/// Who uses the unit by another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Somebody whom waiting will not see off, in words.
    Lasting(String),
    /// Somebody whose claim may end, in words.
    Claimed(String),
}

/// A run of bytes on a unit that has these identifiers.
struct Portion {
    identifiers: Vec<Identifier>,
    start: u64,
    /// Bytes; `u64::MAX` if it is not known.
    len: u64,
}

impl Portion {
    fn overlaps(&self, other: &Self) -> bool {
        self.identifiers.iter().any(|identifier| other.identifiers.contains(identifier))
            && self.start < other.start.saturating_add(other.len)
            && other.start < self.start.saturating_add(self.len)
    }
}

/// Who else uses, by another name, the unit that was claimed. What this process itself has open does not count: it may be another
/// path of the same volume.
pub(super) fn in_use(claimed: &Claimed) -> Option<Use> {
    let found = claimed.file.metadata().ok()?;
    let own = of_claim(claimed)?;
    let itself = Node::of(found.rdev());
    let is_file = own.identifiers.iter().any(|identifier| identifier.kind == IdentifierKind::File);
    let is_twin = |device: &HostDevice| {
        // A disk and its own partitions exclude each other already.
        let is_itself = claimed.backing == Backing::Device && device.node.disk() == itself.disk();
        // To look at a file can take long, where it is on a server that is silent.
        let is_loop = device.node.of_disk("loop/backing_file").is_some();
        !is_itself && is_loop == is_file && of_host(device).overlaps(&own)
    };
    host::devices().iter().filter(|device| is_twin(device)).find_map(user)
}

fn user(twin: &HostDevice) -> Option<Use> {
    let name = twin.path.display();
    if let Some(user) = claim::mount_or_swap(twin.number, &[node::number(twin.number)]) {
        return Some(Use::Lasting(format!("is the same unit as {name}, which {user}")));
    }
    if claim::is_multipathds(twin.number) {
        let remedy = "blacklist it in multipath.conf to have it here";
        return Some(Use::Lasting(format!("is the same unit as {name}, which is multipathd's ({remedy})")));
    }
    if is_ours(twin) {
        return None;
    }
    let claimed =
        |by: &str| Some(Use::Claimed(format!("is the same unit as {name}, which is claimed by {by}")));
    let holders = twin.node.holders();
    if !holders.is_empty() {
        return claimed(&holders.join(", "));
    }
    // To open a disk that the kernel is trying to bring back waits for that.
    if twin.node.of_disk("device/state").is_some_and(|state| state != "running" && state != "live") {
        return None;
    }
    let tried = OpenOptions::new().read(true).custom_flags(libc::O_EXCL | libc::O_NONBLOCK).open(&twin.path);
    match tried {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => claimed("another user"),
        _ => None,
    }
}

/// Whether this process has it, its disk or one of its partitions open.
fn is_ours(twin: &HostDevice) -> bool {
    let disk = twin.node.disk_number();
    let parts = twin.node.numbers();
    let mut numbers = parts.iter().filter_map(|number| node::parsed(number)).chain(disk).chain([twin.number]);
    numbers.any(claim::is_device_open_here)
}

fn of_claim(claimed: &Claimed) -> Option<Portion> {
    let found = claimed.file.metadata().ok()?;
    Some(match claimed.backing {
        Backing::Regular => {
            let inode = Inode { device: found.dev(), inode: found.ino() };
            Portion { identifiers: identity::of_file(inode).identifiers().to_vec(), start: 0, len: u64::MAX }
        }
        Backing::Device => {
            let node = Node::of(found.rdev());
            let status = sys::loop_status(&claimed.file);
            portion(&Subject { number: found.rdev(), node: &node, status, file: Some(&claimed.file) })
        }
    })
}

fn of_host(device: &HostDevice) -> Portion {
    let HostDevice { number, node, .. } = device;
    portion(&Subject { number: *number, node, status: identity::listed_status(node), file: None::<&File> })
}

fn portion(subject: &Subject<'_>) -> Portion {
    let start = subject.node.offset() + subject.status.map_or(0, |status| status.offset);
    Portion { identifiers: subject.of_disk(), start, len: subject.node.len().unwrap_or(u64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portion(unit: &str, start: u64, len: u64) -> Portion {
        let identifier = Identifier { kind: IdentifierKind::ScsiNaa, value: unit.to_owned() };
        Portion { identifiers: vec![identifier], start, len }
    }

    #[test]
    fn a_disk_meets_its_partitions_under_another_name_and_those_meet_only_themselves() {
        let (disk, first, second) = (portion("a", 0, 100), portion("a", 10, 20), portion("a", 30, 70));
        assert!(disk.overlaps(&first) && second.overlaps(&disk) && first.overlaps(&portion("a", 10, 20)));
        assert!(!first.overlaps(&second) && !disk.overlaps(&portion("b", 0, 100)));
        assert!(portion("a", 0, u64::MAX).overlaps(&second));
    }
}
