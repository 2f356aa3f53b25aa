//! The part of the device that is used.

use std::ops::Range;

/// Zeroes are written within strips of this many blocks, every second one: where the state of a killed run is all that
/// is left, zeroes elsewhere are known to be lost data.
const STRIP: u64 = 16;

/// Most blocks: the model of a block takes some 400 bytes of memory.
pub(crate) const MOST_BLOCKS: u64 = 1 << 22;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Portion {
    /// Its first byte.
    pub(crate) offset: u64,
    /// In bytes: what is written or not, as a whole.
    pub(crate) block_size: u32,
    pub(crate) blocks: u64,
}

impl Portion {
    /// The byte at which `block` begins.
    pub(crate) fn at(&self, block: u64) -> u64 {
        self.offset + block * u64::from(self.block_size)
    }

    /// The byte after its last.
    pub(crate) fn end(&self) -> u64 {
        self.at(self.blocks)
    }

    /// Bytes of so many blocks.
    pub(crate) fn bytes(&self, extent: &Range<u64>) -> u64 {
        (extent.end - extent.start) * u64::from(self.block_size)
    }

    /// The extents of at most `most` blocks that make it up.
    pub(crate) fn pieces(&self, most: u64) -> impl Iterator<Item = Range<u64>> {
        let blocks = self.blocks;
        (0..blocks.div_ceil(most)).map(move |piece| piece * most..blocks.min((piece + 1) * most))
    }

    /// Whether zeroes may be written to `block`.
    pub(crate) fn is_zeroable(block: u64) -> bool {
        block / STRIP % 2 == 1
    }

    /// The part of `extent`, from its beginning, to which zeroes may be written; empty if there is none.
    pub(crate) fn zeroable(extent: &Range<u64>) -> Range<u64> {
        let strip_ends = (extent.start / STRIP + 1) * STRIP;
        let end = if Self::is_zeroable(extent.start) { extent.end.min(strip_ends) } else { extent.start };
        extent.start..end
    }
}
