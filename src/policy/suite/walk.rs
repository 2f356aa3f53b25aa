//! A policy under a random but repeatable life.

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::policy::suite::{OPERATIONS, Table};
use crate::policy::{IoSummary, MAX_PATHS, MakePolicy, Observation, Policy};
use crate::time::Tick;

/// Runs an instance of seed `seed` through `steps` steps that follow from the same seed, and returns what it selected.
pub(super) fn walk(make: &dyn MakePolicy, seed: u64, steps: usize) -> Vec<usize> {
    let mut walk = Walk::new(make, seed);
    let mut selected = Vec::new();
    for step in 0..steps {
        match walk.random.random_range(0..16_u32) {
            0 => walk.change(),
            1 => walk.load_elsewhere(),
            2..6 => walk.complete(),
            _ => selected.push(walk.place(seed, step)),
        }
    }
    selected
}

struct Walk {
    policy: Box<dyn Policy>,
    random: Xoshiro256PlusPlus,
    table: Table,
    healthy: u64,
    now: u64,
}

impl Walk {
    fn new(make: &dyn MakePolicy, seed: u64) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let paths = random.random_range(1..=MAX_PATHS);
        let table = Table::new(paths);
        let healthy = table.candidates().bits();
        Self { policy: make.make(seed), random, table, healthy, now: 0 }
    }

    fn index(&mut self) -> usize {
        self.random.random_range(0..MAX_PATHS)
    }

    fn operation(&mut self) -> crate::io::Operation {
        OPERATIONS[self.random.random_range(0..OPERATIONS.len())]
    }

    /// Some of the healthy paths, at least one.
    fn with_room(&mut self) -> u64 {
        let some = self.healthy & (self.random.random::<u64>() | self.random.random::<u64>());
        if some == 0 { self.healthy } else { some }
    }

    fn place(&mut self, seed: u64, step: usize) -> usize {
        self.now += self.random.random_range(0..2_000_000_u64);
        let io = IoSummary::new(self.operation(), self.random.random(), Tick::from_nanos(self.now));
        let candidates = self.with_room();
        let candidates = self.table.only(candidates);
        let index = self.policy.select(&io, &candidates);
        assert!(
            candidates.contains(index),
            "seed {seed}, step {step}: {} was given to index {index}, eligible are {:#x}",
            io.operation,
            candidates.bits()
        );
        self.table.path(index).in_flight += 1;
        index
    }

    fn complete(&mut self) {
        let mut seen = Vec::new();
        for _ in 0..self.random.random_range(0..8_u32) {
            let index = self.index();
            let path = self.table.path(index);
            path.in_flight = path.in_flight.saturating_sub(1);
            let latency = Duration::from_nanos(1 << self.random.random_range(0..40_u32));
            seen.push(Observation::new(index, self.operation(), self.random.random(), latency));
        }
        self.policy.observe(&seen);
    }

    fn load_elsewhere(&mut self) {
        let index = self.index();
        self.table.path(index).in_flight_elsewhere = self.random.random_range(0..1_000);
    }

    /// Another set of healthy paths, of which one is new and one has other settings; the policy may not be told.
    fn change(&mut self) {
        let (new, other) = (self.index(), self.index());
        self.table.replace(new);
        self.table.weigh(other, 1 << self.random.random_range(0..32_u32));
        self.table.path(other).rank = self.random.random_range(0..4);
        let all = self.table.candidates().bits();
        self.healthy = all & self.random.random::<u64>();
        if self.healthy == 0 {
            self.healthy = all;
        }
        if self.random.random_ratio(3, 4) {
            self.policy.paths_changed(&self.table.only(self.healthy));
        }
    }
}
