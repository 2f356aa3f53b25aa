//! A volume under test, its one queue, and what it said.

use std::time::Duration;

use mpio::path::{AccessState, QueueIndex};
use mpio::policy::Failover;
use mpio::{
    BlockCount, Buffer, Completion, Cookie, Durability, Error, Event, Events, Extent, Health, Lba, Memory,
    NoPath, PathOptions, PathStatus, Pool, Queue, Request, Tick, Volume, VolumeBuilder,
};

use crate::script::{BLOCK, Medium, Place, Script, TRANSFER, medium};
use crate::scripted::Scripted;

/// How often a loop turns before the test fails: each turn sleeps for [`TURN`] at most.
const TURNS: usize = 4_000;
const TURN: Duration = Duration::from_millis(5);

/// Longest that anything else is waited for.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// Time after which silence counts against a path, in every volume here.
pub(crate) const PATIENCE: Duration = Duration::from_millis(20);
/// How long requests wait for a path.
pub(crate) const HOLD: Duration = Duration::from_millis(300);

/// A volume that is quick to notice and quick to look again, and prefers the path of the lowest rank.
pub(crate) fn builder() -> VolumeBuilder {
    Volume::builder()
        .policy(Failover::new())
        .suspect_after(PATIENCE)
        .probe_interval(Duration::from_millis(5))
        .no_path(NoPath::hold(HOLD))
}

pub(crate) fn rank(rank: u32) -> PathOptions {
    PathOptions::new().rank(rank)
}

pub(crate) fn extent(start: u64, blocks: u32) -> Extent {
    Extent::new(Lba::new(start), BlockCount::new(blocks)).unwrap()
}

/// The message of what must fail.
pub(crate) fn refusal<T>(result: Result<T, Error>) -> String {
    result.err().expect("refused").to_string()
}

/// Asserts that `text` has all of `parts`.
#[track_caller]
pub(crate) fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
}

/// Waits, in bounded time, until the path of `script` is gone.
#[track_caller]
pub(crate) fn assert_goes(script: &Script) {
    for _ in 0..BOUND.as_millis() {
        if script.calls(Place::DropPath) == 1 {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    panic!("the path was never dropped");
}

pub(crate) struct Rig {
    pub(crate) volume: Volume,
    pub(crate) queue: Queue,
    pub(crate) pool: Pool,
    events: Events,
    told: Vec<Event>,
    completions: Vec<Completion>,
    next: u64,
}

impl Rig {
    pub(crate) fn new(builder: VolumeBuilder) -> Self {
        let volume = builder.build().unwrap();
        let events = volume.events();
        let queue = volume.take_queue(QueueIndex(0)).unwrap();
        let pool = Pool::new(TRANSFER, 32).unwrap();
        Self { volume, queue, pool, events, told: Vec::new(), completions: Vec::new(), next: 1 }
    }

    /// One path.
    pub(crate) fn single(script: &Script) -> Self {
        Self::new(builder().path(Scripted::new("only", script)))
    }

    pub(crate) fn buffer(&self, blocks: u32, fill: u8) -> Buffer {
        let mut buffer = self.pool.take(blocks * BLOCK).unwrap();
        buffer.fill(fill);
        buffer
    }

    pub(crate) fn cookie(&mut self) -> Cookie {
        self.next += 1;
        Cookie(self.next)
    }

    /// Submits a write of `blocks` blocks of `fill`.
    pub(crate) fn start_write(&mut self, start: u64, blocks: u32, fill: u8) -> Cookie {
        let (buffer, cookie) = (self.buffer(blocks, fill), self.cookie());
        let request = Request::write(extent(start, blocks), buffer, Durability::Cached, cookie);
        self.queue.submit(request).unwrap();
        cookie
    }

    pub(crate) fn start_read(&mut self, start: u64, blocks: u32) -> Cookie {
        let (buffer, cookie) = (self.buffer(blocks, 0xa5), self.cookie());
        self.queue.submit(Request::read(extent(start, blocks), buffer, cookie)).unwrap();
        cookie
    }

    pub(crate) fn start_flush(&mut self) -> Cookie {
        let cookie = self.cookie();
        self.queue.submit(Request::flush(cookie)).unwrap();
        cookie
    }

    /// Turns the queue until `done` gives something.
    #[track_caller]
    pub(crate) fn until<T>(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        for _ in 0..TURNS {
            if let Some(found) = done(self) {
                return found;
            }
            self.turn();
        }
        let told: Vec<String> = self.told.iter().map(ToString::to_string).collect();
        panic!("{what}: not after {TURNS} turns; events were {told:#?}");
    }

    /// Waits until every path can be used again.
    #[track_caller]
    pub(crate) fn recovers(&mut self) {
        self.until("recovering", |rig| {
            let paths = rig.volume.status().paths;
            let usable =
                |path: &PathStatus| path.health == Health::Up && path.access == AccessState::Optimized;
            paths.iter().all(usable).then_some(())
        });
    }

    pub(crate) fn turn(&mut self) {
        if self.queue.is_finished() {
            // Then it does not sleep.
            std::thread::park_timeout(TURN);
        }
        self.queue.wait(Some(Tick::now().after(TURN)), &mut self.completions);
        self.listen();
    }

    fn listen(&mut self) {
        while let Some(event) = self.events.try_next() {
            self.told.push(event);
        }
    }

    /// The completion of `cookie`.
    #[track_caller]
    pub(crate) fn end(&mut self, cookie: Cookie) -> Completion {
        self.until("completing", |rig| {
            let place = rig.completions.iter().position(|completion| completion.cookie == cookie)?;
            Some(rig.completions.swap_remove(place))
        })
    }

    /// How `cookie` failed.
    #[track_caller]
    pub(crate) fn failure(&mut self, cookie: Cookie) -> Error {
        self.end(cookie).result.expect_err("fails")
    }

    /// Whether `cookie` has not been completed so far.
    pub(crate) fn is_out(&self, cookie: Cookie) -> bool {
        !self.completions.iter().any(|completion| completion.cookie == cookie)
    }

    #[track_caller]
    pub(crate) fn write(&mut self, start: u64, blocks: u32, fill: u8) {
        let cookie = self.start_write(start, blocks, fill);
        self.end(cookie).result.unwrap();
    }

    /// The one byte that all of the extent has.
    #[track_caller]
    pub(crate) fn read(&mut self, start: u64, blocks: u32) -> u8 {
        let cookie = self.start_read(start, blocks);
        fill_of(self.end(cookie))
    }

    /// The first event that says all of `parts`; waits for it.
    #[track_caller]
    pub(crate) fn event(&mut self, parts: &[&str]) -> String {
        self.until(&format!("an event with {parts:?}"), |rig| {
            let mut told = rig.told.iter().map(ToString::to_string);
            told.find(|text| parts.iter().all(|part| text.contains(part)))
        })
    }

    /// Whether an event said this so far.
    pub(crate) fn was_told(&mut self, part: &str) -> bool {
        self.listen();
        self.told.iter().any(|event| event.to_string().contains(part))
    }

    /// Forgets the events so far.
    pub(crate) fn forget_events(&mut self) {
        self.listen();
        self.told.clear();
    }

    /// Writes, reads back, flushes, over whatever paths there are.
    #[track_caller]
    pub(crate) fn serves(&mut self) {
        for block in 0..8 {
            let fill = u8::try_from(self.next % 251).unwrap() + 1;
            self.write(40 + 2 * block, 2, fill);
            assert_eq!(self.read(40 + 2 * block, 2), fill);
        }
        let flush = self.start_flush();
        self.end(flush).result.unwrap();
    }

    /// Closes the volume in good order, and checks that every path is gone and no completion is left over.
    #[track_caller]
    pub(crate) fn finish(mut self, scripts: &[&Script]) {
        let settled = self.volume.close(Duration::from_secs(10));
        self.until("finishing", |rig| rig.queue.is_finished().then_some(()));
        assert!(settled.wait(BOUND), "the volume never closed");
        assert!(self.completions.is_empty(), "{:?}", self.completions);
        for script in scripts {
            assert_eq!(script.calls(Place::DropPath), 1, "the path is gone, once");
        }
    }
}

/// The one byte that a successful read found.
#[track_caller]
pub(crate) fn fill_of(completion: Completion) -> u8 {
    completion.result.unwrap();
    let Memory::Returned(buffer) = completion.memory else { panic!("no memory") };
    assert!(buffer.iter().all(|&byte| byte == buffer[0]), "one fill");
    buffer[0]
}

/// A volume over a bad path, which is preferred, and a good one.
pub(crate) struct Pair {
    pub(crate) bad: Script,
    pub(crate) good: Script,
    pub(crate) rig: Rig,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::with(|_, _| {})
    }

    /// The scripts of both are changed before the volume is built.
    pub(crate) fn with(change: impl FnOnce(&Script, &Script)) -> Self {
        Self::of(builder(), change)
    }

    /// One that does not hold silence against a path.
    pub(crate) fn patient() -> Self {
        Self::of(builder().suspect_after(BOUND).late_after(BOUND), |_, _| {})
    }

    fn of(builder: VolumeBuilder, change: impl FnOnce(&Script, &Script)) -> Self {
        let medium: Medium = medium();
        let bad = Script::new("lun", "a", &medium);
        let good = Script::new("lun", "b", &medium);
        change(&bad, &good);
        let rig = Rig::new(
            builder
                .path_with(rank(0), Scripted::new("bad", &bad))
                .path_with(rank(1), Scripted::new("good", &good)),
        );
        Self { bad, good, rig }
    }

    /// The rest goes on, and everything ends in good order.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        self.rig.serves();
        assert!(self.rig.volume.status().paths.iter().any(|path| path.completed() > 0));
        self.rig.finish(&[&self.bad, &self.good]);
    }
}
