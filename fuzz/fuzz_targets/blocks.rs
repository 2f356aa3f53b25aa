//! Extents and geometries from arbitrary numbers: what is accepted never wraps, and agrees with arithmetic in
//! 128 bits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mpio::{BlockCount, Extent, Geometry, Lba};

fuzz_target!(|bytes: &[u8]| {
    let mut numbers = Numbers(bytes);
    let (start, blocks, skip) = (numbers.next_u64(), numbers.next_u32(), numbers.next_u32());
    let (block_size, capacity) = (numbers.next_u32(), numbers.next_u64());

    let extent = Extent::new(Lba::new(start), BlockCount::new(blocks));
    let end = u128::from(start) + u128::from(blocks);
    assert_eq!(extent.is_ok(), blocks > 0 && u64::try_from(end).is_ok());
    let Ok(extent) = extent else { return };
    assert_eq!(u128::from(extent.end().get()), end);
    check_skip(extent, skip);

    // Half of the block sizes are good ones, else hardly any would be.
    let block_size = if block_size & 1 == 0 { block_size } else { 1 << (block_size >> 1 & 31) };
    let Ok(geometry) = Geometry::new(block_size, capacity) else { return };
    let bytes = u128::from(capacity) * u128::from(block_size);
    assert_eq!(u128::from(geometry.bytes()), bytes);
    assert!(i64::try_from(geometry.bytes()).is_ok());
    assert_eq!(geometry.contains(extent), end <= u128::from(capacity));
    if geometry.contains(extent) {
        let end = u128::from(geometry.offset_of(extent)) + u128::from(geometry.bytes_of(extent));
        assert!(end <= bytes);
    }
});

fn check_skip(extent: Extent, skip: u32) {
    let rest = extent.skip(BlockCount::new(skip));
    assert_eq!(rest.is_some(), skip < extent.blocks().get());
    if let Some(rest) = rest {
        assert_eq!(rest.end(), extent.end());
        assert_eq!(rest.blocks().get(), extent.blocks().get() - skip);
        assert!(rest.overlaps(extent) && extent.overlaps(rest));
    }
}

/// Numbers from the front of the input.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn next_u32(&mut self) -> u32 {
        self.next().map_or(0, u32::from_le_bytes)
    }

    fn next_u64(&mut self) -> u64 {
        self.next().map_or(0, u64::from_le_bytes)
    }

    fn next<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }
}
