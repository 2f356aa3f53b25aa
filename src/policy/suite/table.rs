//! Paths to select from, without a volume around them.

use std::num::NonZeroU32;

use crate::io::{Operation, PathId};
use crate::policy::{Candidate, Candidates, IoSummary, MAX_PATHS, Policy};
use crate::time::Tick;

/// A table of paths for tests and benchmarks of a policy.
///
/// ```
/// use mpio::policy::{LeastQueue, Policy};
/// use mpio::policy::suite::Table;
///
/// let mut table = Table::new(4);
/// table.path(0).in_flight = 7;
/// let chosen = LeastQueue::new().select(&Table::READ, &table.candidates());
/// assert_eq!(chosen, 1);
/// ```
#[derive(Clone, Debug)]
pub struct Table {
    paths: [Candidate; MAX_PATHS],
    eligible: u64,
    serial: u32,
}

impl Table {
    /// A read of 4 KiB at the origin of time.
    pub const READ: IoSummary = IoSummary::new(Operation::Read, 4096, Tick::ZERO);

    /// `paths` eligible and idle paths, at most [`MAX_PATHS`], with 64 attempts each.
    pub fn new(paths: usize) -> Self {
        let eligible = (0..paths.min(MAX_PATHS)).fold(0, |set, index| set | 1 << index);
        let paths = [Candidate::new(PathId::new(0, 0), 64); MAX_PATHS];
        let mut table = Self { paths, eligible, serial: 0 };
        for index in 0..MAX_PATHS {
            table.replace(index);
        }
        table
    }

    /// The eligible paths.
    pub const fn candidates(&self) -> Candidates<'_> {
        self.only(u64::MAX)
    }

    /// Those of them whose bit is set in `paths`.
    pub const fn only(&self, paths: u64) -> Candidates<'_> {
        Candidates::new(self.eligible & paths, &self.paths)
    }

    /// The path of this index (modulo [`MAX_PATHS`]), eligible or not, to change it.
    pub const fn path(&mut self, index: usize) -> &mut Candidate {
        &mut self.paths[index % MAX_PATHS]
    }

    /// Gives a path a weight; 0 counts as 1.
    pub fn weigh(&mut self, index: usize, weight: u32) {
        let path = self.path(index);
        *path = path.with_weight(NonZeroU32::new(weight).unwrap_or(NonZeroU32::MIN));
    }

    /// Puts a new, idle path at an index.
    pub fn replace(&mut self, index: usize) {
        let slot = u8::try_from(index % MAX_PATHS).unwrap_or(0);
        *self.path(index) = Candidate::new(PathId::new(slot, self.serial), 64);
        self.serial += 1;
    }

    /// Tells `policy` that of the eligible paths those in `paths` are left, and has it select one of them.
    pub fn change(&self, policy: &mut dyn Policy, paths: u64, io: &IoSummary) -> usize {
        policy.paths_changed(&self.only(paths));
        policy.select(io, &self.only(paths))
    }

    /// How many of `ios` reads `policy` gives to each path, up to the last eligible one. Loads stay as they are.
    pub fn shares(&self, policy: &mut dyn Policy, ios: usize) -> Vec<u32> {
        let mut shares = vec![0; (u64::BITS - self.eligible.leading_zeros()) as usize];
        for _ in 0..ios {
            shares[policy.select(&Self::READ, &self.candidates())] += 1;
        }
        shares
    }
}
