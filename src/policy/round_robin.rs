//! Every path in its turn.

use std::num::NonZeroU32;

use crate::error::Error;
use crate::policy::{Candidates, IoSummary, MAX_PATHS, MakePolicy, Policy};

/// Bits of a weight.
const COLUMNS: usize = u32::BITS as usize;

/// The paths take turns of `quantum` I/Os; a path of weight *w* has *w* turns where one of weight 1 has one, spread
/// over the round rather than in a row.
///
/// When to use it: paths that are alike and devices behind them that answer evenly; tests and wear-levelling, where
/// each path is to carry its share whatever it costs. It does not see load: a slow path gets as much as a fast one.
///
/// A path without room misses its turn; the others do not wait for it, and it is not made up to it.
///
/// Cost: constant, the same for 2 paths as for 64; from one turn to the next a few instructions for each bit of the
/// largest weight.
///
/// Source: the `round-robin` selector of Linux dm-multipath (`drivers/md/dm-ps-round-robin.c`, `repeat_count` is our
/// quantum) and the policy of that name in its NVMe driver. The order of weighted turns is that of smoothed round
/// robin (Guo Chuanxiong, "SRR: an O(1) time complexity packet scheduler for flows in multi-service packet networks",
/// SIGCOMM 2001).
///
/// ```
/// use mpio::policy::RoundRobin;
///
/// // Eight in a row on one path, so that the device can merge neighbours.
/// let policy = RoundRobin::new().quantum(8)?;
/// assert!(RoundRobin::new().quantum(0).is_err());
/// # let _ = policy;
/// # Ok::<(), mpio::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RoundRobin {
    quantum: NonZeroU32,
    /// I/Os that are left of the turn of `last`.
    left: u32,
    last: usize,
    /// Paths whose turn in this visit is yet to come.
    visit: u64,
    /// Number of the visit, from 1: its trailing zeros say which column is visited.
    step: u64,
    /// Column `k` has the paths whose weight has bit `k`.
    columns: [u64; COLUMNS],
    /// Bit `k` is set if column `k` has any.
    used: u32,
    /// Paths whose weight is in the columns.
    known: u64,
    /// Turns that the first visit leaves out, so that queues do not march in step.
    lag: u64,
}

impl Default for RoundRobin {
    fn default() -> Self {
        Self {
            quantum: NonZeroU32::MIN,
            left: 0,
            last: 0,
            visit: 0,
            step: 0,
            columns: [0; COLUMNS],
            used: 0,
            known: 0,
            lag: 0,
        }
    }
}

impl RoundRobin {
    /// Turns of one I/O.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with turns of `ios` I/Os.
    ///
    /// # Errors
    /// [`Error::Setting`] if `ios` is zero.
    pub fn quantum(mut self, ios: u32) -> Result<Self, Error> {
        self.quantum = NonZeroU32::new(ios).ok_or_else(|| {
            Error::setting("quantum", "a turn of 0 I/Os would never move on; give at least 1")
        })?;
        Ok(self)
    }

    /// The path that has the next turn: of this visit, or the first of the next one. Those passed over without room
    /// miss theirs.
    fn next_turn(&mut self, candidates: &Candidates<'_>) -> usize {
        let mut able = self.visit & candidates.bits();
        if able == 0 {
            able = self.next_visit(candidates);
        }
        let lowest = able & able.wrapping_neg();
        self.visit = able & !lowest;
        able.trailing_zeros() as usize % MAX_PATHS
    }

    /// Visits the next column that has an eligible path, and returns those.
    ///
    /// Of 2^n - 1 visits, the highest of n columns has every second one, the next column every second of the rest,
    /// and so on: column k has 2^k of them, evenly spread. So each path is visited as often as its weight says.
    fn next_visit(&mut self, candidates: &Candidates<'_>) -> u64 {
        let eligible = candidates.bits();
        if eligible & !self.known != 0 {
            self.learn(candidates);
        }
        let top = self.used.checked_ilog2().unwrap_or(0);
        // Visits of the columns above the highest one with an eligible path are passed over at once.
        let Some(stride) = (0..=top).find(|above| self.columns[(top - above) as usize] & eligible != 0)
        else {
            return eligible;
        };
        loop {
            self.step = ((self.step >> stride) + 1) << stride;
            if self.step >> (top + 1) != 0 {
                self.step = 1 << stride;
            }
            let able = self.columns[(top - self.step.trailing_zeros()) as usize] & eligible;
            if able != 0 {
                return self.without_lag(able);
            }
        }
    }

    /// `paths`, on the first visit without as many of them as this queue is ahead of the first one.
    fn without_lag(&mut self, paths: u64) -> u64 {
        let lag = std::mem::take(&mut self.lag) % u64::from(paths.count_ones());
        (0..lag).fold(paths, |rest, _| rest & (rest - 1))
    }

    /// Enters the weights of paths that are not known yet.
    fn learn(&mut self, candidates: &Candidates<'_>) {
        for (index, path) in candidates.iter().filter(|(index, _)| self.known >> index & 1 == 0) {
            self.used |= path.weight();
            for (bit, column) in self.columns.iter_mut().enumerate() {
                *column |= u64::from(path.weight() >> bit & 1) << index;
            }
        }
        self.known |= candidates.bits();
    }
}

impl Policy for RoundRobin {
    fn select(&mut self, _io: &IoSummary, candidates: &Candidates<'_>) -> usize {
        if self.left > 0 && candidates.contains(self.last) {
            self.left -= 1;
            return self.last;
        }
        self.last = self.next_turn(candidates);
        self.left = self.quantum.get() - 1;
        self.last
    }

    fn paths_changed(&mut self, candidates: &Candidates<'_>) {
        self.left = 0;
        self.columns = [0; COLUMNS];
        (self.used, self.known) = (0, 0);
        self.learn(candidates);
    }

    fn observes(&self) -> bool {
        false
    }
}

impl MakePolicy for RoundRobin {
    fn make(&self, seed: u64) -> Box<dyn Policy> {
        Box::new(Self { quantum: self.quantum, lag: seed, ..Self::new() })
    }

    fn name(&self) -> String {
        "round-robin".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::suite::Table;
    use proptest::prelude::*;

    fn order(policy: &mut RoundRobin, table: &Table, length: usize) -> Vec<usize> {
        (0..length).map(|_| policy.select(&Table::READ, &table.candidates())).collect()
    }

    fn weighted(weights: &[u32]) -> Table {
        let mut table = Table::new(weights.len());
        for (index, &weight) in weights.iter().enumerate() {
            table.weigh(index, weight);
        }
        table
    }

    #[test]
    fn equal_paths_are_taken_in_turns() {
        for weight in [1, 7, 100, u32::MAX] {
            let table = weighted(&[weight; 3]);
            assert_eq!(order(&mut RoundRobin::new(), &table, 7), [0, 1, 2, 0, 1, 2, 0], "weight {weight}");
        }
    }

    #[test]
    fn a_turn_lasts_for_the_quantum() {
        let mut policy = RoundRobin::new().quantum(3).unwrap();
        assert_eq!(order(&mut policy, &Table::new(2), 8), [0, 0, 0, 1, 1, 1, 0, 0]);
    }

    #[test]
    fn a_quantum_of_zero_is_refused() {
        let message = RoundRobin::new().quantum(0).unwrap_err().to_string();
        assert_eq!(message, "quantum: a turn of 0 I/Os would never move on; give at least 1");
    }

    #[test]
    fn the_turns_of_a_heavy_path_are_spread() {
        assert_eq!(order(&mut RoundRobin::new(), &weighted(&[5, 1]), 6), [0, 0, 0, 1, 0, 0]);
        assert_eq!(order(&mut RoundRobin::new(), &weighted(&[2, 1, 1]), 4), [0, 1, 2, 0]);
    }

    #[test]
    fn a_path_without_room_misses_its_turn_and_holds_nobody_up() {
        let table = Table::new(3);
        let mut policy = RoundRobin::new();
        assert_eq!(policy.select(&Table::READ, &table.candidates()), 0);
        assert_eq!(policy.select(&Table::READ, &table.only(0b101)), 2);
        assert_eq!(order(&mut policy, &table, 3), [0, 1, 2]);
    }

    #[test]
    fn a_turn_ends_early_when_its_path_is_gone() {
        let table = Table::new(2);
        let mut policy = RoundRobin::new().quantum(4).unwrap();
        assert_eq!(order(&mut policy, &table, 2), [0, 0]);
        assert_eq!(policy.select(&Table::READ, &table.only(0b10)), 1);
        assert_eq!(order(&mut policy, &table, 4), [1, 1, 1, 0]);
    }

    #[test]
    fn queues_do_not_march_in_step() {
        let table = Table::new(4);
        let first = |seed| RoundRobin::new().make(seed).select(&Table::READ, &table.candidates());
        assert_eq!([0, 1, 2, 3, 4].map(first), [0, 1, 2, 3, 0]);
    }

    #[test]
    fn a_new_path_at_an_old_index_has_its_own_weight() {
        let mut table = weighted(&[1, 8]);
        let mut policy = RoundRobin::new();
        assert_eq!(table.shares(&mut policy, 9), [1, 8]);
        table.replace(1);
        table.weigh(0, 2);
        policy.paths_changed(&table.candidates());
        assert_eq!(table.shares(&mut policy, 9), [6, 3]);
    }

    proptest! {
        #[test]
        fn a_round_gives_each_path_its_weight_exactly(
            weights in prop::collection::vec(1..40_u32, 1..=64), quantum in 1..4_u32,
        ) {
            let table = weighted(&weights);
            let mut policy = RoundRobin::new().quantum(quantum).unwrap();
            let round = weights.iter().sum::<u32>() * quantum;
            for _ in 0..2 {
                let shares = table.shares(&mut policy, round as usize);
                let due: Vec<_> = weights.iter().map(|weight| weight * quantum).collect();
                prop_assert_eq!(&shares, &due);
            }
        }

        #[test]
        fn a_path_never_waits_much_longer_than_its_weight_says(weights in prop::collection::vec(1..40_u32, 2..=16)) {
            let table = weighted(&weights);
            let total = weights.iter().sum::<u32>();
            let picks = order(&mut RoundRobin::new(), &table, 2 * total as usize);
            for (index, &weight) in weights.iter().enumerate() {
                let gap = picks.split(|&pick| pick == index).map(<[usize]>::len).max().unwrap();
                let even = total.div_ceil(weight) as usize;
                prop_assert!(gap <= 2 * even + weights.len(), "path {} of {:?} waited for {}", index, weights, gap);
            }
        }

        #[test]
        fn shares_hold_among_those_that_are_left(
            weights in prop::collection::vec(1..40_u32, 2..=16), gone in 0..16_usize,
        ) {
            let table = weighted(&weights);
            let gone = gone % weights.len();
            let rest = table.only(!(1 << gone));
            let mut policy = RoundRobin::new();
            policy.paths_changed(&table.candidates());
            let mut shares = vec![0; weights.len()];
            for _ in 0..weights.iter().sum::<u32>() - weights[gone] {
                shares[policy.select(&Table::READ, &rest)] += 1;
            }
            shares[gone] = weights[gone];
            prop_assert_eq!(shares, weights);
        }
    }
}
