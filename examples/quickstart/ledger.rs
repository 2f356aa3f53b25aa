//! What may legally be on each block.

use std::ops::RangeInclusive;

/// The blocks that one thread alone reads and writes.
pub(crate) struct Ledger {
    first: u64,
    blocks: Vec<Block>,
}

#[derive(Clone, Copy, Default)]
struct Block {
    /// The last write that was completed.
    completed: u64,
    /// The last write that was sent. The same, unless it is in flight, or failed and may be there or not.
    sent: u64,
    in_flight: bool,
}

impl Ledger {
    /// `count` blocks from `first` on, never written.
    pub(crate) fn new(first: u64, count: u32) -> Self {
        Self { first, blocks: vec![Block::default(); count as usize] }
    }

    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn len(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// Whether a write to the block is in flight: it gets no second one, since two would have no order.
    pub(crate) fn is_busy(&self, block: u64) -> bool {
        self.block(block).in_flight
    }

    /// A write to the block is sent.
    pub(crate) fn begin(&mut self, block: u64, generation: u64) {
        let block = self.block_mut(block);
        (block.sent, block.in_flight) = (generation, true);
    }

    /// It was completed.
    pub(crate) fn complete(&mut self, block: u64) {
        let block = self.block_mut(block);
        (block.completed, block.in_flight) = (block.sent, false);
    }

    /// It failed: old or new.
    pub(crate) fn fail(&mut self, block: u64) {
        self.block_mut(block).in_flight = false;
    }

    /// The oldest generation that a read of the block may find if it is sent now.
    pub(crate) fn oldest(&self, block: u64) -> u64 {
        self.block(block).completed
    }

    /// The generations that a read may have found that is completed now and was sent when `oldest` was so.
    pub(crate) fn legal(&self, block: u64, oldest: u64) -> RangeInclusive<u64> {
        oldest..=self.block(block).sent
    }

    fn block(&self, block: u64) -> &Block {
        &self.blocks[self.place(block)]
    }

    fn block_mut(&mut self, block: u64) -> &mut Block {
        let place = self.place(block);
        &mut self.blocks[place]
    }

    /// Past the end, where indexing ends the program, for a block that is not in the ledger.
    fn place(&self, block: u64) -> usize {
        usize::try_from(block.wrapping_sub(self.first)).unwrap_or(usize::MAX)
    }
}
