//! A station that the test itself turns, step by step.

use crossbeam::channel::Receiver;

use super::door::Asked;
use super::station::Station;
use super::*;
use crate::block::{BlockCount, Extent, Lba};
use crate::buffer::Buffer;
use crate::io::{Completion, Cookie, Durability, Memory, QueueIndex, Request};
use crate::path::{BlockDevice, FaultHandle, Faulty, Stall};
use crate::testing_support::TempDir;
use crate::time::Tick;
use crate::volume::{Response, Volume};

const BLOCK: u32 = 4096;
const BUFFERS: usize = 64;

struct Rig {
    station: Station,
    faults: FaultHandle,
    pool: Pool,
    completions: Vec<Completion>,
    served: Option<Served>,
    commands: Receiver<Command>,
    _volume: Volume,
    _directory: TempDir,
}

impl Rig {
    fn new(depth: u32) -> Self {
        let directory = TempDir::in_memory();
        let file = directory.file("disk", 64 * u64::from(BLOCK));
        let (path, faults) = Faulty::new(BlockDevice::new(file).block_size(BLOCK), 1);
        let volume = Volume::builder().path(path).queue_depth(depth).build().unwrap();
        let queue = volume.take_queue(QueueIndex(0)).unwrap();
        let (geometry, limits) = (queue.live_geometry(), queue.limits());
        let (sender, commands) = unbounded();
        let line = Line { commands: sender, bell: Bell::new(None) };
        let served = Some(Served { tenancy: Arc::new(Tenancy { number: 0, line }), geometry, limits });
        let pool = Pool::with_reserve(BLOCK, u32::try_from(BUFFERS).unwrap(), 0).unwrap();
        Self {
            station: Station::new(0, queue),
            faults,
            pool,
            completions: Vec::new(),
            served,
            commands,
            _volume: volume,
            _directory: directory,
        }
    }

    fn served(&self) -> &Served {
        self.served.as_ref().unwrap()
    }

    /// One turn, as the thread does it; whether it did anything.
    fn turn(&mut self) -> bool {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Open(_, door) => self.station.open(door),
                Command::Leave(_) => self.station.leave(),
                Command::Serve(..) => unreachable!("the test has the queue"),
            }
        }
        self.station.turn(Tick::now(), &mut self.completions).busy
    }

    /// Turns until there is nothing to do and the thread would sleep.
    fn rest(&mut self) {
        let patience = Tick::now().after(std::time::Duration::from_secs(10));
        while self.turn() || self.station.has_news() {
            assert!(Tick::now() < patience, "the thread would neither get anything done nor sleep");
        }
    }

    /// Fills the queue with requests of this lane that hang.
    fn fill(&mut self, lane: &mut Submitter) {
        self.rest();
        self.faults.stall(Stall::Late);
        while !self.station.queue().is_full() {
            lane.submit(self.read(1)).unwrap();
            self.turn();
        }
        self.rest();
    }

    fn read(&self, cookie: u64) -> Request {
        Request::read(extent(), self.pool.take(BLOCK).unwrap(), Cookie(cookie))
    }
}

fn extent() -> Extent {
    Extent::new(Lba::new(0), BlockCount::new(1)).unwrap()
}

/// A door through which the same requests come for ever, and end at once.
struct Flood {
    left: u64,
    /// How many it let in.
    taken: Arc<AtomicU64>,
}

impl Door for Flood {
    fn next(&mut self) -> Option<Asked> {
        self.left = self.left.checked_sub(1)?;
        self.taken.fetch_add(1, Ordering::Relaxed);
        Some(Asked::Request(Request::flush(Cookie(0)).with_deadline(Tick::from_nanos(1))))
    }

    fn is_empty(&self) -> bool {
        self.left == 0
    }

    fn is_left(&self) -> bool {
        false
    }

    fn end(&mut self, _number: u32, result: Result<(), Error>, _memory: Memory) {
        assert!(matches!(result, Err(Error::DeadlineExceeded { .. })));
    }

    fn release(&mut self, _number: u32, _buffer: Buffer) {}

    fn expire(&mut self, _now: Tick) -> Option<Tick> {
        None
    }

    fn is_unread(&self) -> bool {
        false
    }

    fn notify(&mut self) {}
}

#[test]
fn a_flood_that_always_finds_room_for_its_share_does_not_keep_others_out() {
    for depth in [31, 32, 33, 64] {
        let mut rig = Rig::new(depth);
        let taken: Vec<_> =
            [u64::MAX, 5, u64::MAX, 1].into_iter().map(|left| flood(&mut rig, left)).collect();
        for _ in 0..8 {
            rig.turn();
        }
        let taken: Vec<_> = taken.iter().map(|taken| taken.load(Ordering::Relaxed)).collect();
        assert_eq!([taken[1], taken[3]], [5, 1], "at a depth of {depth}: {taken:?}");
        assert!(taken[0].abs_diff(taken[2]) <= 2 * u64::from(depth), "at a depth of {depth}: {taken:?}");
    }
}

fn flood(rig: &mut Rig, left: u64) -> Arc<AtomicU64> {
    let taken = Arc::new(AtomicU64::new(0));
    rig.station.open(Box::new(Flood { left, taken: Arc::clone(&taken) }));
    taken
}

#[test]
fn a_door_that_is_left_is_closed_though_the_queue_is_full() {
    let mut rig = Rig::new(2);
    let (mut lane, other) = (rig.served().submitter(2).unwrap(), rig.served().submitter(2).unwrap());
    let client = rig.served().client_with_pool(1, &Pool::new(BLOCK, 1).unwrap()).unwrap();
    rig.fill(&mut lane);
    drop(other);
    rig.rest();
    drop(client);
    rig.rest();
    rig.faults.restore();
}

#[test]
fn what_comes_while_the_queue_is_full_lets_the_thread_sleep() {
    let mut rig = Rig::new(2);
    let (mut lane, mut other) = (rig.served().submitter(8).unwrap(), rig.served().submitter(8).unwrap());
    rig.fill(&mut lane);
    other.submit(rig.read(7)).unwrap();
    rig.rest();
    assert_eq!(other.cancel(Cookie(7)), 1);
    rig.rest();
    let mut completions = Vec::new();
    other.poll(&mut completions);
    assert!(matches!(completions[0].result, Err(Error::Cancelled { fate: Fate::NotSent })));
    other.submit(rig.read(8)).unwrap();
    drop(other);
    rig.rest();
    rig.faults.restore();
}

#[test]
fn what_the_thread_must_not_sleep_over_is_news() {
    let mut rig = Rig::new(2);
    let [mut lane, mut other, third, fourth] = [(); 4].map(|()| rig.served().submitter(8).unwrap());
    let client = rig.served().client_with_pool(4, &Pool::new(BLOCK, 1).unwrap()).unwrap();
    rig.rest();
    lane.submit(rig.read(1)).unwrap();
    assert!(rig.station.has_news(), "a request");
    rig.rest();
    drop(third);
    assert!(rig.station.has_news(), "a door that was left");
    rig.fill(&mut lane);
    other.submit(rig.read(2)).unwrap();
    assert!(rig.station.has_news(), "there may be a cancel, or a deadline");
    rig.rest();
    let response = client.flush();
    assert!(rig.station.has_news(), "there may be a deadline");
    rig.rest();
    drop(fourth);
    assert!(rig.station.has_news(), "a door that was left while the queue is full");
    rig.rest();
    rig.faults.restore();
    drop(response);
}

#[test]
fn what_ends_before_a_full_queue_wakes_its_submitter() {
    let mut rig = Rig::new(2);
    let mut lane = rig.served().submitter(8).unwrap();
    rig.fill(&mut lane);
    let mut completions = Vec::new();
    let deadline = Tick::now().after(std::time::Duration::from_millis(500));
    for request in [rig.read(7).with_deadline(deadline), rig.read(8)] {
        lane.submit(request).unwrap();
        rig.turn();
        lane.cancel(Cookie(8));
        lane.wake_fd();
        lane.poll(&mut completions);
        assert!(completions.is_empty());
        let patience = Tick::now().after(std::time::Duration::from_secs(10));
        while !is_readable(&mut lane) {
            rig.turn();
            assert!(Tick::now() < patience, "nobody rang");
        }
        lane.poll(&mut completions);
        assert!(completions.pop().unwrap().result.is_err());
    }
    rig.faults.restore();
}

fn is_readable(lane: &mut Submitter) -> bool {
    let mut polled = [crate::os::polled(Some(lane.wake_fd()))];
    crate::os::sleep_on(&mut polled, Some(Tick::ZERO));
    polled[0].revents != 0
}

#[test]
fn whatever_there_is_to_do_for_the_thread_wakes_it() {
    let mut rig = Rig::new(4);
    let bell = Arc::clone(rig.served().bell());
    let rings = |what: &str, act: &mut dyn FnMut()| {
        bell.arm();
        act();
        assert!(!bell.is_armed(), "{what}");
    };
    let served = rig.served.take().unwrap();
    let (mut lane, mut client) = (None, None);
    rings("a door", &mut || lane = Some(served.submitter(4).unwrap()));
    rings("a client's door", &mut || client = Some(served.client(4).unwrap()));
    let (mut lane, client) = (lane.unwrap(), client.unwrap());
    rings("a request", &mut || lane.submit(rig.read(1)).unwrap());
    rings("a cancel", &mut || assert_eq!(lane.cancel(Cookie(1)), 1));
    rings("a client's request", &mut || drop(client.flush()));
    let (mut lane, mut client, mut served) = (Some(lane), Some(client), Some(served));
    rings("a submitter goes", &mut || lane = None);
    rings("the last client goes", &mut || client = None);
    rings("nobody can open a door", &mut || served = None);
    while !rig.station.is_over() {
        rig.turn();
    }
}

#[test]
fn a_station_that_fails_ends_what_it_had_and_what_it_had_not() {
    let mut rig = Rig::new(2);
    let mut lane = rig.served().submitter(8).unwrap();
    let client = rig.served().client_with_pool(4, &Pool::new(BLOCK, 1).unwrap()).unwrap();
    rig.fill(&mut lane);
    lane.submit(rig.read(2)).unwrap();
    // This one waits at the door, the next is in the lane.
    rig.rest();
    let mut idle = rig.served().submitter(1).unwrap();
    rig.rest();
    lane.submit(rig.read(3)).unwrap();
    let waits = client.flush();
    let Rig { station, faults, served, .. } = rig;
    drop(station);
    assert!(is_readable(&mut idle), "who asks for the descriptor late learns of the end");
    let mut completions = Vec::new();
    while !lane.is_finished() {
        lane.wait(None, &mut completions);
    }
    lane.wait(None, &mut completions);
    completions.sort_unstable_by_key(|completion| completion.cookie);
    let expected = [(1, Fate::Unknown), (1, Fate::Unknown), (2, Fate::NotSent), (3, Fate::NotSent)];
    assert_eq!(completions.len(), expected.len());
    for (end, (cookie, expected)) in completions.iter().zip(expected) {
        assert_eq!(end.cookie, Cookie(cookie));
        assert!(matches!(end.result, Err(Error::Closed { fate }) if fate == expected), "{end:?}");
        assert_eq!(matches!(end.memory, Memory::Returned(_)), expected == Fate::NotSent, "{end:?}");
    }
    assert!(matches!(waits.wait().result, Err(Error::Closed { fate: Fate::NotSent })));
    faults.restore();
    drop(served);
}

/// What a test's user has in hand at some time.
struct Hands {
    lanes: Vec<Submitter>,
    client: Option<Client>,
    responses: Vec<Response>,
    chance: u64,
}

impl Hands {
    fn below(&mut self, bound: usize) -> usize {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.chance >> 33).unwrap() % bound
    }

    /// Does something.
    fn act(&mut self, rig: &Rig) {
        let some = self.below(4);
        match self.below(12) {
            0 if self.lanes.len() < 6 => self.lanes.push(rig.served().submitter(5).unwrap()),
            1 if self.lanes.len() > some => drop(self.lanes.swap_remove(some)),
            2 | 3 => {
                let cookie = Cookie(self.below(4) as u64);
                if let Some(lane) = self.lanes.get_mut(some) {
                    lane.cancel(cookie);
                }
            }
            4 => rig.faults.stall(Stall::Late),
            5 => rig.faults.restore(),
            6 if self.responses.len() > some => drop(self.responses.swap_remove(some)),
            7 | 8 => {
                if let Some(client) = &self.client {
                    self.responses.push(client.flush());
                    let write = rig.pool.take(BLOCK);
                    let write = write.map(|buffer| client.write(extent(), buffer, Durability::Cached));
                    self.responses.extend(write);
                }
            }
            _ => {
                let cookie = self.below(4) as u64;
                let buffer = rig.pool.take(BLOCK);
                let (Some(lane), Some(buffer)) = (self.lanes.get_mut(some), buffer) else { return };
                let request = Request::read(extent(), buffer, Cookie(cookie));
                let deadline = Tick::now().after(std::time::Duration::from_micros(some as u64 * 50));
                let _ = lane.submit(if some == 0 { request } else { request.with_deadline(deadline) });
            }
        }
    }

    fn look(&mut self) {
        let mut completions = Vec::new();
        for lane in &mut self.lanes {
            lane.poll(&mut completions);
            while lane.poll_released().is_some() {}
        }
    }
}

#[test]
fn whatever_is_done_the_thread_comes_to_rest_and_nothing_is_lost() {
    for seed in 0..8 {
        let mut rig = Rig::new(4);
        let client = rig.served().client_with_pool(3, &Pool::new(BLOCK, 1).unwrap()).unwrap();
        let mut hands =
            Hands { lanes: Vec::new(), client: Some(client), responses: Vec::new(), chance: seed };
        for _ in 0..1500 {
            hands.act(&rig);
            if hands.below(3) == 0 {
                rig.rest();
            }
            if hands.below(5) == 0 {
                hands.look();
            }
        }
        rig.faults.restore();
        drop(hands);
        rig.served = None;
        let patience = Tick::now().after(std::time::Duration::from_secs(30));
        while !rig.station.is_over() {
            rig.turn();
            assert!(Tick::now() < patience, "seed {seed}: something never ends");
        }
        assert_eq!(rig.pool.available(), BUFFERS, "seed {seed}");
    }
}
