//! A volume over one block device against the bare `io_uring` loop and `fio`, on a loop device over a tmpfs file: 4 KiB
//! random reads and writes, one thread. The contestants take turns within each round, ratios are per round.
//!
//! Needs root (for the loop device) and, for its third contestant, `fio`:
//! `cargo bench --bench block_device [-- --rounds 7 --millis 500]`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench ends where it fails")]
#![allow(unsafe_code, reason = "the bare loop is what a careful user would write by hand")]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "figures for a table")]
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod bare;
mod device;
mod fio;
mod volume;

use std::time::Duration;

pub(crate) const BLOCK: u32 = 4096;
pub(crate) const BLOCKS: u64 = 65_536;

/// What is asked of every contestant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) write: bool,
    pub(crate) depth: u32,
    pub(crate) span: Duration,
}

/// What a contestant did in one turn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Score {
    /// I/Os per second.
    pub(crate) iops: f64,
    /// User CPU of its thread, nanoseconds per I/O.
    pub(crate) user: f64,
    /// System CPU of its thread, nanoseconds per I/O.
    pub(crate) system: f64,
}

impl Score {
    /// `before` and `after` are CPU times as [`cpu`] gives them.
    pub(crate) fn new(
        ios: u64,
        wall: Duration,
        before: (Duration, Duration),
        after: (Duration, Duration),
    ) -> Self {
        let each =
            |from: Duration, to: Duration| to.saturating_sub(from).as_nanos() as f64 / ios.max(1) as f64;
        let (user, system) = (each(before.0, after.0), each(before.1, after.1));
        Self { iops: ios as f64 / wall.as_secs_f64(), user, system }
    }
}

/// Block numbers without end: xorshift, the same for all.
pub(crate) struct Blocks(u64);

impl Blocks {
    pub(crate) const fn new() -> Self {
        Self(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % BLOCKS
    }
}

/// User and system time of this thread.
pub(crate) fn cpu() -> (Duration, Duration) {
    // SAFETY: all zeroes is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid place for the result.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(time.tv_usec.unsigned_abs())
    };
    (time(usage.ru_utime), time(usage.ru_stime))
}

struct Row {
    name: &'static str,
    run: fn(&str, Task) -> Option<Score>,
}

const CONTESTANTS: [Row; 3] = [
    Row { name: "bare loop", run: |device, task| Some(bare::run(device, task)) },
    Row { name: "fio", run: fio::run },
    Row { name: "volume", run: |device, task| Some(volume::run(device, task)) },
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let full = arguments.iter().any(|argument| argument == "--bench");
    let number = |name: &str, otherwise: u64| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(otherwise)
    };
    let rounds = number("--rounds", if full { 7 } else { 1 });
    let span = Duration::from_millis(number("--millis", if full { 500 } else { 20 }));
    let device = match device::Loop::over_tmpfs(u64::from(BLOCK) * BLOCKS) {
        Ok(device) => device,
        Err(reason) => {
            assert!(
                std::env::var_os("MPIO_REQUIRE").is_none_or(|value| value != "all"),
                "required: {reason}"
            );
            return println!("skipped: {reason}");
        }
    };
    println!("{} rounds of {} ms on {}, {BLOCK} bytes, random", rounds, span.as_millis(), device.node());
    println!(
        "{:>6} {:>5}  {:<10} {:>9} {:>17} {:>9} {:>9}",
        "", "depth", "", "k IOPS", "against the best", "user ns", "sys ns"
    );
    for write in [false, true] {
        for depth in [1, 16, 64] {
            contest(device.node(), Task { write, depth, span }, rounds);
        }
    }
}

/// All contestants in turn, `rounds` times; who begins rotates.
fn contest(device: &str, task: Task, rounds: u64) {
    let mut scores: [Vec<Score>; CONTESTANTS.len()] = Default::default();
    for round in 0..rounds {
        for turn in 0..CONTESTANTS.len() {
            let who = (turn + round as usize) % CONTESTANTS.len();
            scores[who].extend((CONTESTANTS[who].run)(device, task));
        }
    }
    let [bare, fio, ours] = &scores;
    let ratios: Vec<f64> = ours
        .iter()
        .enumerate()
        .map(|(round, ours)| ours.iops / fio.get(round).map_or(0.0, |fio| fio.iops).max(bare[round].iops))
        .collect();
    for (row, scores) in CONTESTANTS.iter().zip(&scores) {
        if scores.is_empty() {
            continue;
        }
        let figure = |of: fn(&Score) -> f64| median(scores.iter().map(of).collect());
        let (iops, user, system) =
            (figure(|score| score.iops), figure(|score| score.user), figure(|score| score.system));
        let ratio = if row.name == "volume" { spread(&ratios) } else { String::new() };
        let what = if task.write { "write" } else { "read" };
        println!(
            "{what:>6} {:>5}  {:<10} {:>9.1} {ratio:>17} {user:>9.0} {system:>9.0}",
            task.depth,
            row.name,
            iops / 1000.0
        );
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// Median, least and most.
fn spread(ratios: &[f64]) -> String {
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    format!("{:.2} ({least:.2}-{most:.2})", median(ratios.to_vec()))
}
