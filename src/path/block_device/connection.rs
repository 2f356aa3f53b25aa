//! One open device or file, and what was found there.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::access;
use super::claim::{self, Claimed};
use super::fault::{Backing, Nature};
use super::identity::Inode;
use super::node::Node;
use super::options::Options;
use super::scsi;
use super::sys::{self, Bytes, LoopStatus};
use super::transport::{self, Quiet};
use crate::buffer::Pool;
use crate::error::Error;
use crate::path::AccessState;

/// An open device or file. The claim on it lives as long as this, and as long as any I/O on it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) file: Arc<File>,
    pub(super) nature: Nature,
    pub(super) place: Place,
    /// Bytes in a logical block.
    pub(super) block_size: u32,
    /// Bytes that it had when it was opened.
    known_size: u64,
    /// Whether the array may refuse I/O for an access state.
    pub(super) has_access_states: bool,
    /// The age up to which a write that was refused cannot have been sent before.
    pub(super) refused_at_once: Duration,
}

/// What was opened, by the names that the kernel has for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Device {
        number: u64,
        node: Node,
        /// Of a loop device.
        status: Option<LoopStatus>,
        sequence: Option<String>,
    },
    Regular(Inode),
}

/// Whether an open device is still what its name leads to.
#[derive(Debug)]
pub(super) enum Standing {
    /// It is, and it answers.
    Good,
    /// It is, but it does not answer.
    Failing(io::Error),
    /// It is not: open it again.
    Gone,
}

impl Connection {
    /// Opens and claims what `path` names, and reads its first block if its access state allows that.
    pub(super) fn open(path: &Path, options: &Options) -> Result<Self, Error> {
        let Claimed { file, backing } = claim::claim(path, options.claim_timeout)?;
        let attempted = || format!("looking at {}", path.display());
        let place = Place::of(&file, backing).map_err(|source| Error::os(attempted(), source))?;
        place.make_direct(&file);
        let link = match &place {
            Place::Device { node, status, .. } => transport::device_link(node, *status),
            Place::Regular(_) => transport::file_link(&file),
        };
        let block_size = block_size(path, &file, &place, options)?;
        let nature = Nature { backing, link };
        let known_size = size(&file, backing).map_err(|source| Error::os(attempted(), source))?;
        let (has_access_states, refused_at_once) = match &place {
            Place::Device { node, .. } => {
                (access::has_states(node, &file), access::refused_at_once(node, nature.link))
            }
            Place::Regular(_) => (false, Duration::ZERO),
        };
        let file = Arc::new(file);
        Ok(Self { file, nature, place, block_size, known_size, has_access_states, refused_at_once })
    }

    /// Size in bytes.
    pub(super) fn size(&self) -> io::Result<u64> {
        size(&self.file, self.nature.backing)
    }

    /// Number of whole blocks.
    pub(super) fn capacity(&self) -> io::Result<u64> {
        Ok(self.size()? / u64::from(self.block_size))
    }

    /// Whether the device has lost some of these bytes: all of them if it was removed.
    pub(super) fn lacks(&self, bytes: Bytes) -> bool {
        let end = bytes.offset.saturating_add(bytes.len).min(self.known_size);
        self.nature.backing == Backing::Device && self.size().map_or(true, |size| size < end)
    }

    /// Reads the first block, past every cache where the file system allows it.
    pub(super) fn read_first_block(&self) -> io::Result<()> {
        read_block(&self.file, self.block_size)
    }

    /// How the array says that I/O may go this way.
    pub(super) fn access(&self) -> AccessState {
        self.place.access(&self.file)
    }

    /// The access state for which the array, when it is asked now, takes nothing over a way that works.
    pub(super) fn refusal_now(&self) -> Option<AccessState> {
        match &self.place {
            Place::Device { node, .. } => access::refused(node, self.access()),
            Place::Regular(_) => None,
        }
    }

    /// Whether the device answers: to a read, or, where its access state forbids that, to the question whether it is ready.
    pub(super) fn test(&self, access: AccessState) -> io::Result<()> {
        match &self.place {
            Place::Device { node, .. } if !access.is_active() => match node.of_disk("device/scsi_level") {
                Some(_) => scsi::test_unit_ready(&self.file),
                // NVMe has no such question.
                None => Ok(()),
            },
            _ => self.read_first_block(),
        }
    }

    /// How long after the kernel has given a command up it may still take effect, behind a fabric.
    pub(super) fn quiet(&self) -> Quiet {
        let node = match &self.place {
            Place::Device { node, .. } => node.clone(),
            Place::Regular(inode) => Node::of(inode.device),
        };
        transport::quiet(&node, &self.file)
    }

    /// The number of a block device.
    pub(super) fn number(&self) -> Option<u64> {
        match &self.place {
            Place::Device { number, .. } => Some(*number),
            Place::Regular(_) => None,
        }
    }

    /// Where a disk hangs.
    pub(super) fn hangs_at(&self) -> Option<String> {
        match &self.place {
            Place::Device { node, .. } => node.place(),
            Place::Regular(_) => None,
        }
    }

    /// Whether what is open is not what was opened: it was removed, or leads elsewhere.
    pub(super) fn has_changed(&self) -> bool {
        Place::of(&self.file, self.nature.backing).map_or(true, |now| now != self.place)
    }

    /// Looks whether `path` still leads here, and whether the device answers.
    pub(super) fn standing(&self, path: &Path) -> Standing {
        let is_here = fs::metadata(path).is_ok_and(|found| self.place.is(&found));
        if !is_here || self.has_changed() {
            return Standing::Gone;
        }
        match self.test(self.access()) {
            Ok(()) => Standing::Good,
            // The answer of a device that works.
            Err(error) if error.raw_os_error().is_some_and(super::fault::is_of_the_device) => Standing::Good,
            Err(error) if is_dead(&error) && !self.place.has_sequence() => Standing::Gone,
            Err(error) => Standing::Failing(error),
        }
    }
}

impl Place {
    fn of(file: &File, backing: Backing) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(match backing {
            Backing::Regular => Self::Regular(Inode { device: found.dev(), inode: found.ino() }),
            Backing::Device => {
                let node = Node::of(found.rdev());
                let sequence = node.sequence();
                Self::Device { number: found.rdev(), node, status: sys::loop_status(file), sequence }
            }
        })
    }

    const fn backing(&self) -> Backing {
        match self {
            Self::Device { .. } => Backing::Device,
            Self::Regular(_) => Backing::Regular,
        }
    }

    fn is(&self, found: &fs::Metadata) -> bool {
        match self {
            Self::Device { number, .. } => found.rdev() == *number,
            Self::Regular(inode) => *inode == Inode { device: found.dev(), inode: found.ino() },
        }
    }

    /// How the array says that I/O may go this way.
    fn access(&self, file: &File) -> AccessState {
        match self {
            Self::Device { node, .. } => access::now(node, file),
            Self::Regular(_) => AccessState::Optimized,
        }
    }

    /// The access state for which the kernel sends nothing at present, to a device that it can reach.
    pub(super) fn refusal(&self) -> Option<AccessState> {
        match self {
            Self::Device { node, .. } => access::refusal(node),
            Self::Regular(_) => None,
        }
    }

    /// Has a loop device do direct I/O, if it can: one that does not, beside one that does, serves what the other has overwritten
    /// from its page cache. Where the file system has no direct I/O none of them has.
    fn make_direct(&self, file: &File) {
        if let Self::Device { node, status: Some(_), .. } = self
            && node.of_disk("loop/dio").is_some_and(|on| on == "0")
        {
            let _ = sys::make_direct(file);
        }
    }

    /// Whether the kernel tells a device that is gone from the next one with its number.
    fn has_sequence(&self) -> bool {
        matches!(self, Self::Device { sequence: Some(_), .. })
    }
}

/// Whether the error says that there is no device any more.
pub(super) fn is_dead(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENODEV))
}

fn read_block(file: &File, block_size: u32) -> io::Result<()> {
    let pool = Pool::with_reserve(block_size, 1, 0).map_err(io::Error::from)?;
    let Some(mut memory) = pool.take(block_size) else { return Err(libc_error(libc::ENOMEM)) };
    match file.read_at(&mut memory, 0)? {
        0 => Err(libc_error(libc::ENXIO)),
        _ => Ok(()),
    }
}

fn libc_error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// The block size: a device's own; of a file what was asked for, or else the least that direct I/O takes.
fn block_size(path: &Path, file: &File, place: &Place, options: &Options) -> Result<u32, Error> {
    let backing = place.backing();
    let attempted = |size| format!("reading the first block of {size} bytes from {}", path.display());
    let refusal = |problem: String| Err(Error::path(path.display().to_string(), problem));
    if file_is_empty(file, backing) {
        return refusal("has no bytes; give it a size first".to_owned());
    }
    let candidates = match (backing, options.block_size) {
        (Backing::Device, asked) => {
            let source = |source| Error::os(format!("asking {} for its block size", path.display()), source);
            let own = sys::logical_block_size(file).map_err(source)?;
            if asked.is_some_and(|asked| asked != own) {
                return refusal(format!("has blocks of {own} bytes; leave the block size of a device to it"));
            }
            if !place.access(file).is_active() {
                // It takes no I/O to try it with.
                return Ok(own);
            }
            vec![own]
        }
        (Backing::Regular, Some(asked)) => vec![asked],
        (Backing::Regular, None) => match sys::direct_alignment(file) {
            Some(alignment) => vec![alignment.offset.max(512)],
            None => vec![512, 4096],
        },
    };
    let mut last = 0;
    for size in candidates {
        last = size;
        match read_block(file, size) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(source) => return Err(Error::os(attempted(size), source)),
            Ok(()) => return Ok(size),
        }
    }
    refusal(format!("takes no direct I/O in blocks of {last} bytes; set a larger block size, such as 4096"))
}

fn file_is_empty(file: &File, backing: Backing) -> bool {
    size(file, backing).is_ok_and(|bytes| bytes == 0)
}

/// Bytes of a device or file.
fn size(file: &File, backing: Backing) -> io::Result<u64> {
    match backing {
        Backing::Device => sys::device_size(file),
        Backing::Regular => Ok(file.metadata()?.len()),
    }
}
