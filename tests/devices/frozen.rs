//! Writes that hang in the kernel, below the path, and land after they were given up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mpio::path::QueueIndex;
use mpio::policy::RoundRobin;
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
/// More requests than the frozen path takes from one queue.
const WINDOW: usize = 120;

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
        Self::suspecting_after(PATIENCE)
    }

    fn suspecting_after(age: Duration) -> Option<Self> {
        let storage = Freezable::required()?;
        let pool = Pool::new(64 * BLOCK_SIZE, BUFFERS).unwrap();
        let policy = pinned::by_size(FREEZING * BLOCK_SIZE);
        let builder =
            Volume::builder().queues(2).pool(&pool).suspect_after(age).late_after(age).policy(policy);
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
        let clerk = &mut self.second;
        let newer = clerk.submit(WRITE, extent(108, 24), None).unwrap();
        let others = [
            clerk.submit(WRITE, extent(200, 24), None).unwrap(),
            clerk.submit(Operation::Flush, Extent::NONE, None).unwrap(),
            clerk.submit(Operation::Read, extent(96, 48), None).unwrap(),
        ];
        let endings = clerk
            .turn_until("what may go on", |clerk| others.iter().all(|other| !clerk.open().contains(other)));
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
    let older = rig.hang(Some(Duration::from_secs(2)));
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

/// Requests of each kind that must end on the open way while the other is frozen and full.
const PROGRESS: usize = 500;

/// Reads, writes and flushes on `clerk`, until so many of each have ended well; they take the open way.
fn progress(clerk: &mut Clerk) {
    for round in 0..PROGRESS {
        let start = (round as u64 * 8) % 1024;
        let mut open = BTreeSet::new();
        open.extend(clerk.submit(WRITE, extent(start, 8), None));
        open.extend(clerk.submit(Operation::Read, extent(start, 32), None));
        open.extend(clerk.submit(Operation::Flush, Extent::NONE, None));
        assert_eq!(open.len(), 3, "no room");
        let endings = clerk.turn_until("the open way", |clerk| open.is_disjoint(clerk.open()));
        assert!(endings.iter().all(|(_, result)| result.is_ok()), "{endings:?}");
    }
}

#[test]
fn a_frozen_path_with_a_full_queue_stops_no_read_write_or_flush_on_another() {
    let Some(mut rig) = Rig::new() else { return };
    rig.storage.freeze();
    let depth = fill(&mut rig);
    // Half of what it takes from one queue.
    assert!(depth > 8, "only {depth} attempts are on the frozen path");
    progress(rig.first());
    progress(&mut rig.second);
    assert_eq!(rig.first().open().len(), depth, "all of them still hang");
    rig.storage.thaw();
    let endings = rig.first().turn_until("what hung", Clerk::is_idle);
    assert!(endings.len() == depth && endings.iter().all(|(_, result)| result.is_ok()), "{endings:?}");
    rig.finish();
}

/// Writes the freezing way, each to blocks of its own, until it takes no more from the first queue; how many it took.
fn fill(rig: &mut Rig) -> usize {
    let starts = (1024..BLOCKS).step_by(FREEZING as usize);
    for (taken, start) in starts.enumerate() {
        let cookie = rig.first().submit(WRITE, extent(start, FREEZING), None).unwrap();
        let mut endings = rig.first().turn();
        while endings.is_empty() && rig.volume.status().paths[1].in_flight() > 0 {
            endings = rig.first().turn();
        }
        if let Some((ended, result)) = endings.into_iter().next() {
            // The frozen path takes no more: it went the open way.
            assert!(ended == cookie && result.is_ok(), "{result:?}");
            return taken;
        }
    }
    panic!("the frozen path is never full");
}

#[test]
fn round_robin_goes_on_when_one_of_two_paths_freezes() {
    let Some(mut rig) = Rig::new() else { return };
    rig.volume.set_policy(RoundRobin::default()).unwrap();
    rig.storage.freeze();
    let mut done = 0;
    let mut start = 0;
    let mut places = BTreeMap::new();
    while done < 4 * PROGRESS {
        let clerk = rig.first();
        places.retain(|_, cookie| clerk.open().contains(cookie));
        // Enough to fill the frozen path with some to spare; never over one that hangs, which would wait for it.
        while clerk.open().len() < WINDOW {
            start = (start + 8) % 2000;
            let write = || clerk.submit(WRITE, extent(start, 8), None).unwrap();
            places.entry(start).or_insert_with(write);
        }
        let endings = clerk.turn_until("the open way", |clerk| clerk.open().len() < WINDOW);
        assert!(endings.iter().all(|(_, result)| result.is_ok()), "{endings:?}");
        done += endings.len();
    }
    rig.storage.thaw();
    rig.first().turn_until("what hung", Clerk::is_idle);
    rig.finish();
}

#[test]
fn a_read_behind_a_frozen_write_is_answered_the_open_way() {
    let Some(mut rig) = Rig::suspecting_after(Duration::from_millis(50)) else { return };
    let write = rig.hang(None);
    let read = rig.first().submit(Operation::Read, extent(100, FREEZING), None).unwrap();
    let endings = rig.first().turn_until("the read", |clerk| !clerk.open().contains(&read));
    assert!(matches!(endings.as_slice(), [(cookie, Ok(()))] if *cookie == read), "{endings:?}");
    assert!(rig.first().open().contains(&write), "its fate is unknown, and there is no fence");
    rig.storage.thaw();
    let endings = rig.first().turn_until("the write", Clerk::is_idle);
    assert!(matches!(endings.as_slice(), [(cookie, Ok(()))] if *cookie == write), "{endings:?}");
    rig.finish();
}
