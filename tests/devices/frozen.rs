//! Writes that hang in the kernel, below the path, and land after they were given up.

use std::sync::Arc;
use std::time::Duration;

use mpio::path::QueueIndex;
use mpio::{BlockCount, Cookie, Durability, Error, Extent, Fate, Lba, Operation, Pool, Volume};

use crate::clerk::{Clerk, Ending, PATIENCE};
use crate::freezable::{BYTES, Freezable};
use crate::ledger::Ledger;
use crate::pinned;
use crate::stamps::BLOCK_SIZE;

const WRITE: Operation = Operation::Write(Durability::Cached);
const BLOCKS: u64 = BYTES / BLOCK_SIZE as u64;
/// The size that takes the freezing way.
const FREEZING: u32 = 16;
const BUFFERS: u32 = 300;

/// A volume over both ways, with two queues. Fields are dropped in order: the storage comes last.
struct Rig {
    first: Option<Clerk>,
    second: Clerk,
    volume: Volume,
    ledger: Arc<Ledger>,
    pool: Pool,
    storage: Freezable,
}

impl Rig {
    /// `None` where this machine cannot have it.
    fn new() -> Option<Self> {
        let storage = Freezable::required()?;
        let pool = Pool::new(64 * BLOCK_SIZE, BUFFERS).unwrap();
        let builder = Volume::builder().queues(2).pool(&pool).policy(pinned::by_size(FREEZING * BLOCK_SIZE));
        let volume = storage.add_paths(builder).build().unwrap();
        let ledger = Arc::new(Ledger::new(BLOCKS));
        let clerk = |index| {
            let queue = volume.take_queue(QueueIndex(index)).unwrap();
            Clerk::new(queue, pool.clone(), Arc::clone(&ledger))
        };
        let (first, second) = (Some(clerk(0)), clerk(1));
        Some(Self { first, second, volume, ledger, pool, storage })
    }

    fn first(&mut self) -> &mut Clerk {
        self.first.as_mut().unwrap()
    }

    /// Freezes the storage below the freezing way and has a write over blocks 100 to 115 hang there.
    fn hang(&mut self, deadline: Option<Duration>) -> Cookie {
        self.storage.freeze();
        let cookie = self.first().submit(WRITE, extent(100, FREEZING), deadline).unwrap();
        assert!(self.first().turn().is_empty(), "it hangs");
        cookie
    }

    /// Submits a newer write over half of the one that hangs, and sees that it waits although its own way is open:
    /// what was submitted after it has ended when this returns, and a read of the blocks too.
    fn submit_newer(&mut self) -> Cookie {
        let newer = self.second.submit(WRITE, extent(108, 24), None).unwrap();
        self.second.submit(WRITE, extent(200, 24), None).unwrap();
        self.second.submit(Operation::Flush, Extent::NONE, None).unwrap();
        self.second.submit(Operation::Read, extent(96, 48), None).unwrap();
        let endings = self.second.turn_until("what overlaps nothing", |clerk| clerk.open().len() == 1);
        assert!(endings.iter().all(|(_, result)| result.is_ok()), "{endings:?}");
        assert!(self.second.open().contains(&newer), "it does not wait");
        assert_eq!(self.volume.status().ghosts, 1);
        newer
    }

    /// Thaws the storage and sees that the newer write then ends well and stays.
    fn thaw_and_check(mut self, newer: Cookie) {
        self.storage.thaw();
        if let Some(first) = &mut self.first {
            first.turn_until("the buffer of the write that hung", Clerk::is_idle);
        }
        let endings = self.second.turn_until("the newer write", Clerk::is_idle);
        assert!(matches!(endings.as_slice(), [(cookie, Ok(()))] if *cookie == newer), "{endings:?}");
        assert_eq!(self.volume.status().ghosts, 0);
        self.second.read_all(BLOCKS, 32);
        self.second.read_all(BLOCKS, FREEZING);
        self.finish();
    }

    /// Closes what is left, and checks the storage against the books.
    fn finish(mut self) {
        let settled = self.volume.close(Duration::ZERO);
        for mut clerk in self.first.take().into_iter().chain([self.second]) {
            clerk.clear_shelf();
            clerk.leave();
        }
        assert!(settled.wait(PATIENCE), "the volume does not close");
        assert_eq!(self.pool.available(), BUFFERS as usize, "every buffer is back");
        self.ledger.check_content(&self.storage.content());
        assert_eq!(self.ledger.complaints(), [] as [String; 0]);
    }
}

fn extent(start: u64, blocks: u32) -> Extent {
    Extent::new(Lba::new(start), BlockCount::new(blocks)).unwrap()
}

fn the_one(endings: Vec<Ending>, cookie: Cookie) -> Error {
    match <[Ending; 1]>::try_from(endings) {
        Ok([(ended, Err(error))]) if ended == cookie => error,
        other => panic!("{cookie:?} should have failed: {other:?}"),
    }
}

#[test]
fn a_write_cancelled_while_it_is_frozen_never_lands_over_a_newer_one() {
    let Some(mut rig) = Rig::new() else { return };
    let older = rig.hang(None);
    let error = the_one(rig.first().cancel(older), older);
    assert!(matches!(error, Error::Cancelled { fate: Fate::Unknown }), "{error}");
    assert!(rig.first().quarantined().contains(&older), "the kernel can still touch its buffer");
    let newer = rig.submit_newer();
    assert!(rig.first().turn().is_empty());
    assert!(rig.first().quarantined().contains(&older), "the kernel can still touch its buffer");
    rig.thaw_and_check(newer);
}

#[test]
fn a_write_past_its_deadline_while_it_is_frozen_never_lands_over_a_newer_one() {
    let Some(mut rig) = Rig::new() else { return };
    let older = rig.hang(Some(Duration::from_millis(50)));
    let endings = rig.first().turn_until("the deadline", |clerk| clerk.open().is_empty());
    let error = the_one(endings, older);
    assert!(matches!(error, Error::DeadlineExceeded { fate: Fate::Unknown }), "{error}");
    let newer = rig.submit_newer();
    rig.thaw_and_check(newer);
}

#[test]
fn a_write_of_a_queue_dropped_while_it_is_frozen_never_lands_over_a_newer_one() {
    let Some(mut rig) = Rig::new() else { return };
    rig.hang(None);
    rig.first.take().unwrap().leave();
    let newer = rig.submit_newer();
    rig.thaw_and_check(newer);
}

#[test]
fn a_volume_closed_while_it_is_frozen_ends_everything_and_settles_after_the_thaw() {
    let Some(mut rig) = Rig::new() else { return };
    let older = rig.hang(None);
    rig.first().submit(WRITE, extent(300, FREEZING), None).unwrap();
    rig.first().turn();
    rig.first().cancel(older);
    let newer = rig.submit_newer();
    let settled = rig.volume.close(Duration::from_millis(20));
    let endings = rig.first().turn_until("the grace", |clerk| clerk.open().is_empty());
    assert!(matches!(endings.as_slice(), [(_, Err(Error::Closed { fate: Fate::Unknown }))]), "{endings:?}");
    let endings = rig.second.turn_until("the grace", |clerk| clerk.open().is_empty());
    let error = the_one(endings, newer);
    assert!(matches!(error, Error::Closed { fate: Fate::NotSent }), "{error}");
    assert!(rig.second.submit(WRITE, extent(0, 1), None).is_none(), "it takes no more");
    assert!(!settled.wait(Duration::from_millis(100)), "the kernel still holds two writes");
    rig.storage.thaw();
    rig.first().turn_until("the buffers", Clerk::is_idle);
    rig.second.turn_until("the end", Clerk::is_idle);
    assert!(settled.wait(PATIENCE), "it does not settle");
    rig.finish();
}
