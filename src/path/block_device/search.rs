//! Where a disk is found again that has come back under another name.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::claim;
use super::host::{self, HostDevice};
use super::identity::Subject;
use super::node::Node;
use crate::error::Error;
use crate::path::{Identifier, IdentifierKind, Identity, Kinship};

/// A disk that was there.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) identity: Identity,
    /// Where it hung.
    pub(super) place: Option<String>,
}

/// The node of the disk that was once found at `path`: still `path` itself, as long as nothing else is there; otherwise another
/// node of this host that leads to the same unit at the same place, and that this process has not opened, but for its `own`.
pub(super) fn find(path: &Path, known: Option<&Known>, own: Option<u64>) -> Result<PathBuf, Error> {
    let Some(known) = known.filter(|known| known.identity.identifiers().iter().any(is_of_a_disk)) else {
        return Ok(path.to_owned());
    };
    if let Ok(found) = fs::metadata(path) {
        let number = found.rdev();
        // The name of a disk that went may be given to another path's, which went as well and came back before.
        let is_it = || !known.is_elsewhere(number, &Node::of(number)) && !is_another_s(number, own);
        if !found.file_type().is_block_device() || is_it() {
            return Ok(path.to_owned());
        }
    }
    let devices = host::devices();
    let others = || devices.iter().filter(|device| known.leads_to(device, own));
    // Where the place is not known any way will do; otherwise one that nobody has named is left alone.
    if let Some(device) = others().find(|device| known.place.is_none() || device.node.place() == known.place)
    {
        Ok(device.path.clone())
    } else {
        let names: Vec<String> = known.identity.identifiers().iter().map(ToString::to_string).collect();
        let problem = format!("is gone, and no other block device at its place is {}", names.join(", "));
        Err(Error::unreachable(path.display().to_string(), problem))
    }
}

/// Whether the identifier is one that a disk keeps under whatever name. A loop device has its file's.
fn is_of_a_disk(identifier: &Identifier) -> bool {
    !matches!(identifier.kind, IdentifierKind::File | IdentifierKind::Custom)
}

impl Known {
    /// Whether what is at a node is another disk. One that tells nothing of itself may be it.
    fn is_elsewhere(&self, number: u64, node: &Node) -> bool {
        matches!(listed(number, node).kinship(&self.identity), Kinship::Different(..))
    }

    fn leads_to(&self, device: &HostDevice, own: Option<u64>) -> bool {
        listed(device.number, &device.node).kinship(&self.identity) == Kinship::Same
            && !is_another_s(device.number, own)
    }
}

/// The identity that sysfs shows of a node.
fn listed(number: u64, node: &Node) -> Identity {
    Subject { number, node, status: None, file: None }.identity()
}

/// Whether this process has the device open for something else.
fn is_another_s(number: u64, own: Option<u64>) -> bool {
    Some(number) != own && claim::is_device_open_here(number)
}
