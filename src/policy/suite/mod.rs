//! What every policy must stand, for the crate's policies and for yours: see [`policy_suite!`](crate::policy_suite).

#![allow(clippy::missing_panics_doc, reason = "each function is a test: it panics if the policy fails it")]

mod table;
mod walk;

use std::time::Duration;

pub use table::Table;

use crate::io::{Durability, Operation, Unmap};
use crate::policy::{IoSummary, MAX_PATHS, MakePolicy, Observation, Policy};
use crate::time::Tick;
use walk::walk;

/// Makes a module of tests that a policy must pass: its name, and an expression for its [`MakePolicy`].
///
/// ```
/// use mpio::policy::{self, Candidates, IoSummary, Policy};
///
/// struct First;
///
/// impl Policy for First {
///     fn select(&mut self, _io: &IoSummary, candidates: &Candidates<'_>) -> usize {
///         candidates.next_from(0).unwrap_or(0)
///     }
/// }
///
/// mpio::policy_suite!(first, policy::make("first", |_seed| Box::new(First)));
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! policy_suite {
    (@tests $make:expr; $($test:ident)*) => {
        $(
            #[test]
            fn $test() {
                $crate::policy::suite::$test(&$make);
            }
        )*
    };
    ($name:ident, $make:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $crate::policy_suite!(@tests $make;
                selects_eligible_paths_only
                selects_the_only_candidate
                stands_extreme_numbers
                stands_time_that_stops_or_jumps
                stands_changes_at_any_time
                stands_having_no_path
                selects_the_same_for_the_same_seed
                has_a_name_that_stays
            );
        }
    };
}

/// Seeds that each test runs through.
const SEEDS: std::ops::Range<u64> = 0..16;

/// An operation of each kind.
const OPERATIONS: [Operation; 6] = [
    Operation::Read,
    Operation::Write(Durability::Cached),
    Operation::Write(Durability::Fua),
    Operation::Flush,
    Operation::Discard,
    Operation::WriteZeroes(Unmap::Allowed),
];

/// Whatever loads, weights, observations and changes came before, the index is that of a candidate.
pub fn selects_eligible_paths_only(make: &dyn MakePolicy) {
    for seed in SEEDS {
        walk(make, seed, 2_000);
    }
}

/// Where there is no choice, there is none, at every index.
pub fn selects_the_only_candidate(make: &dyn MakePolicy) {
    let table = Table::new(MAX_PATHS);
    let mut policy = make.make(0);
    for told in [Told::No, Told::Yes] {
        for index in 0..MAX_PATHS {
            let candidates = table.only(1 << index);
            if told == Told::Yes {
                policy.paths_changed(&candidates);
            }
            for operation in OPERATIONS {
                select(&mut *policy, &IoSummary { operation, ..Table::READ }, &table, 1 << index);
            }
        }
    }
}

/// Loads, weights, ranks, depths, sizes and latencies at the ends of their ranges, at the last index too.
pub fn stands_extreme_numbers(make: &dyn MakePolicy) {
    let mut policy = make.make(u64::MAX);
    let mut table = Table::new(MAX_PATHS);
    for (index, extreme) in [0, 1, u32::MAX - 1, u32::MAX].into_iter().cycle().take(MAX_PATHS).enumerate() {
        table.weigh(index, extreme);
        let path = table.path(index);
        (path.in_flight, path.in_flight_elsewhere) = (u32::MAX - extreme, u32::MAX);
        (path.depth, path.rank) = (extreme, extreme);
    }
    policy.paths_changed(&table.candidates());
    for latency in [Duration::MAX, Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        for operation in OPERATIONS {
            policy.observe(&[]);
            let all = [0, MAX_PATHS - 1, MAX_PATHS - 1]
                .map(|index| Observation::new(index, operation, u32::MAX, latency));
            policy.observe(&all);
            let io = IoSummary { operation, bytes: u32::MAX, now: Tick::ZERO };
            for paths in [u64::MAX, 1 << 63 | 1, 1 << 63] {
                select(&mut *policy, &io, &table, paths);
            }
        }
    }
}

/// Time that stands still, leaps to its end and begins anew.
pub fn stands_time_that_stops_or_jumps(make: &dyn MakePolicy) {
    let table = Table::new(4);
    let mut policy = make.make(1);
    for nanos in [0, 0, u64::MAX, u64::MAX, 1, 0, u64::MAX / 2, u64::MAX - 1] {
        let io = IoSummary { now: Tick::from_nanos(nanos), ..Table::READ };
        for paths in [0b1111, 0b1010, 0b0111] {
            policy.paths_changed(&table.only(paths));
            for _ in 0..300 {
                select(&mut *policy, &io, &table, paths);
            }
        }
    }
}

/// Changes before the first I/O, twice in a row, between any two I/Os, and not told of at all.
pub fn stands_changes_at_any_time(make: &dyn MakePolicy) {
    let mut table = Table::new(8);
    let mut policy = make.make(2);
    policy.paths_changed(&table.only(0b1));
    for round in 0..300_u64 {
        let index = (round % 8) as usize;
        table.replace(index);
        table.weigh(index, (round % 5) as u32);
        let paths = round % 255 + 1;
        for _ in 0..round % 3 {
            policy.paths_changed(&table.only(paths));
        }
        select(&mut *policy, &Table::READ, &table, paths);
        select(&mut *policy, &Table::READ, &table, !paths & 0xff | 1);
        policy.observe(&[Observation::new(index, Operation::Read, 4096, Duration::from_micros(round))]);
    }
}

/// A change after which no path is eligible; then one that is.
pub fn stands_having_no_path(make: &dyn MakePolicy) {
    let table = Table::new(4);
    let mut policy = make.make(3);
    for paths in [0, 0b1111, 0, 0, 0b0100] {
        policy.paths_changed(&table.only(paths));
        policy.observe(&[Observation::new(1, Operation::Read, 4096, Duration::from_micros(100))]);
        if paths != 0 {
            select(&mut *policy, &Table::READ, &table, paths);
        }
    }
}

/// Two instances of one seed select the same, whatever other instances did in between.
pub fn selects_the_same_for_the_same_seed(make: &dyn MakePolicy) {
    for seed in SEEDS {
        let first = walk(make, seed, 1_000);
        walk(make, seed + 1, 100);
        assert!(first == walk(make, seed, 1_000), "seed {seed} led to other selections the second time");
    }
}

/// Reports need a name that is not empty and does not change.
pub fn has_a_name_that_stays(make: &dyn MakePolicy) {
    assert!(!make.name().trim().is_empty(), "the policy has no name");
    let before = make.name();
    walk(make, 0, 10);
    assert_eq!(make.name(), before);
}

/// Whether the policy is told of a change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Yes,
    No,
}

/// Has `policy` select among `paths` of `table`, and checks that it did.
fn select(policy: &mut dyn Policy, io: &IoSummary, table: &Table, paths: u64) -> usize {
    let candidates = table.only(paths);
    let index = policy.select(io, &candidates);
    assert!(
        candidates.contains(index),
        "{} at {} was given to index {index}, eligible are {:#x}",
        io.operation,
        io.now,
        candidates.bits()
    );
    index
}
