//! Random requests on one queue, on the thread that calls it.

use std::time::Duration;

use mpio::{BlockCount, Durability, Extent, Lba, Operation, Tick, Unmap};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

use crate::clerk::Clerk;

/// Blocks of the volume.
pub(crate) const BLOCKS: u64 = 8192;
/// Most blocks in a request.
pub(crate) const MOST_BLOCKS: u32 = 128;
/// Blocks at the beginning on which a quarter of the requests fall.
const HOT: u64 = 128;
/// Requests under way at once.
const WINDOW: usize = 40;

/// Buffers that one queue's traffic needs.
pub(crate) const BUFFERS: u32 = 256;

/// A queue under load.
pub(crate) struct Traffic {
    pub(crate) clerk: Clerk,
    chance: Xoshiro256PlusPlus,
}

impl Traffic {
    pub(crate) fn new(clerk: Clerk, seed: u64) -> Self {
        Self { clerk, chance: Xoshiro256PlusPlus::seed_from_u64(seed) }
    }

    /// Keeps the window full until `end`.
    pub(crate) fn run(&mut self, end: Tick) {
        while Tick::now() < end {
            while self.clerk.open().len() < WINDOW && self.submit() {}
            if self.below(50) == 0 {
                self.cancel();
            }
            self.clerk.turn();
        }
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.chance.next_u32() % limit
    }

    fn submit(&mut self) -> bool {
        let operation = match self.below(100) {
            0..40 => Operation::Read,
            40..76 => Operation::Write(Durability::Cached),
            76..83 => Operation::Write(Durability::Fua),
            83..88 => Operation::Flush,
            88..94 => Operation::Discard,
            94..97 => Operation::WriteZeroes(Unmap::Allowed),
            _ => Operation::WriteZeroes(Unmap::Forbidden),
        };
        let extent = if operation == Operation::Flush { Extent::NONE } else { self.extent() };
        let deadline = (self.below(25) == 0).then(|| Duration::from_millis(self.below(60).into()));
        self.clerk.submit(operation, extent, deadline).is_some()
    }

    fn extent(&mut self) -> Extent {
        const SIZES: [u32; 10] = [1, 1, 1, 2, 3, 8, 8, 16, 33, MOST_BLOCKS];
        let blocks = SIZES[self.below(10) as usize];
        let span = if self.below(4) == 0 { HOT } else { BLOCKS };
        let start = u64::from(self.chance.next_u32()) % (span + 1 - u64::from(blocks));
        Extent::new(Lba::new(start), BlockCount::new(blocks)).unwrap()
    }

    fn cancel(&mut self) {
        let nth = self.below(u32::try_from(WINDOW).unwrap()) as usize;
        if let Some(&cookie) = self.clerk.open().iter().nth(nth) {
            self.clerk.cancel(cookie);
        }
    }
}
