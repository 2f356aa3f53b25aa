//! What one `select` costs, through `dyn`, with the engine's count of what is out kept up to date.
//!
//! `cargo bench --bench policy --features testing`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench ends where it fails")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use mpio::policy::suite::Table;
use mpio::policy::{AdaptiveLatency, Failover, LeastQueue, MakePolicy, Observation, Policy, RoundRobin};
use mpio::{Operation, Tick};

/// I/Os out at a time on each path.
const DEPTH: usize = 8;

/// Places I/Os and completes the oldest, as an engine would.
struct Engine {
    policy: Box<dyn Policy>,
    table: Table,
    /// Path of each I/O that is out; a ring.
    out: Vec<usize>,
    oldest: usize,
    now: u64,
}

impl Engine {
    fn new(policy: &dyn MakePolicy, paths: usize) -> Self {
        let policy = policy.make(1);
        let mut engine =
            Self { policy, table: Table::new(paths), out: vec![0; paths * DEPTH], oldest: 0, now: 0 };
        engine.policy.paths_changed(&engine.table.candidates());
        for place in 0..engine.out.len() {
            engine.out[place] = engine.place();
        }
        engine
    }

    fn place(&mut self) -> usize {
        self.now += 100;
        let mut io = Table::READ;
        io.now = Tick::from_nanos(self.now);
        let index = self.policy.select(black_box(&io), &self.table.candidates());
        self.table.path(index).in_flight += 1;
        index
    }

    fn turn(&mut self) {
        let path = self.out[self.oldest];
        self.table.path(path).in_flight -= 1;
        self.out[self.oldest] = self.place();
        self.oldest = (self.oldest + 1) % self.out.len();
    }

    fn observe(&mut self, batch: &[Observation]) {
        self.policy.observe(black_box(batch));
    }
}

fn select(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("select");
    let policies: [&dyn MakePolicy; 4] =
        [&Failover::new(), &RoundRobin::new(), &LeastQueue::new(), &AdaptiveLatency::new()];
    for policy in policies {
        for paths in [4, 32] {
            let mut engine = Engine::new(policy, paths);
            group.bench_function(BenchmarkId::new(policy.name(), paths), |bencher| {
                bencher.iter(|| engine.turn());
            });
        }
    }
}

fn observe(criterion: &mut Criterion) {
    let mut engine = Engine::new(&AdaptiveLatency::new(), 4);
    let batch: Vec<_> = (0..16)
        .map(|io| Observation::new(io % 4, Operation::Read, 4096, Duration::from_micros(90 + io as u64)))
        .collect();
    let mut group = criterion.benchmark_group("observe 16");
    group.bench_function("adaptive-latency", |bencher| bencher.iter(|| engine.observe(&batch)));
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .configure_from_args();
    select(&mut criterion);
    observe(&mut criterion);
    criterion.final_summary();
}
