//! What one I/O costs between the caller and the path: submit, select, dispatch, complete, and the clock, which is read
//! once for each poll.
//!
//! `cargo bench --bench queue`
//!
//! Volumes over null paths, of each policy, take turns within every round, and so does a bare loop over the same
//! null device that does nothing but take turns among its paths: what the crate adds is the difference. Eight I/Os stay
//! out on every path (`failover` uses one path), 1 or 16 end between two polls, out of order.
//!
//! For each column: the median over all rounds of the processor time for each I/O, and from the tenth to the ninetieth
//! percentile. Ratios are taken within a round.

#![allow(clippy::expect_used, reason = "what fails here fails the bench")]

mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use mpio::policy::{AdaptiveLatency, Failover, LeastQueue, MakePolicy, RoundRobin};
use mpio::{BlockCount, Cookie, Extent, Lba, Tick};
use support::closed_loop::{ClosedLoop, Shape, WINDOW};
use support::null_path::{Answers, BLOCK, CAPACITY};
use support::shuffle::Shuffle;

const PATHS: [usize; 3] = [4, 8, 32];
const BATCHES: [usize; 2] = [16, 1];
const POLICIES: [&str; 4] = ["failover", "round-robin", "least-queue", "adaptive-latency"];
const BARE: &str = "bare loop";

/// I/Os of one contestant in one round: about two milliseconds.
const IOS: usize = 20_000;
const ROUNDS: usize = 60;

/// One of those that take turns.
struct Contestant {
    name: &'static str,
    paths: usize,
    batch: usize,
    course: Box<dyn Course>,
    /// Nanoseconds per I/O, one for each round.
    times: Vec<f64>,
}

/// What a contestant does.
trait Course {
    fn run(&mut self, ios: usize);
}

impl Course for ClosedLoop {
    fn run(&mut self, ios: usize) {
        ClosedLoop::run(self, ios);
    }
}

/// Reading the clock and nothing else.
struct Clock;

impl Course for Clock {
    fn run(&mut self, ios: usize) {
        for _ in 0..ios {
            black_box(Tick::now());
        }
    }
}

/// An I/O of the bare loop: as much as any caller has to keep of one.
struct Item {
    extent: Extent,
    cookie: Cookie,
    _buffer: Box<[u8]>,
}

/// A null device by itself, called as `dyn` and in batches, as path queues are.
trait Device {
    fn submit(&mut self, batch: &mut Vec<Item>);
    fn poll(&mut self, ended: &mut Vec<Item>);
}

impl Device for Shuffle<Item> {
    fn submit(&mut self, batch: &mut Vec<Item>) {
        for item in batch.drain(..) {
            self.put(item);
        }
    }

    fn poll(&mut self, ended: &mut Vec<Item>) {
        for _ in 0..self.ended() {
            ended.extend(self.take());
        }
    }
}

/// Paths in turns, and nothing else: no checks, no failures, no limits, no counters.
struct BareLoop {
    devices: Vec<Box<dyn Device>>,
    staged: Vec<Vec<Item>>,
    ended: Vec<Item>,
    turn: usize,
    next: u64,
}

impl BareLoop {
    fn new(paths: usize, batch: usize) -> Self {
        let out = paths * WINDOW + batch;
        let device = || Box::new(Shuffle::<Item>::new(WINDOW)) as Box<dyn Device>;
        let item = |_| Item {
            extent: Extent::NONE,
            cookie: Cookie(0),
            _buffer: vec![0; BLOCK as usize].into_boxed_slice(),
        };
        Self {
            devices: (0..paths).map(|_| device()).collect(),
            staged: (0..paths).map(|_| Vec::with_capacity(out)).collect(),
            ended: (0..out).map(item).collect(),
            turn: 0,
            next: 0,
        }
    }

    fn turn(&mut self) -> usize {
        black_box(Tick::now());
        let (mut touched, count) = (0_u64, self.ended.len());
        for mut item in self.ended.drain(..) {
            self.next = self.next.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let extent = Extent::new(Lba::new(self.next % CAPACITY), BlockCount::new(1));
            (item.extent, item.cookie) = (extent.expect("one block"), Cookie(self.next));
            self.staged[self.turn].push(item);
            touched |= 1 << self.turn;
            self.turn = (self.turn + 1) % self.devices.len();
        }
        while touched != 0 {
            let path = touched.trailing_zeros() as usize;
            touched &= touched - 1;
            self.devices[path].submit(&mut self.staged[path]);
            self.devices[path].poll(&mut self.ended);
        }
        count
    }
}

impl Course for BareLoop {
    fn run(&mut self, ios: usize) {
        let mut ended = 0;
        while ended < ios {
            ended += self.turn();
        }
    }
}

fn volume(policy: &str, paths: usize, batch: usize) -> Box<dyn Course> {
    fn course(policy: impl MakePolicy, used: usize, (paths, batch): (usize, usize)) -> Box<dyn Course> {
        let shape = Shape { paths, used, batch, depth: 0 };
        Box::new(ClosedLoop::new(policy, &shape, &Answers::BeyondWindow(WINDOW)))
    }
    match policy {
        "failover" => course(Failover::new(), 1, (paths, batch)),
        "round-robin" => course(RoundRobin::new(), paths, (paths, batch)),
        "least-queue" => course(LeastQueue::new(), paths, (paths, batch)),
        // A path that always keeps eight is the faster the more it is given: this policy would use no other.
        _ => {
            let answers = Answers::InLine { window: paths * WINDOW, arrivals: Arc::default() };
            let shape = Shape { paths, used: paths, batch, depth: 0 };
            Box::new(ClosedLoop::new(AdaptiveLatency::new(), &shape, &answers))
        }
    }
}

fn contestants() -> Vec<Contestant> {
    let mut contestants = Vec::new();
    let mut enter = |name, paths, batch, course| {
        contestants.push(Contestant { name, paths, batch, course, times: Vec::new() });
    };
    enter("clock", 0, 0, Box::new(Clock));
    for batch in BATCHES {
        for paths in PATHS {
            enter(BARE, paths, batch, Box::new(BareLoop::new(paths, batch)));
            for policy in POLICIES {
                enter(policy, paths, batch, volume(policy, paths, batch));
            }
        }
    }
    contestants
}

/// One round: everyone once.
fn round(contestants: &mut [Contestant], ios: usize) {
    for contestant in contestants {
        // Its memory is in the cache before the time counts.
        contestant.course.run(ios / 20);
        let began = processor_time();
        contestant.course.run(ios);
        let spent = processor_time().saturating_sub(began);
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        contestant.times.push(spent.as_nanos() as f64 / ios as f64);
    }
}

/// Median, and from the tenth to the ninetieth percentile.
fn spread(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let at = |percent: usize| sorted[(sorted.len() - 1) * percent / 100];
    format!("{:.digits$} ({:.digits$}..{:.digits$})", at(50), at(10), at(90))
}

fn report(contestants: &[Contestant]) {
    let find = |name: &str, paths, batch| {
        let is_it = |one: &&Contestant| (one.name, one.paths, one.batch) == (name, paths, batch);
        &contestants.iter().find(is_it).expect("everyone was entered").times
    };
    println!("clock: {} ns", spread(find("clock", 0, 0).iter().copied(), 1));
    for batch in BATCHES {
        println!("\nbatch {batch}, ns per I/O");
        print!("{:18}", "");
        for paths in PATHS {
            print!("{:24}", format!("{paths} paths"));
        }
        println!("{:24}to bare loop, 4 paths", "32 paths to 4");
        for name in std::iter::once(BARE).chain(POLICIES) {
            print!("{name:18}");
            for paths in PATHS {
                print!("{:24}", spread(find(name, paths, batch).iter().copied(), 1));
            }
            let ratio = |many: &[f64], few: &[f64]| spread(many.iter().zip(few).map(|(a, b)| a / b), 2);
            let few = find(name, PATHS[0], batch);
            let (growth, bare) =
                (ratio(find(name, PATHS[2], batch), few), ratio(few, find(BARE, PATHS[0], batch)));
            println!("{growth:24}{bare}");
        }
    }
}

/// What this thread has had of its processor: on a machine with other work, less than has passed. Nothing here sleeps.
#[allow(unsafe_code)]
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result; the call keeps no reference to it.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(status, 0, "every thread has this clock");
    Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_nanos(time.tv_nsec.unsigned_abs())
}

/// Keeps the thread where it is: what is measured should not wander between caches.
#[allow(unsafe_code)]
fn stay() {
    // SAFETY: the call takes no pointers.
    let cpu = unsafe { libc::sched_getcpu() };
    let Ok(cpu) = usize::try_from(cpu) else { return };
    let mut set = std::mem::MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: all zeroes are the empty set.
    let set = unsafe { set.assume_init_mut() };
    // SAFETY: the function checks its index.
    unsafe { libc::CPU_SET(cpu, set) };
    // SAFETY: `set` is a valid set of the size that is given. A refusal costs precision only.
    let _ = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) };
}

/// `cargo bench` says `--bench`; without it one short round shows that everything works.
fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let (rounds, ios) =
        if arguments.iter().any(|argument| argument == "--bench") { (ROUNDS, IOS) } else { (1, 200) };
    let mut contestants = contestants();
    stay();
    // A warm-up, and not counted.
    round(&mut contestants, ios);
    for contestant in &mut contestants {
        contestant.times.clear();
    }
    for _ in 0..rounds {
        round(&mut contestants, ios);
    }
    report(&contestants);
}
