//! Many requests at once, in one queue and in several.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::block::Extent;
use crate::io::{Cookie, Durability, Memory, Operation, QueueIndex, Request, Unmap};
use crate::path::Path;

use super::rig::{DEPTH, Rig, check, extent};

/// Requests of the test of many.
const REQUESTS: usize = 2_000;
const QUEUES: u16 = 4;

/// A random load of every operation that the path does, many at once: each attempt comes back once, each read finds what
/// was written last.
pub fn hands_back_each_attempt_once<P: Path>(ways: &impl Fn(usize) -> Option<P>) {
    let Some(path) = ways(0) else { return };
    let mut load = Load::new(Rig::new(path));
    let mut ended = 0;
    while ended < REQUESTS {
        while load.start() {}
        ended += load.collect();
    }
    while !load.rig.queue.is_empty() {
        load.collect();
    }
    load.rig.finish();
}

/// It can have as many attempts out as it says, never gets more, and gets on with what it could not take at first.
pub fn takes_as_many_attempts_as_it_says<P: Path>(ways: &impl Fn(usize) -> Option<P>) {
    let Some(mut path) = ways(0) else { return };
    let depth = path.connect(crate::path::Incarnation::NONE.next()).unwrap().depth;
    drop(path);
    let Some(path) = ways(0) else { return };
    let mut rig = Rig::new(path);
    rig.write(extent(0, 1), 1);
    for _ in 0..8 {
        let reads: Vec<Cookie> = (0..DEPTH).map(|_| rig.start_read(extent(0, 1))).collect();
        for read in reads {
            let found = rig.end(read).unwrap();
            check(&found, rig.block_size() as usize, 0, 1);
        }
    }
    let most = rig.watch.seen().most;
    assert!(most <= depth as usize, "{most} attempts were out, {depth} is the most");
    rig.finish();
}

/// Queues on threads of their own, each with a part of the device to itself.
pub fn serves_several_queues<P: Path>(ways: &impl Fn(usize) -> Option<P>) {
    let Some(path) = ways(0) else { return };
    let rig = Rig::with(vec![path], QUEUES);
    let share = rig.volume.geometry().capacity() / u64::from(QUEUES);
    let blocks = u32::try_from(share).unwrap_or(u32::MAX).min(rig.most_blocks()).min(8);
    assert!(blocks > 0, "the device is too small for this test");
    let others: Vec<Rig> = (1..QUEUES).map(|queue| rig.beside(QueueIndex(queue))).collect();
    let first = std::thread::scope(|scope| {
        for (mut other, number) in others.into_iter().zip(1..) {
            scope.spawn(move || use_share(&mut other, number * share, blocks));
        }
        let mut rig = rig;
        use_share(&mut rig, 0, blocks);
        rig
    });
    first.finish();
}

fn use_share(rig: &mut Rig, start: u64, blocks: u32) {
    for stamp in 0..64 {
        rig.write(extent(start, blocks), stamp);
        rig.check(extent(start, blocks), stamp);
    }
}

/// A random load in which no two requests overlap at any time.
struct Load {
    rig: Rig,
    random: Xoshiro256PlusPlus,
    /// Blocks in use.
    blocks: u64,
    /// What each block was last written with, `None` for what is not known.
    stamps: Vec<Option<u64>>,
    under_way: Vec<(Cookie, Operation, Extent, u64)>,
    busy: Vec<bool>,
}

impl Load {
    fn new(mut rig: Rig) -> Self {
        let blocks = rig.volume.geometry().capacity().min(512);
        for block in 0..blocks {
            rig.write(extent(block, 1), 0);
        }
        let count = usize::try_from(blocks).unwrap();
        Self {
            rig,
            random: Xoshiro256PlusPlus::seed_from_u64(1),
            blocks,
            stamps: vec![Some(0); count],
            under_way: Vec::new(),
            busy: vec![false; count],
        }
    }

    /// Starts one more request; `false` if there is no room.
    fn start(&mut self) -> bool {
        let blocks = self.random.random_range(1..=self.rig.most_blocks().min(8));
        let start = self.random.random_range(0..=self.blocks - u64::from(blocks).min(self.blocks));
        let at = extent(start, blocks);
        if self.under_way.len() >= DEPTH as usize / 2 || places(at).any(|place| self.busy[place]) {
            return false;
        }
        let operation = self.operation(at);
        let cookie = self.rig.cookie();
        let request = match operation {
            Operation::Read => Request::read(at, self.rig.buffer(blocks), cookie),
            Operation::Write(durability) => {
                let mut buffer = self.rig.buffer(blocks);
                super::rig::fill(&mut buffer, self.rig.block_size() as usize, start, cookie.0);
                Request::write(at, buffer, durability, cookie)
            }
            Operation::Discard => Request::discard(at, cookie),
            Operation::WriteZeroes(unmap) => Request::write_zeroes(at, unmap, cookie),
            Operation::Flush => Request::flush(cookie),
        };
        self.rig.start(request);
        for place in places(at) {
            self.busy[place] = true;
        }
        self.under_way.push((cookie, operation, at, cookie.0));
        true
    }

    /// One that the path does.
    fn operation(&mut self, at: Extent) -> Operation {
        let limits = self.rig.volume.limits();
        let durability = if self.random.random_ratio(1, 4) { Durability::Fua } else { Durability::Cached };
        match self.random.random_range(0..32_u32) {
            0 => Operation::Flush,
            1 if limits.discard_blocks >= at.blocks() => Operation::Discard,
            2 if limits.write_zeroes_blocks >= at.blocks() => Operation::WriteZeroes(Unmap::Allowed),
            3..16 => Operation::Write(durability),
            _ => Operation::Read,
        }
    }

    /// Takes what has ended; how many.
    fn collect(&mut self) -> usize {
        let completions = self.rig.turn();
        let count = completions.len();
        for completion in completions {
            let known = self.under_way.iter().position(|(cookie, ..)| *cookie == completion.cookie);
            let (_, operation, at, stamp) = self.under_way.swap_remove(known.expect("ended once"));
            completion.result.unwrap();
            for place in places(at) {
                self.busy[place] = false;
                match operation {
                    Operation::Write(_) => self.stamps[place] = Some(stamp),
                    Operation::Discard | Operation::WriteZeroes(_) => self.stamps[place] = None,
                    Operation::Read | Operation::Flush => {}
                }
            }
            if let (Operation::Read, Memory::Returned(found)) = (operation, completion.memory) {
                self.verify(at, &found);
            }
        }
        count
    }

    fn verify(&self, at: Extent, found: &[u8]) {
        let block_size = self.rig.block_size() as usize;
        for (place, block) in places(at).zip(found.chunks(block_size)) {
            if let Some(stamp) = self.stamps[place] {
                check(block, block_size, place as u64, stamp);
            }
        }
    }
}

/// Indices of an extent's blocks.
fn places(at: Extent) -> std::ops::Range<usize> {
    let start = usize::try_from(at.start().get()).unwrap();
    start..start + at.blocks().get() as usize
}
