//! One open device or file, and what was found there.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use super::claim::{self, Claimed};
use super::fault::{Backing, Nature};
use super::identity::Inode;
use super::node::Node;
use super::options::Options;
use super::sys::{self, LoopStatus};
use super::transport;
use crate::buffer::Pool;
use crate::error::Error;

/// An open device or file. The claim on it lives as long as this, and as long as any I/O on it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) file: Arc<File>,
    pub(super) nature: Nature,
    pub(super) place: Place,
    /// Bytes in a logical block.
    pub(super) block_size: u32,
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
    /// Opens and claims what `path` names, and reads its first block.
    pub(super) fn open(path: &Path, options: &Options) -> Result<Self, Error> {
        let Claimed { file, backing } = claim::claim(path, options.claim_timeout)?;
        let attempted = || format!("looking at {}", path.display());
        let place = Place::of(&file, backing).map_err(|source| Error::os(attempted(), source))?;
        let link = match &place {
            Place::Device { node, status, .. } => transport::device_link(node, *status),
            Place::Regular(_) => transport::file_link(&file),
        };
        let block_size = block_size(path, &file, backing, options)?;
        let nature = Nature { backing, link };
        Ok(Self { file: Arc::new(file), nature, place, block_size })
    }

    /// Size in bytes.
    pub(super) fn size(&self) -> io::Result<u64> {
        match self.nature.backing {
            Backing::Device => sys::device_size(&self.file),
            Backing::Regular => Ok(self.file.metadata()?.len()),
        }
    }

    /// Number of whole blocks.
    pub(super) fn capacity(&self) -> io::Result<u64> {
        Ok(self.size()? / u64::from(self.block_size))
    }

    /// Reads the first block, past every cache where the file system allows it.
    pub(super) fn read_first_block(&self) -> io::Result<()> {
        read_block(&self.file, self.block_size)
    }

    /// Looks whether `path` still leads here, and whether the device answers.
    pub(super) fn standing(&self, path: &Path) -> Standing {
        let is_here = fs::metadata(path).is_ok_and(|found| self.place.is(&found));
        if !is_here || self.place.is_gone() {
            return Standing::Gone;
        }
        match self.read_first_block() {
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

    fn is(&self, found: &fs::Metadata) -> bool {
        match self {
            Self::Device { number, .. } => found.rdev() == *number,
            Self::Regular(inode) => *inode == Inode { device: found.dev(), inode: found.ino() },
        }
    }

    /// Whether the kernel no longer has the device, or another has taken its number.
    fn is_gone(&self) -> bool {
        match self {
            Self::Device { node, sequence: Some(sequence), .. } => {
                node.sequence().is_none_or(|now| now != *sequence)
            }
            Self::Device { .. } | Self::Regular(_) => false,
        }
    }

    /// Whether [`is_gone`](Self::is_gone) can tell.
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
fn block_size(path: &Path, file: &File, backing: Backing, options: &Options) -> Result<u32, Error> {
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
    let size = match backing {
        Backing::Device => sys::device_size(file),
        Backing::Regular => file.metadata().map(|found| found.len()),
    };
    size.is_ok_and(|bytes| bytes == 0)
}
