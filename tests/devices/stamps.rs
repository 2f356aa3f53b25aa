//! What blocks hold: every eight bytes say which write they are of and which block they belong to.

use mpio::sim::Stamp;

/// Block size of the volumes here, in bytes.
pub(crate) const BLOCK_SIZE: u32 = 512;

/// Bits of a word that hold the block's number.
const PLACE_BITS: u32 = 20;

/// What a word that belongs elsewhere is taken for: no write bears it.
const MISPLACED: Stamp = Stamp::MAX;

/// Fills `bytes`, which go to the blocks from `first` on.
pub(crate) fn fill(bytes: &mut [u8], first: u64, stamp: Stamp) {
    for (place, block) in (first..).zip(bytes.chunks_exact_mut(BLOCK_SIZE as usize)) {
        let word = (stamp << PLACE_BITS | place).to_le_bytes();
        block.chunks_exact_mut(word.len()).for_each(|target| target.copy_from_slice(&word));
    }
}

/// What was found in some blocks.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The stamp that each block begins with; 0 for zeroes.
    pub(crate) stamps: Vec<Stamp>,
    /// Blocks that go on with another stamp, and that.
    pub(crate) torn: Vec<(u64, Stamp)>,
}

impl Found {
    /// What `bytes`, the content of the blocks from `first` on, bear.
    pub(crate) fn within(bytes: &[u8], first: u64) -> Self {
        let mut found = Self::default();
        for (place, block) in (first..).zip(bytes.chunks_exact(BLOCK_SIZE as usize)) {
            let mut words = block.as_chunks().0.iter().map(|&word| stamp(u64::from_le_bytes(word), place));
            let mut last = words.next().unwrap_or(MISPLACED);
            found.stamps.push(last);
            for stamp in words {
                if stamp != last {
                    found.torn.push((place, stamp));
                    last = stamp;
                }
            }
        }
        found
    }
}

fn stamp(word: u64, place: u64) -> Stamp {
    match word {
        0 => 0,
        word if word & ((1 << PLACE_BITS) - 1) == place => word >> PLACE_BITS,
        _ => MISPLACED,
    }
}

#[test]
fn stamps_are_found_again_in_their_place_only() {
    let mut bytes = [0; 2 * BLOCK_SIZE as usize];
    fill(&mut bytes[..512], 7, 42);
    let found = Found::within(&bytes, 7);
    assert_eq!((found.stamps, found.torn), (vec![42, 0], vec![]));
    assert_eq!(Found::within(&bytes, 8).stamps, [MISPLACED, 0]);
}

#[test]
fn a_torn_block_shows_both_stamps() {
    let mut bytes = [0; BLOCK_SIZE as usize];
    fill(&mut bytes, 7, 42);
    bytes[256..].fill(0);
    let found = Found::within(&bytes, 7);
    assert_eq!((found.stamps, found.torn), (vec![42], vec![(7, 0)]));
}
