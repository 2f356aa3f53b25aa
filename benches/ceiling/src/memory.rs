//! Memory that any thread may read and write, block by block.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) const BLOCK: usize = 4096;

/// A lock for each block: nobody waits unless two ask for the same one.
pub(crate) struct Memory(Box<[Mutex<[u8; BLOCK]>]>);

impl Memory {
    /// `bytes` is a multiple of the block. Every page is written, so that none has to be found while it is measured.
    pub(crate) fn new(bytes: usize) -> Self {
        Self((0..bytes / BLOCK).map(|_| Mutex::new([0x5a; BLOCK])).collect())
    }

    pub(crate) fn len(&self) -> u64 {
        (self.0.len() * BLOCK) as u64
    }

    /// Shows `then` what lies at `offset`: fewer than `len` bytes if the end comes first.
    pub(crate) fn read(&self, offset: u64, len: usize, then: impl FnOnce(&[u8])) {
        let len = len.min(self.len().saturating_sub(offset) as usize);
        let (block, from) = (offset as usize / BLOCK, offset as usize % BLOCK);
        if (1..=BLOCK - from).contains(&len) {
            return then(&self.block(block)[from..from + len]);
        }
        let mut data = Vec::with_capacity(len);
        for piece in pieces(offset, len) {
            data.extend_from_slice(&self.block(piece.block)[piece.from..piece.to]);
        }
        then(&data);
    }

    /// False if it does not fit.
    pub(crate) fn write(&self, offset: u64, mut data: &[u8]) -> bool {
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > self.len()) {
            return false;
        }
        for piece in pieces(offset, data.len()) {
            let (here, rest) = data.split_at(piece.to - piece.from);
            self.block(piece.block)[piece.from..piece.to].copy_from_slice(here);
            data = rest;
        }
        true
    }

    fn block(&self, number: usize) -> MutexGuard<'_, [u8; BLOCK]> {
        self.0[number].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes `from..to` of a block.
struct Piece {
    block: usize,
    from: usize,
    to: usize,
}

fn pieces(offset: u64, len: usize) -> impl Iterator<Item = Piece> {
    let (mut at, end) = (offset as usize, offset as usize + len);
    std::iter::from_fn(move || {
        let (block, from) = (at / BLOCK, at % BLOCK);
        let to = BLOCK.min(from + (end - at));
        at += to - from;
        (to > from).then_some(Piece { block, from, to })
    })
}
