//! Where on a volume: logical block addresses, extents, geometry and limits.

use std::fmt;

use crate::error::Error;
use crate::sync::{Arc, AtomicU64, Ordering};

/// A logical block address: the number of a block, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lba(u64);

impl Lba {
    /// The address of block `number`.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The block's number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Lba {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number of logical blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockCount(u32);

impl BlockCount {
    /// `count` blocks.
    pub const fn new(count: u32) -> Self {
        Self(count)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for BlockCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A run of blocks: at least one, and its end is representable.
///
/// ```
/// use mpio::{BlockCount, Extent, Lba};
///
/// let extent = Extent::new(Lba::new(8), BlockCount::new(4))?;
/// assert_eq!(extent.end(), Lba::new(12));
/// assert!(Extent::new(Lba::new(8), BlockCount::new(0)).is_err());
/// # Ok::<(), mpio::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    start: Lba,
    blocks: BlockCount,
}

impl Extent {
    /// What a flush has: no blocks. The one extent that is empty.
    pub const NONE: Self = Self { start: Lba(0), blocks: BlockCount(0) };

    /// `blocks` blocks from `start` on.
    ///
    /// # Errors
    /// [`Error::InvalidExtent`] if there are no blocks or the end is past the last representable address.
    pub const fn new(start: Lba, blocks: BlockCount) -> Result<Self, Error> {
        if blocks.0 == 0 || start.0.checked_add(blocks.0 as u64).is_none() {
            return Err(Error::InvalidExtent { start, blocks });
        }
        Ok(Self { start, blocks })
    }

    /// The first block.
    pub const fn start(self) -> Lba {
        self.start
    }

    /// How many blocks.
    pub const fn blocks(self) -> BlockCount {
        self.blocks
    }

    /// The address after the last block.
    pub const fn end(self) -> Lba {
        Lba(self.start.0 + self.blocks.0 as u64)
    }

    /// Whether the two share a block.
    pub const fn overlaps(self, other: Self) -> bool {
        self.start.0 < other.end().0 && other.start.0 < self.end().0
    }

    /// What is left after the first `blocks` blocks, `None` if nothing is.
    #[must_use]
    pub const fn skip(self, blocks: BlockCount) -> Option<Self> {
        if blocks.0 >= self.blocks.0 {
            return None;
        }
        Some(Self {
            start: Lba(self.start.0 + blocks.0 as u64),
            blocks: BlockCount(self.blocks.0 - blocks.0),
        })
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.start, self.blocks)
    }
}

impl fmt::Debug for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extent({self})")
    }
}

/// Block size and capacity of a volume or of one path's view of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    block_size: u32,
    capacity: u64,
}

impl Geometry {
    /// The smallest and the largest logical block that is accepted, in bytes.
    pub const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 512..=65_536;

    /// Blocks of `block_size` bytes, `capacity` of them.
    ///
    /// # Errors
    /// [`Error::InvalidGeometry`] if the block size is not a power of two within
    /// [`BLOCK_SIZES`](Self::BLOCK_SIZES), the capacity is zero, or the size in bytes is not representable
    /// as a file offset (`i64`).
    pub const fn new(block_size: u32, capacity: u64) -> Result<Self, Error> {
        let sized = block_size.is_power_of_two()
            && block_size >= *Self::BLOCK_SIZES.start()
            && block_size <= *Self::BLOCK_SIZES.end();
        let bytes = capacity.checked_mul(block_size as u64);
        match bytes {
            Some(1..=0x7fff_ffff_ffff_ffff) if sized => Ok(Self { block_size, capacity }),
            _ => Err(Error::InvalidGeometry { block_size, capacity }),
        }
    }

    /// Bytes in a logical block, the unit of atomicity.
    pub const fn block_size(self) -> u32 {
        self.block_size
    }

    /// Number of logical blocks.
    pub const fn capacity(self) -> u64 {
        self.capacity
    }

    /// Size in bytes.
    pub const fn bytes(self) -> u64 {
        self.capacity * self.block_size as u64
    }

    /// Bytes that `extent` spans (`u32` blocks of at most 64 KiB always fit).
    pub const fn bytes_of(self, extent: Extent) -> u64 {
        extent.blocks.0 as u64 * self.block_size as u64
    }

    /// Byte offset of `extent`, which lies within this geometry.
    pub const fn offset_of(self, extent: Extent) -> u64 {
        extent.start.0.saturating_mul(self.block_size as u64)
    }

    /// Whether all of `extent` lies on the device.
    pub const fn contains(self, extent: Extent) -> bool {
        extent.end().0 <= self.capacity
    }
}

/// A volume's geometry, whose capacity may grow while it is used.
#[derive(Clone, Debug)]
pub(crate) struct LiveGeometry {
    block_size: u32,
    /// Written by the control side, read by whoever hands requests in. It stands for itself: accesses are relaxed.
    capacity: Arc<AtomicU64>,
}

impl LiveGeometry {
    pub(crate) fn new(geometry: Geometry) -> Self {
        Self { block_size: geometry.block_size, capacity: Arc::new(AtomicU64::new(geometry.capacity)) }
    }

    /// As it is now.
    #[inline]
    pub(crate) fn get(&self) -> Geometry {
        Geometry { block_size: self.block_size, capacity: self.capacity.load(Ordering::Relaxed) }
    }

    /// Whether both are one volume's.
    #[cfg(feature = "fuse")]
    pub(crate) fn is_that_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.capacity, &other.capacity)
    }

    /// From now on it has the capacity of `geometry`, which has the same blocks.
    pub(crate) fn set(&self, geometry: Geometry) {
        self.capacity.store(geometry.capacity, Ordering::Relaxed);
    }
}

/// What one request may ask for: a volume has the minimum over its paths, fixed when it is built, so that no
/// request is ever split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Most bytes in one read or write.
    pub transfer_bytes: u32,
    /// Most blocks in one discard; zero where the operation is not supported.
    pub discard_blocks: BlockCount,
    /// Most blocks in one write zeroes; zero where the operation is not supported.
    pub write_zeroes_blocks: BlockCount,
    /// What a buffer's address must be a multiple of, in bytes.
    pub memory_alignment: u32,
}

impl Limits {
    /// Reads and writes of up to `transfer_bytes` from page-aligned memory, no discard and no write zeroes.
    pub const fn new(transfer_bytes: u32) -> Self {
        Self {
            transfer_bytes,
            discard_blocks: BlockCount(0),
            write_zeroes_blocks: BlockCount(0),
            memory_alignment: 4096,
        }
    }

    /// The same with at most `blocks` blocks in a discard.
    #[must_use]
    pub const fn with_discard(mut self, blocks: BlockCount) -> Self {
        self.discard_blocks = blocks;
        self
    }

    /// The same with at most `blocks` blocks in a write zeroes.
    #[must_use]
    pub const fn with_write_zeroes(mut self, blocks: BlockCount) -> Self {
        self.write_zeroes_blocks = blocks;
        self
    }

    /// The same with buffers at multiples of `bytes`.
    #[must_use]
    pub const fn with_memory_alignment(mut self, bytes: u32) -> Self {
        self.memory_alignment = bytes;
        self
    }

    /// The strictest of both.
    #[must_use]
    pub fn minimum(self, other: Self) -> Self {
        Self {
            transfer_bytes: self.transfer_bytes.min(other.transfer_bytes),
            discard_blocks: self.discard_blocks.min(other.discard_blocks),
            write_zeroes_blocks: self.write_zeroes_blocks.min(other.write_zeroes_blocks),
            memory_alignment: self.memory_alignment.max(other.memory_alignment),
        }
    }

    /// Whether a path with these limits can carry every request that `published` allows.
    pub fn covers(self, published: Self) -> bool {
        self.minimum(published) == published
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(start: u64, blocks: u32) -> Extent {
        Extent::new(Lba::new(start), BlockCount::new(blocks)).unwrap()
    }

    #[test]
    fn an_extent_never_wraps_and_is_never_empty() {
        assert!(Extent::new(Lba::new(u64::MAX), BlockCount::new(1)).is_err());
        assert!(Extent::new(Lba::new(0), BlockCount::new(0)).is_err());
        assert_eq!(extent(u64::MAX - 1, 1).end(), Lba::new(u64::MAX));
    }

    #[test]
    fn overlap_is_symmetric_and_excludes_neighbours() {
        assert!(extent(4, 4).overlaps(extent(7, 1)));
        assert!(extent(7, 1).overlaps(extent(4, 4)));
        assert!(!extent(4, 4).overlaps(extent(8, 1)));
        assert!(!Extent::NONE.overlaps(extent(0, 1)));
    }

    #[test]
    fn skipping_leaves_the_rest() {
        assert_eq!(extent(4, 4).skip(BlockCount::new(3)), Some(extent(7, 1)));
        assert_eq!(extent(4, 4).skip(BlockCount::new(4)), None);
    }

    #[test]
    fn odd_block_sizes_and_capacities_are_refused() {
        for (block_size, capacity) in [(0, 1), (513, 1), (256, 1), (131_072, 1), (512, 0), (512, u64::MAX)] {
            assert!(Geometry::new(block_size, capacity).is_err(), "{block_size} {capacity}");
        }
        assert_eq!(Geometry::new(4096, 10).unwrap().bytes(), 40_960);
    }

    #[test]
    fn the_minimum_of_limits_is_covered_by_both() {
        let a = Limits::new(1 << 20).with_discard(BlockCount::new(8));
        let b = Limits::new(1 << 16).with_discard(BlockCount::new(64)).with_memory_alignment(512);
        let both = a.minimum(b);
        assert!(a.covers(both) && b.covers(both));
        assert!(!b.covers(a));
    }
}
