//! Latency of one path while its neighbour is frozen and full, against the same path with an idle neighbour: read, write
//! and flush of 4 KiB, one at a time, on one queue that has both paths. The two situations take turns within each round,
//! ratios are per round; those of single rounds scatter, as it costs ten times as much to wake a core that sleeps.
//!
//! Needs root, losetup, mkfs.ext4 and fsfreeze: `cargo bench --bench frozen [-- --rounds 41 --ios 100]`.

#![allow(clippy::cast_precision_loss, reason = "figures for a table")]
#![allow(clippy::unwrap_used, reason = "a bench ends where something fails")]

#[path = "../../tests/devices/anonymous.rs"]
mod anonymous;
#[allow(dead_code, reason = "content is for tests")]
#[path = "../../tests/devices/freezable.rs"]
mod freezable;
#[allow(dead_code, reason = "each crate that takes it in uses part of it")]
#[path = "../../tests/support/mount.rs"]
mod mount;
#[path = "../../tests/devices/pinned.rs"]
mod pinned;
#[allow(dead_code, reason = "each crate that takes it in uses part of it")]
#[path = "../../src/testing_support.rs"]
mod testing_support;

use std::time::Duration;

use mpio::path::QueueIndex;
use mpio::{BlockCount, Completion, Cookie, Durability, Extent, Lba, Pool, Queue, Request, Tick, Volume};

use freezable::Freezable;

/// Blocks of an I/O that is measured, and of one that takes the freezing path.
const MEASURED: u32 = 8;
const FREEZING: u32 = 16;
/// The writes that hang, and those that are measured, keep to a half each.
const HALF: u64 = freezable::BYTES / 512 / 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    Flush,
}

const KINDS: [Kind; 3] = [Kind::Read, Kind::Write, Kind::Flush];

/// Median latency of each kind, in microseconds.
type Medians = [f64; KINDS.len()];

struct Bench {
    queue: Queue,
    pool: Pool,
    storage: Freezable,
    completions: Vec<Completion>,
    next: u64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let full = arguments.iter().any(|argument| argument == "--bench");
    let number = |name: &str, otherwise: usize| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(otherwise)
    };
    let (rounds, ios) =
        (number("--rounds", if full { 41 } else { 1 }), number("--ios", if full { 100 } else { 20 }));
    let Some(storage) = Freezable::required() else { return };
    let mut bench = Bench::new(storage);
    let (mut alone, mut beside, mut hanging) = (Vec::new(), Vec::new(), 0);
    for round in 0..rounds {
        if round % 2 == 0 {
            alone.push(bench.measure(ios));
        }
        hanging = bench.freeze();
        beside.push(bench.measure(ios));
        bench.thaw(hanging);
        if round % 2 == 1 {
            alone.push(bench.measure(ios));
        }
    }
    println!("{rounds} rounds of {ios} I/Os of each kind; {hanging} writes hang on the frozen path");
    println!("{:<6} {:>9} {:>10} {:>18}", "", "idle, us", "frozen, us", "ratio");
    for (kind, name) in KINDS.iter().enumerate() {
        let of = |medians: &[Medians]| medians.iter().map(|medians| medians[kind]).collect::<Vec<f64>>();
        let (alone, beside) = (of(&alone), of(&beside));
        let ratios: Vec<f64> = beside.iter().zip(&alone).map(|(beside, alone)| beside / alone).collect();
        let name = format!("{name:?}").to_lowercase();
        println!("{name:<6} {:>9.1} {:>10.1} {:>18}", median(alone), median(beside), spread(ratios));
    }
}

impl Bench {
    fn new(storage: Freezable) -> Self {
        let pool = Pool::new(FREEZING * 512, 200).unwrap();
        // Nothing is looked into while it hangs: the neighbour is silent, and nobody knows yet.
        let builder = Volume::builder()
            .pool(&pool)
            .suspect_after(Duration::from_hours(1))
            .late_after(Duration::from_hours(1));
        let volume = storage.add_paths(builder.policy(pinned::by_size(FREEZING * 512))).build().unwrap();
        let queue = volume.take_queue(QueueIndex(0)).unwrap();
        Self { queue, pool, storage, completions: Vec::new(), next: 0 }
    }

    /// Freezes one path and fills it; how many writes hang there.
    fn freeze(&mut self) -> usize {
        self.storage.freeze();
        loop {
            let extent = self.extent(HALF, FREEZING);
            self.submit_write(extent);
            let waited = Tick::now().after(Duration::from_millis(2));
            self.queue.wait(Some(waited), &mut self.completions);
            if let Some(completion) = self.completions.pop() {
                // There was no more room: it took the other path.
                completion.result.unwrap();
                return self.queue.len();
            }
        }
    }

    fn thaw(&mut self, hanging: usize) {
        self.storage.thaw();
        while self.completions.len() < hanging {
            self.queue.wait(None, &mut self.completions);
        }
        for completion in self.completions.drain(..) {
            completion.result.unwrap();
        }
        // What was completed there is flushed now: or else each flush beside the frozen path would wait for it.
        self.queue.submit(Request::flush(Cookie(0))).unwrap();
        self.finish();
    }

    fn measure(&mut self, ios: usize) -> Medians {
        KINDS.map(|kind| {
            let latencies = (0..ios).map(|_| self.one(kind).as_nanos() as f64 / 1000.0);
            median(latencies.collect())
        })
    }

    /// Does one and waits for it.
    fn one(&mut self, kind: Kind) -> Duration {
        let extent = self.extent(0, MEASURED);
        if kind == Kind::Flush {
            // Without it there would be nothing to flush.
            self.submit_write(extent);
            self.finish();
        }
        let start = Tick::now();
        match kind {
            Kind::Read => {
                let buffer = self.pool.take(MEASURED * 512).unwrap();
                self.queue.submit(Request::read(extent, buffer, Cookie(0))).unwrap();
            }
            Kind::Write => self.submit_write(extent),
            Kind::Flush => self.queue.submit(Request::flush(Cookie(0))).unwrap(),
        }
        self.finish();
        Tick::now().since(start)
    }

    fn submit_write(&mut self, extent: Extent) {
        let buffer = self.pool.take(extent.blocks().get() * 512).unwrap();
        self.queue.submit(Request::write(extent, buffer, Durability::Cached, Cookie(0))).unwrap();
    }

    fn finish(&mut self) {
        while self.completions.is_empty() {
            self.queue.wait(None, &mut self.completions);
        }
        for completion in self.completions.drain(..) {
            completion.result.unwrap();
        }
    }

    /// The next `blocks` blocks of the half that begins at `start`, round and round.
    fn extent(&mut self, start: u64, blocks: u32) -> Extent {
        self.next += 1;
        let places = HALF / u64::from(blocks);
        let first = start + self.next % places * u64::from(blocks);
        Extent::new(Lba::new(first), BlockCount::new(blocks)).unwrap()
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// Median, and the quartiles around it.
fn spread(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(f64::total_cmp);
    let quarter = |nth: usize| ratios.get(ratios.len() * nth / 4).copied().unwrap_or_default();
    format!("{:.2} ({:.2}-{:.2})", quarter(2), quarter(1), quarter(3))
}
