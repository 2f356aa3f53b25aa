//! One queue, each of whose requests is entered in the books.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mpio::{
    BlockCount, Buffer, Completion, Cookie, Error, Extent, Lba, Memory, Operation, Pool, Queue, Request, Tick,
};

use crate::ledger::Ledger;
use crate::stamps::{self, BLOCK_SIZE};

/// What a buffer is filled with after it came back: whoever still writes to it is found out.
const POISON: u8 = 0xee;
/// Buffers that wait, poisoned.
const SHELF: usize = 16;
/// How long to wait for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How a request ended.
pub(crate) type Ending = (Cookie, Result<(), Error>);

/// A queue and what it has under way.
pub(crate) struct Clerk {
    queue: Queue,
    pool: Pool,
    ledger: Arc<Ledger>,
    open: BTreeSet<Cookie>,
    quarantined: BTreeSet<Cookie>,
    shelf: Vec<Buffer>,
}

impl Clerk {
    pub(crate) fn new(queue: Queue, pool: Pool, ledger: Arc<Ledger>) -> Self {
        Self { queue, pool, ledger, open: BTreeSet::new(), quarantined: BTreeSet::new(), shelf: Vec::new() }
    }

    /// `None` if there is no buffer or no room.
    pub(crate) fn submit(
        &mut self,
        operation: Operation,
        extent: Extent,
        deadline: Option<Duration>,
    ) -> Option<Cookie> {
        let bytes = extent.blocks().get() * BLOCK_SIZE;
        let buffer = if operation.has_data() { Some(self.pool.take(bytes)?) } else { None };
        let cookie = self.ledger.enter(self.queue.index().0, operation, extent);
        let mut request = match (operation, buffer) {
            (Operation::Read, Some(buffer)) => Request::read(extent, buffer, cookie),
            (Operation::Write(durability), Some(mut buffer)) => {
                stamps::fill(&mut buffer, extent.start().get(), cookie.0);
                Request::write(extent, buffer, durability, cookie)
            }
            (Operation::Discard, _) => Request::discard(extent, cookie),
            (Operation::WriteZeroes(unmap), _) => Request::write_zeroes(extent, unmap, cookie),
            _ => Request::flush(cookie),
        };
        if let Some(deadline) = deadline {
            request = request.with_deadline(Tick::now().after(deadline));
        }
        match self.queue.submit(request) {
            Ok(()) => {
                self.open.insert(cookie);
                Some(cookie)
            }
            Err(rejected) => {
                self.ledger.withdraw(cookie, rejected.error);
                None
            }
        }
    }

    /// Polls, and waits a little for something to end.
    pub(crate) fn turn(&mut self) -> Vec<Ending> {
        let mut completions = Vec::new();
        self.queue.wait(Some(Tick::now().after(Duration::from_millis(5))), &mut completions);
        self.collect(completions)
    }

    /// Polls until `done` says so, and returns what ended meanwhile; fails if it takes too long.
    pub(crate) fn turn_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) -> Vec<Ending> {
        let limit = Tick::now().after(PATIENCE);
        let mut endings = Vec::new();
        while !done(self) {
            let late = Tick::now() >= limit;
            assert!(!late, "{what}: {:?} are open, {:?} quarantined", self.open, self.quarantined);
            endings.extend(self.turn());
        }
        endings
    }

    /// Cancels a request under way.
    pub(crate) fn cancel(&mut self, cookie: Cookie) -> Vec<Ending> {
        let mut completions = Vec::new();
        assert_eq!(self.queue.cancel(cookie, &mut completions), 1, "{cookie:?}");
        self.collect(completions)
    }

    /// Reads the first `blocks` blocks through the volume, `step` at a time.
    pub(crate) fn read_all(&mut self, blocks: u64, step: u32) {
        for start in (0..blocks).step_by(step as usize) {
            let extent = Extent::new(Lba::new(start), BlockCount::new(step)).unwrap();
            self.submit(Operation::Read, extent, None).unwrap();
            self.turn_until("reading everything", Self::is_idle);
        }
    }

    /// Requests under way.
    pub(crate) fn open(&self) -> &BTreeSet<Cookie> {
        &self.open
    }

    /// Requests that ended while a path could still touch their buffer, and can.
    pub(crate) fn quarantined(&self) -> &BTreeSet<Cookie> {
        &self.quarantined
    }

    /// Whether nothing is under way and every buffer is back.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.quarantined.is_empty() && self.queue.is_empty()
    }

    /// Gives every buffer back.
    pub(crate) fn clear_shelf(&mut self) {
        self.shelf.drain(..).for_each(|buffer| check_poison(&buffer));
    }

    /// Drops the queue with all that it has under way.
    pub(crate) fn leave(mut self) {
        self.clear_shelf();
        let index = self.queue.index().0;
        drop(self.queue);
        self.ledger.forsake(index);
    }

    fn collect(&mut self, completions: Vec<Completion>) -> Vec<Ending> {
        let mut endings = Vec::new();
        for completion in completions {
            self.ledger.strike(self.queue.index().0, &completion);
            let Completion { cookie, result, memory, .. } = completion;
            assert!(self.open.remove(&cookie), "{cookie:?} ended twice");
            match memory {
                Memory::Returned(buffer) => self.shelve(buffer),
                Memory::Quarantined => assert!(self.quarantined.insert(cookie)),
                Memory::None => {}
            }
            endings.push((cookie, result));
        }
        while let Some((cookie, buffer)) = self.queue.poll_released() {
            assert!(self.quarantined.remove(&cookie), "{cookie:?} was released without being quarantined");
            self.shelve(buffer);
        }
        endings
    }

    /// Keeps a buffer for a while; what comes off the shelf must still be as it was put there.
    fn shelve(&mut self, mut buffer: Buffer) {
        buffer.fill(POISON);
        self.shelf.push(buffer);
        if self.shelf.len() > SHELF {
            check_poison(&self.shelf.remove(0));
        }
    }
}

fn check_poison(buffer: &Buffer) {
    assert!(buffer.iter().all(|&byte| byte == POISON), "a buffer was touched after it was returned");
}
