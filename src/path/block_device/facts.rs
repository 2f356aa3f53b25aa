//! What a block device path says of itself, read from the device.

use std::path::Path;

use super::access;
use super::connection::{Connection, Place};
use super::fault::Link;
use super::identity::{self, Subject};
use super::options::Options;
use super::sys::{self, Bytes};
use super::transport::{self, Quiet};
use crate::block::{BlockCount, Geometry, Limits};
use crate::error::Error;
use crate::path::{Description, FenceSupport};

/// Most bytes in one read or write: larger ones gain nothing, and hold a device's queue for long.
const MOST_TRANSFER: u64 = 1 << 20;

/// Most bytes in one discard or write zeroes. The kernel cuts larger ones to the device's own measure, and each holds
/// the path's helper thread until it is done.
const MOST_CLEARED: u64 = 1 << 30;

/// Everything that a volume wants to know of the path.
pub(super) fn describe(
    path: &Path,
    connection: &Connection,
    options: &Options,
) -> Result<Description, Error> {
    let source = |source| Error::os(format!("asking {} for its size", path.display()), source);
    let geometry = Geometry::new(connection.block_size, connection.capacity().map_err(source)?)?;
    let limits = limits(connection);
    let mut description = match &connection.place {
        Place::Device { number, node, status, .. } => {
            let file = Some(&*connection.file);
            let subject = Subject { number: *number, node, status: *status, file };
            let zoned = node.of_disk("queue/zoned").is_some_and(|model| model == "host-managed");
            if zoned {
                let problem =
                    "has zones that must be written in order, which volumes do not do; name another device";
                return Err(Error::path(path.display().to_string(), problem));
            }
            let mut description = Description::new(subject.identity(), geometry, limits);
            description.cache = subject.cache();
            description.access = connection.access();
            description.preferred = access::is_preferred(node);
            description.transport = transport::name(node);
            description
        }
        Place::Regular(inode) => {
            let mut description = Description::new(identity::of_file(*inode), geometry, limits);
            description.cache = inode.cache();
            "file".clone_into(&mut description.transport);
            description
        }
    };
    description.place = connection.hangs_at();
    description.depth = depth(options.depth, connection.place.requests());
    (description.fence, description.fence_derivation) = fence(connection, options);
    Ok(description)
}

/// How earlier writes are fenced, and how that is known.
fn fence(connection: &Connection, options: &Options) -> (FenceSupport, String) {
    let local = "nothing lies between the kernel and the device that could deliver a command later";
    match (options.fence, connection.nature.link) {
        (Some(support), _) => (support, "as it was set".to_owned()),
        (None, Link::Local) => (FenceSupport::Answered, local.to_owned()),
        (None, Link::Fabric) => {
            let Quiet { time, derivation } = connection.quiet();
            (FenceSupport::Assumed(time), derivation)
        }
    }
}

impl Place {
    /// Requests that the kernel allocates for one queue of the device.
    fn requests(&self) -> Option<u64> {
        match self {
            Self::Device { node, .. } => node.queue("nr_requests"),
            Self::Regular(_) => None,
        }
    }
}

/// Stays below the kernel's own queue, so that it never makes a submitter wait: an eighth is left to others.
fn depth(wanted: u32, requests: Option<u64>) -> u32 {
    let room = requests.map_or(u64::MAX, |requests| requests - requests.div_ceil(8).min(requests));
    u32::try_from(room).unwrap_or(u32::MAX).min(wanted).max(1)
}

fn limits(connection: &Connection) -> Limits {
    let block_size = connection.block_size;
    let cleared = BlockCount::new(u32::try_from(MOST_CLEARED / u64::from(block_size)).unwrap_or(u32::MAX));
    let limits = Limits::new(transfer(connection.place.most_sectors_kib(), block_size))
        .with_memory_alignment(memory_alignment(connection))
        .with_write_zeroes(cleared);
    if can_discard(connection) { limits.with_discard(cleared) } else { limits }
}

impl Place {
    /// What the kernel hands to the driver in one piece.
    fn most_sectors_kib(&self) -> Option<u64> {
        match self {
            Self::Device { node, .. } => node.queue("max_sectors_kb"),
            Self::Regular(_) => None,
        }
    }
}

/// One request's worth, in whole blocks.
fn transfer(most_kib: Option<u64>, block_size: u32) -> u32 {
    let bytes = most_kib.map_or(MOST_TRANSFER, |kib| kib.saturating_mul(1024).min(MOST_TRANSFER));
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    (bytes - bytes % block_size).max(block_size)
}

fn memory_alignment(connection: &Connection) -> u32 {
    let mask = match &connection.place {
        Place::Device { node, .. } => node.queue("dma_alignment"),
        Place::Regular(_) => {
            sys::direct_alignment(&connection.file).map(|alignment| u64::from(alignment.memory.max(1)) - 1)
        }
    };
    u32::try_from(mask.unwrap_or(511).saturating_add(1)).unwrap_or(u32::MAX)
}

/// Whether blocks can be given back: a device says so; a file system is asked to punch a hole where the file has ended.
fn can_discard(connection: &Connection) -> bool {
    match &connection.place {
        Place::Device { node, .. } => node.queue("discard_max_bytes").is_some_and(|bytes| bytes > 0),
        Place::Regular(_) => connection.size().is_ok_and(|size| {
            let block = u64::from(connection.block_size);
            let beyond = Bytes { offset: size.next_multiple_of(block), len: block };
            sys::allocate(&connection.file, libc::FALLOC_FL_PUNCH_HOLE, beyond).is_ok()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_stays_below_the_kernel_s_queue() {
        assert_eq!(depth(128, Some(128)), 112);
        assert_eq!(depth(128, Some(1023)), 128);
        assert_eq!(depth(1000, Some(256)), 224);
        assert_eq!(depth(128, Some(1)), 1);
        assert_eq!(depth(128, Some(0)), 1);
        assert_eq!(depth(128, None), 128);
    }

    #[test]
    fn a_transfer_is_a_whole_number_of_blocks() {
        assert_eq!(transfer(Some(1280), 512), 1 << 20);
        assert_eq!(transfer(Some(127), 4096), 124 * 1024);
        assert_eq!(transfer(Some(4), 65_536), 65_536);
        assert_eq!(transfer(None, 512), 1 << 20);
    }
}
