//! A volume over null paths under a constant number of I/Os.

use std::time::Duration;

use mpio::path::QueueIndex;
use mpio::policy::MakePolicy;
use mpio::{BlockCount, Buffer, Completion, Cookie, Extent, Lba, Pool, Queue, Request, Tick, Volume};

use super::null_path::{Answers, BLOCK, CAPACITY, NullPath};

/// Attempts that stay out on each path.
pub(crate) const WINDOW: usize = 8;

/// Every I/O that ends is followed by another one.
pub(crate) struct ClosedLoop {
    /// Keeps the control side.
    volume: Volume,
    queue: Queue,
    completions: Vec<Completion>,
    next: u64,
}

/// What a loop is made of.
pub(crate) struct Shape {
    /// Paths of the volume.
    pub(crate) paths: usize,
    /// Those among them that the policy takes.
    pub(crate) used: usize,
    /// I/Os that end with each poll, and that are sent with it.
    pub(crate) batch: usize,
    /// Requests that the queue has room for, if that is more than it takes.
    pub(crate) depth: u32,
}

impl Shape {
    /// I/Os that have been submitted and have not ended: `WINDOW` on each used path, and two batches on their way.
    pub(crate) const fn out(&self) -> usize {
        self.used * WINDOW + 2 * self.batch
    }
}

impl ClosedLoop {
    /// A volume over null paths that answer as `answers` says, and its first I/Os.
    pub(crate) fn new(policy: impl MakePolicy, shape: &Shape, answers: &Answers) -> Self {
        let out = u32::try_from(shape.out()).expect("a few hundred");
        let depth = shape.depth.max(out);
        // What is out while others have their turn is not late.
        let patience = Duration::from_hours(1);
        let mut builder =
            Volume::builder().policy(policy).queue_depth(depth).late_after(patience).suspect_after(patience);
        for number in 0..shape.paths {
            builder = builder.path(NullPath::new(number, depth, answers.clone()));
        }
        let volume = builder.build().expect("null paths connect");
        let queue = volume.take_queue(QueueIndex(0)).expect("nobody took it");
        let pool = Pool::new(BLOCK, out).expect("a little memory");
        let mut this = Self { volume, queue, completions: Vec::with_capacity(shape.out()), next: 0 };
        while let Some(buffer) = pool.take(BLOCK) {
            this.submit(buffer);
        }
        this
    }

    pub(crate) fn volume(&self) -> &Volume {
        &self.volume
    }

    /// Polls until `ios` more have ended.
    pub(crate) fn run(&mut self, ios: usize) {
        let mut ended = 0;
        while ended < ios {
            ended += self.turn();
        }
    }

    /// One poll; the number of I/Os that ended.
    pub(crate) fn turn(&mut self) -> usize {
        self.turn_at(Tick::now())
    }

    /// One poll at this time.
    pub(crate) fn turn_at(&mut self, now: Tick) -> usize {
        let mut completions = std::mem::take(&mut self.completions);
        self.queue.poll(now, &mut completions);
        let ended = completions.len();
        for Completion { result, memory, .. } in completions.drain(..) {
            result.expect("nothing fails on a null path");
            let buffer = memory.into_buffer().expect("every request has one");
            self.submit(buffer);
        }
        self.completions = completions;
        ended
    }

    fn submit(&mut self, buffer: Buffer) {
        self.next = self.next.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let extent = Extent::new(Lba::new(self.next % CAPACITY), BlockCount::new(1)).expect("one block");
        self.queue.submit(Request::read(extent, buffer, Cookie(self.next))).expect("within the depth");
    }
}
