//! A volume over the path under test.

use std::time::Duration;

use crate::block::{BlockCount, Extent, Lba};
use crate::buffer::{Buffer, Pool};
use crate::io::{Completion, Cookie, Durability, Memory, QueueIndex, Request};
use crate::path::Path;
use crate::policy::Failover;
use crate::time::Tick;
use crate::volume::{PathOptions, Queue, Volume};

use super::watched::{Watch, Watched};

/// How often a loop turns before the test fails; each turn sleeps for [`TURN`] at most.
const TURNS: usize = 6_000;
const TURN: Duration = Duration::from_millis(10);
/// Longest that a path may take to let go.
pub(super) const BOUND: Duration = Duration::from_mins(1);
/// Most requests in a queue here.
pub(super) const DEPTH: u32 = 256;
/// Most bytes in a transfer here.
const LARGEST: u32 = 1 << 20;

/// The content of a block: different for each number and each stamp.
pub(super) fn fill(buffer: &mut [u8], block_size: usize, first: u64, stamp: u64) {
    for (block, number) in buffer.chunks_mut(block_size).zip(first..) {
        for (word, place) in block.chunks_mut(8).zip(0_u64..) {
            let value = stamp.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number << 16 ^ place;
            word.copy_from_slice(&value.to_le_bytes()[..word.len()]);
        }
    }
}

/// Asserts that `found` is what [`fill`] makes.
pub(super) fn check(found: &[u8], block_size: usize, first: u64, stamp: u64) {
    let mut wanted = vec![0; found.len()];
    fill(&mut wanted, block_size, first, stamp);
    let differs = found.iter().zip(&wanted).position(|(found, wanted)| found != wanted);
    if let Some(place) = differs {
        let block = first + (place / block_size) as u64;
        panic!("block {block} holds something else than was written, from byte {} on", place % block_size);
    }
}

/// One volume, one of its queues, and what was seen of the paths.
pub(super) struct Rig {
    pub(super) volume: Volume,
    pub(super) queue: Queue,
    pub(super) pool: Pool,
    /// For transfers as large as the path takes.
    large: Pool,
    pub(super) watch: Watch,
    completions: Vec<Completion>,
    next: u64,
}

impl Rig {
    /// Over one path.
    pub(super) fn new(path: impl Path) -> Self {
        Self::with(vec![path], 1)
    }

    /// Over some paths, the first of which is preferred; two at most, watched together, with `queues` queues.
    pub(super) fn with<P: Path>(paths: Vec<P>, queues: u16) -> Self {
        let watch = Watch::default();
        let mut builder = Volume::builder()
            .policy(Failover::new())
            .queues(queues)
            .queue_depth(DEPTH)
            // One that loses its connection as often as here is made to wait that long.
            .probe_interval(Duration::from_millis(5));
        for (path, rank) in paths.into_iter().zip(0..) {
            let options = PathOptions::new().rank(rank).assert_same();
            builder = builder.path_with(options, Watched::new(path, &watch));
        }
        let volume = builder.build().unwrap();
        let queue = volume.take_queue(QueueIndex(0)).unwrap();
        let most = volume.limits().transfer_bytes;
        let pool = Pool::new(most.min(volume.geometry().block_size() * 8), DEPTH).unwrap();
        let large = Pool::with_reserve(most.min(LARGEST), 2, 0).unwrap();
        Self { volume, queue, pool, large, watch, completions: Vec::new(), next: 0 }
    }

    /// Another of the volume's queues.
    pub(super) fn beside(&self, queue: QueueIndex) -> Self {
        Self {
            volume: self.volume.clone(),
            queue: self.volume.take_queue(queue).unwrap(),
            pool: self.pool.clone(),
            large: self.large.clone(),
            watch: self.watch.clone(),
            completions: Vec::new(),
            next: 0,
        }
    }

    pub(super) fn block_size(&self) -> u32 {
        self.volume.geometry().block_size()
    }

    /// Most blocks in a transfer here.
    pub(super) fn most_blocks(&self) -> u32 {
        let blocks = u64::from(self.large.size() / self.block_size());
        u32::try_from(blocks.min(self.volume.geometry().capacity())).unwrap()
    }

    pub(super) fn cookie(&mut self) -> Cookie {
        self.next += 1;
        Cookie(self.next)
    }

    pub(super) fn buffer(&self, blocks: u32) -> Buffer {
        let bytes = blocks * self.block_size();
        let pool = if bytes <= self.pool.size() { &self.pool } else { &self.large };
        pool.take(bytes).expect("a buffer is free")
    }

    pub(super) fn start(&mut self, request: Request) -> Cookie {
        let cookie = request.cookie;
        self.queue.submit(request).unwrap();
        cookie
    }

    pub(super) fn start_write(&mut self, at: Extent, stamp: u64, durability: Durability) -> Cookie {
        let (mut buffer, cookie) = (self.buffer(at.blocks().get()), self.cookie());
        fill(&mut buffer, self.block_size() as usize, at.start().get(), stamp);
        self.start(Request::write(at, buffer, durability, cookie))
    }

    pub(super) fn start_read(&mut self, at: Extent) -> Cookie {
        let (mut buffer, cookie) = (self.buffer(at.blocks().get()), self.cookie());
        buffer.fill(0xa5);
        self.start(Request::read(at, buffer, cookie))
    }

    /// Polls once, and takes what has ended.
    pub(super) fn turn(&mut self) -> Vec<Completion> {
        self.queue.wait(Some(Tick::now().after(TURN)), &mut self.completions);
        std::mem::take(&mut self.completions)
    }

    /// Polls until `done` gives something.
    pub(super) fn until<T>(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        for _ in 0..TURNS {
            if let Some(found) = done(self) {
                return found;
            }
            self.queue.wait(Some(Tick::now().after(TURN)), &mut self.completions);
        }
        panic!("{what}: it did not come to that");
    }

    /// Waits for the completion of `cookie`, which must be a success; its buffer.
    pub(super) fn end(&mut self, cookie: Cookie) -> Option<Buffer> {
        let completion = self.until("the end of a request", |rig| {
            let place = rig.completions.iter().position(|completion| completion.cookie == cookie)?;
            Some(rig.completions.swap_remove(place))
        });
        completion.result.unwrap();
        match completion.memory {
            Memory::Returned(buffer) => Some(buffer),
            Memory::None => None,
            Memory::Quarantined => panic!("a request that succeeded has left its memory behind"),
        }
    }

    pub(super) fn write(&mut self, at: Extent, stamp: u64) {
        let cookie = self.start_write(at, stamp, Durability::Cached);
        self.end(cookie);
    }

    pub(super) fn read(&mut self, at: Extent) -> Buffer {
        let cookie = self.start_read(at);
        self.end(cookie).unwrap()
    }

    /// Asserts that the extent holds what was written to it with `stamp`.
    pub(super) fn check(&mut self, at: Extent, stamp: u64) {
        let found = self.read(at);
        check(&found, self.block_size() as usize, at.start().get(), stamp);
    }

    /// Closes the volume; nothing must be left.
    pub(super) fn finish(mut self) {
        assert!(self.completions.is_empty(), "ended more often than asked for: {:?}", self.completions);
        assert_eq!(self.queue.len(), 0, "requests that were never ended");
        let settled = self.volume.close(BOUND);
        self.until("closing", |rig| rig.queue.is_finished().then_some(()));
        assert!(settled.wait(BOUND), "the path does not let go");
        let seen = self.watch.seen();
        assert_eq!(seen.out, 0, "attempts that it never handed back");
        assert_eq!(seen.wrong, [] as [String; 0]);
    }
}

pub(super) fn extent(start: u64, blocks: u32) -> Extent {
    Extent::new(Lba::new(start), BlockCount::new(blocks)).unwrap()
}
