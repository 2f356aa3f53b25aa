//! What is written into a block, so that a read can tell whether it is the right block, and how old it is.

/// A line is the smallest piece that carries the whole stamp: the block number, the generation and the run's seed, and
/// a sum of them. A block is nothing but equal lines, so that a torn one shows.
const LINE: usize = 32;

/// Fills `bytes` as generation `generation` of block `block`. Generations count from 1.
pub(crate) fn put(bytes: &mut [u8], seed: u64, block: u64, generation: u64) {
    let line = line(seed, block, generation);
    for piece in bytes.chunks_exact_mut(LINE) {
        piece.copy_from_slice(&line);
    }
}

/// The generation of `block` that `bytes` are; 0 for a block that was never written.
///
/// # Errors
/// What is wrong with the block.
pub(crate) fn check(bytes: &[u8], seed: u64, block: u64) -> Result<u64, String> {
    let mut pieces = bytes.chunks_exact(LINE);
    let Some(first) = pieces.next() else { return Err("holds nothing".to_owned()) };
    if pieces.any(|piece| piece != first) {
        return Err("is torn: part of it is of another write".to_owned());
    }
    if first == [0; LINE] {
        return Ok(0);
    }
    let (number, generation) = (word(first, 1), word(first, 2));
    if first == line(seed, block, generation) {
        Ok(generation)
    } else if first == line(seed, number, generation) {
        Err(format!("holds block {number}, generation {generation}"))
    } else {
        Err("holds what nobody wrote in this run".to_owned())
    }
}

fn line(seed: u64, block: u64, generation: u64) -> [u8; LINE] {
    let sum = seed.wrapping_add(block.rotate_left(24)) ^ generation.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut line = [0; LINE];
    for (piece, word) in line.chunks_exact_mut(8).zip([seed, block, generation, sum]) {
        piece.copy_from_slice(&word.to_le_bytes());
    }
    line
}

fn word(line: &[u8], index: usize) -> u64 {
    line.chunks_exact(8).nth(index).and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes)
}
