//! What one request of the kernel may be, given the volume.

use crate::block::{BlockCount, Extent, Geometry, Lba, Limits, LiveGeometry};
use crate::error::Error;

use super::buffers::LARGE;
use super::protocol::{Attributes, Range, Terms};
use super::{sys, sysctl};

/// Pages in the largest request, unless an administrator allows for fewer (`fs.fuse.max_pages_limit`).
const PAGES: u16 = 256;
/// The page that FUSE's protocol counts in here.
const PAGE: u32 = 4096;
/// Pages that are left for data that begins and ends within pages.
const LOOSE_PAGES: u16 = 16;
/// Requests that the kernel has under way: 12 unless told. A loop device has up to 128, some of which are split.
const BACKGROUND: u16 = 256;

/// The volume as the file shows it.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    geometry: LiveGeometry,
    /// Most bytes in a read or write.
    transfer: u32,
    /// The same in pages.
    pages: u16,
    /// Most blocks in one write zeroes; zero if there is none.
    zeroes: u32,
    /// Whether blocks can be given back so that they read as zeroes: the kernel asks for nothing less.
    discards: bool,
}

impl Shape {
    /// # Errors
    /// If the kernel could not use such a file.
    pub(super) fn new(geometry: LiveGeometry, limits: Limits) -> Result<Self, Error> {
        let pages = sysctl::read("max_pages_limit").and_then(|pages| u16::try_from(pages).ok());
        Self::within(geometry, limits, pages.unwrap_or(PAGES).min(PAGES))
    }

    /// The same with at most `pages` pages in a request.
    fn within(geometry: LiveGeometry, limits: Limits, pages: u16) -> Result<Self, Error> {
        let (block_size, page) = (geometry.get().block_size(), sys::page_size());
        if block_size > page {
            let problem = format!(
                "{block_size} bytes are more than a page of {page}, and loop devices have no such blocks: \
                 use the volume through its queues"
            );
            return Err(Error::setting("block size", problem));
        }
        // A request is cut after so many bytes or so many pages. Memory need be aligned to 512 bytes alone: with larger
        // blocks the second cut could be within a block, and has to come later than the first.
        let whole = if block_size > 512 { pages.saturating_sub(LOOSE_PAGES) } else { pages };
        let transfer = LARGE.min(limits.transfer_bytes).min(u32::from(whole) * PAGE) / PAGE * PAGE;
        if transfer == 0 {
            let problem = format!(
                "{} bytes, in {pages} pages (fs.fuse.max_pages_limit), are less than the {PAGE} that FUSE needs",
                limits.transfer_bytes
            );
            return Err(Error::setting("transfer limit", problem));
        }
        let zeroes = limits.write_zeroes_blocks.get();
        Ok(Self {
            geometry,
            transfer,
            pages,
            zeroes,
            discards: zeroes > 0 && limits.discard_blocks.get() > 0,
        })
    }

    pub(super) fn geometry(&self) -> Geometry {
        self.geometry.get()
    }

    /// Most bytes in a read or write.
    pub(super) fn transfer(&self) -> u32 {
        self.transfer
    }

    /// Most blocks in one write zeroes.
    pub(super) fn zeroes(&self) -> u32 {
        self.zeroes
    }

    /// Whether blocks can be given back so that they read as zeroes.
    pub(super) fn discards(&self) -> bool {
        self.discards
    }

    /// What to tell the kernel at the beginning.
    pub(super) fn terms(&self) -> Terms {
        Terms { transfer: self.transfer, pages: self.pages, background: BACKGROUND }
    }

    /// What to tell the kernel of the file.
    pub(super) fn attributes(&self) -> Attributes {
        let geometry = self.geometry();
        Attributes { bytes: geometry.bytes(), block_size: geometry.block_size() }
    }

    /// The blocks of a read or write, `None` if it is not of whole blocks, empty, too large, or beyond the end.
    pub(super) fn extent(&self, range: Range) -> Option<Extent> {
        let block_size = self.geometry().block_size();
        if range.size > self.transfer || !range.size.is_multiple_of(block_size) {
            return None;
        }
        let start = self.blocks(range.offset)?;
        let extent = Extent::new(Lba::new(start), BlockCount::new(range.size / block_size)).ok()?;
        self.geometry().contains(extent).then_some(extent)
    }

    /// First block and the one after the last, `None` as for [`extent`](Self::extent); of any length.
    pub(super) fn run(&self, offset: u64, length: u64) -> Option<(u64, u64)> {
        let (start, end) = (self.blocks(offset)?, self.blocks(offset.checked_add(length)?)?);
        (start < end && end <= self.geometry().capacity()).then_some((start, end))
    }

    fn blocks(&self, bytes: u64) -> Option<u64> {
        let block_size = u64::from(self.geometry().block_size());
        bytes.is_multiple_of(block_size).then_some(bytes / block_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(block_size: u32, transfer: u32, pages: u16) -> Result<Shape, Error> {
        Shape::within(
            LiveGeometry::new(Geometry::new(block_size, 1000).unwrap()),
            Limits::new(transfer),
            pages,
        )
    }

    #[test]
    fn a_request_is_never_cut_within_a_block() {
        for (block_size, transfer, pages, expected) in [
            (512, u32::MAX, 256, 1 << 20),
            (512, 1 << 20, 64, 64 << 12),
            (512, 70_000, 256, 17 << 12),
            // The pages that are left over are for data that begins within a page.
            (4096, u32::MAX, 256, 240 << 12),
            (1024, 1 << 20, 64, 48 << 12),
        ] {
            let found = shape(block_size, transfer, pages).unwrap().transfer();
            assert_eq!(found, expected, "{block_size} {transfer} {pages}");
        }
        for (block_size, transfer, pages) in [(512, 4095, 256), (4096, 1 << 20, 16), (65_536, 1 << 20, 256)] {
            assert!(shape(block_size, transfer, pages).is_err(), "{block_size} {transfer} {pages}");
        }
    }

    #[test]
    fn what_is_not_of_whole_blocks_or_not_on_the_volume_has_no_extent() {
        let shape = shape(512, 8192, 256).unwrap();
        let extent = |offset, size| shape.extent(Range { offset, size }).map(|extent| extent.to_string());
        assert_eq!(extent(512, 8192), Some("1+16".to_owned()));
        assert_eq!(extent(999 * 512, 512), Some("999+1".to_owned()));
        for (offset, size) in
            [(1, 512), (0, 511), (0, 0), (0, 8704), (999 * 512, 1024), (u64::MAX - 511, 512), (u64::MAX, 512)]
        {
            assert_eq!(extent(offset, size), None, "{offset} {size}");
        }
        assert_eq!(shape.run(0, 1000 * 512), Some((0, 1000)));
        for (offset, length) in [(0, 0), (0, 1001 * 512), (256, 512), (u64::MAX - 511, 1024)] {
            assert_eq!(shape.run(offset, length), None, "{offset} {length}");
        }
    }
}
