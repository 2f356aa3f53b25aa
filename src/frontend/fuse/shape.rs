//! What one request of the kernel may be, given the volume.

use crate::block::{BlockCount, Extent, Geometry, Lba, Limits};
use crate::error::Error;

use super::buffers::LARGE;
use super::protocol::{Attributes, Range, Terms};
use super::sys;

/// Pages in the largest request, `fs.fuse.max_pages_limit` unless an administrator changed it.
const PAGES: u16 = 256;
/// The page that FUSE's protocol counts in here.
const PAGE: u32 = 4096;
/// Pages that are left for data that begins and ends within pages.
const LOOSE_PAGES: u32 = 16;
/// Requests that the kernel has under way: 12 unless told. A loop device has up to 128, some of which are split.
const BACKGROUND: u16 = 256;

/// The volume as the file shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    geometry: Geometry,
    /// Most bytes in a read or write.
    transfer: u32,
    /// Most blocks in one write zeroes; zero if there is none.
    zeroes: u32,
}

impl Shape {
    /// # Errors
    /// If the kernel could not use such a file.
    pub(super) fn new(geometry: Geometry, limits: Limits) -> Result<Self, Error> {
        let (block_size, page) = (geometry.block_size(), sys::page_size());
        if block_size > page {
            let problem = format!(
                "{block_size} bytes are more than a page of {page}, and loop devices have no such blocks: \
                 use the volume through its queues"
            );
            return Err(Error::setting("block size", problem));
        }
        let transfer = LARGE.min(limits.transfer_bytes) / PAGE * PAGE;
        if transfer == 0 {
            let problem = format!("{} bytes are less than the {PAGE} that FUSE needs", limits.transfer_bytes);
            return Err(Error::setting("transfer limit", problem));
        }
        // A request is cut after so many bytes or so many pages. Memory need be aligned to 512 bytes alone: with larger
        // blocks the second cut could be within a block.
        let most = if block_size > 512 { (u32::from(PAGES) - LOOSE_PAGES) * PAGE } else { LARGE };
        let zeroes = limits.write_zeroes_blocks.get();
        Ok(Self { geometry, transfer: transfer.min(most), zeroes })
    }

    pub(super) fn geometry(self) -> Geometry {
        self.geometry
    }

    /// Most bytes in a read or write.
    pub(super) fn transfer(self) -> u32 {
        self.transfer
    }

    /// Most blocks in one write zeroes.
    pub(super) fn zeroes(self) -> u32 {
        self.zeroes
    }

    /// What to tell the kernel at the beginning.
    pub(super) fn terms(self) -> Terms {
        Terms { transfer: self.transfer, pages: PAGES, background: BACKGROUND }
    }

    /// What to tell the kernel of the file.
    pub(super) fn attributes(self) -> Attributes {
        Attributes { bytes: self.geometry.bytes(), block_size: self.geometry.block_size() }
    }

    /// The blocks of a read or write, `None` if it is not of whole blocks, empty, too large, or beyond the end.
    pub(super) fn extent(self, range: Range) -> Option<Extent> {
        let block_size = self.geometry.block_size();
        if range.size > self.transfer || !range.size.is_multiple_of(block_size) {
            return None;
        }
        let start = self.blocks(range.offset)?;
        let extent = Extent::new(Lba::new(start), BlockCount::new(range.size / block_size)).ok()?;
        self.geometry.contains(extent).then_some(extent)
    }

    /// First block and the one after the last, `None` as for [`extent`](Self::extent); of any length.
    pub(super) fn run(self, offset: u64, length: u64) -> Option<(u64, u64)> {
        let (start, end) = (self.blocks(offset)?, self.blocks(offset.checked_add(length)?)?);
        (start < end && end <= self.geometry.capacity()).then_some((start, end))
    }

    fn blocks(self, bytes: u64) -> Option<u64> {
        let block_size = u64::from(self.geometry.block_size());
        bytes.is_multiple_of(block_size).then_some(bytes / block_size)
    }
}
