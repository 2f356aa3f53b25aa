//! What latency to expect of each path.

use std::time::Duration;

use crate::policy::{Candidates, MAX_PATHS};
use crate::time::nanos;

/// A moving average per path, of one kind of operation, and which of them have grown old.
#[derive(Clone, Debug)]
pub(super) struct Estimates {
    /// Expected latency in nanoseconds, at least 1; more than 4.29 s counts as that.
    nanos: [u32; MAX_PATHS],
    /// Paths that were observed at least once.
    known: u64,
    /// Paths that were observed since the last sweep.
    heard: u64,
    /// Paths that were not, up to that sweep: their next observation counts for more.
    old: u64,
    /// Paths that wait for a probe.
    due: u64,
    /// Paths that were probed and not observed since.
    probed: u64,
    /// Where the search for the next probe starts, so that no path is forgotten over others.
    turn: u32,
}

impl Default for Estimates {
    fn default() -> Self {
        Self { nanos: [1; MAX_PATHS], known: 0, heard: 0, old: 0, due: 0, probed: 0, turn: 0 }
    }
}

impl Estimates {
    /// Of each path.
    pub(super) const fn nanos(&self) -> &[u32; MAX_PATHS] {
        &self.nanos
    }

    /// One I/O on the path took `latency`. The first observation of all is expected of every path; the first of a
    /// path replaces what was only assumed; later ones count for 1/8, or 1/2 if nothing was heard for long.
    pub(super) fn observe(&mut self, index: usize, latency: Duration) {
        if index >= MAX_PATHS {
            return;
        }
        let path = 1 << index;
        let sample = u32::try_from(nanos(latency)).unwrap_or(u32::MAX).max(1);
        if self.known == 0 {
            self.nanos = [sample; MAX_PATHS];
        }
        let estimate = &mut self.nanos[index];
        *estimate = match (self.known & path, self.old & path) {
            (0, _) => sample,
            (_, 0) => towards(*estimate, sample, 3),
            _ => towards(*estimate, sample, 1),
        };
        self.known |= path;
        self.heard |= path;
        self.old &= !path;
        self.due &= !path;
        self.probed &= !path;
    }

    /// Another path has this index now: it is expected to be as good as the best one known.
    pub(super) fn forget(&mut self, index: usize) {
        let path = 1 << index;
        for set in [&mut self.known, &mut self.heard, &mut self.old, &mut self.due, &mut self.probed] {
            *set &= !path;
        }
        let known = (0..MAX_PATHS).filter(|&other| self.known >> other & 1 == 1);
        self.nanos[index] = known.map(|other| self.nanos[other]).min().unwrap_or(1);
    }

    /// Ends an interval: those of `candidates` of which nothing was heard in it are due for a probe, except where an
    /// earlier probe seems to be still out.
    pub(super) fn sweep(&mut self, candidates: &Candidates<'_>) {
        let busy = candidates.iter().filter(|(_, path)| path.in_flight > 0);
        let busy = busy.fold(0, |set, (index, _)| set | 1 << index);
        self.old |= !self.heard;
        self.due = candidates.bits() & !self.heard & !(self.probed & busy);
        self.heard = 0;
    }

    /// One of `candidates` that is due for a probe, and counts as probed from now on.
    pub(super) fn take_due(&mut self, candidates: &Candidates<'_>) -> Option<usize> {
        let due = self.due & candidates.bits();
        if due == 0 {
            return None;
        }
        let index = (due.rotate_right(self.turn).trailing_zeros() + self.turn) % u64::BITS;
        self.turn = (index + 1) % u64::BITS;
        self.due &= !(1 << index);
        self.probed |= 1 << index;
        Some(index as usize)
    }
}

/// `estimate` moved by 1/2^`shift` of its distance to `sample`.
fn towards(estimate: u32, sample: u32, shift: u32) -> u32 {
    let moved = i64::from(estimate) + ((i64::from(sample) - i64::from(estimate)) >> shift);
    u32::try_from(moved).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::suite::Table;
    use proptest::prelude::*;

    const fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn paths_not_seen_yet_are_expected_to_be_like_the_first_one_seen() {
        let mut estimates = Estimates::default();
        estimates.observe(3, micros(100));
        assert!(estimates.nanos().iter().all(|&nanos| nanos == 100_000));
        estimates.observe(4, micros(700));
        assert_eq!(estimates.nanos()[4], 700_000);
    }

    #[test]
    fn a_new_path_at_an_old_index_is_expected_to_be_as_good_as_the_best() {
        let mut estimates = Estimates::default();
        for (index, latency) in [(0, 300), (1, 200), (2, 9_000)] {
            estimates.observe(index, micros(latency));
        }
        estimates.forget(2);
        assert_eq!(estimates.nanos()[2], 200_000);
        estimates.observe(2, micros(400));
        assert_eq!(estimates.nanos()[2], 400_000);
    }

    #[test]
    fn the_first_word_after_a_long_silence_counts_for_half() {
        let table = Table::new(2);
        let mut estimates = Estimates::default();
        estimates.observe(0, micros(800));
        estimates.observe(0, micros(1_600));
        assert_eq!(estimates.nanos()[0], 900_000);
        estimates.sweep(&table.candidates());
        estimates.sweep(&table.candidates());
        estimates.observe(0, micros(100));
        assert_eq!(estimates.nanos()[0], 500_000);
    }

    #[test]
    fn only_silent_paths_are_due_and_each_once_in_turn() {
        let table = Table::new(4);
        let mut estimates = Estimates::default();
        estimates.observe(1, micros(100));
        estimates.sweep(&table.candidates());
        let probes: Vec<_> = std::iter::from_fn(|| estimates.take_due(&table.candidates())).collect();
        assert_eq!(probes, [0, 2, 3]);
    }

    #[test]
    fn a_path_whose_probe_is_still_out_gets_no_second_one() {
        let mut table = Table::new(1);
        let mut estimates = Estimates::default();
        estimates.sweep(&table.candidates());
        assert_eq!(estimates.take_due(&table.candidates()), Some(0));
        table.path(0).in_flight = 1;
        estimates.sweep(&table.candidates());
        assert_eq!(estimates.take_due(&table.candidates()), None);
        table.path(0).in_flight = 0;
        estimates.sweep(&table.candidates());
        assert_eq!(estimates.take_due(&table.candidates()), Some(0));
    }

    proptest! {
        #[test]
        fn an_estimate_lies_between_the_extremes_seen(samples in prop::collection::vec(0..u64::MAX, 1..50)) {
            let mut estimates = Estimates::default();
            for &sample in &samples {
                estimates.observe(0, Duration::from_nanos(sample));
            }
            let seen = |sample: u64| sample.clamp(1, u64::from(u32::MAX));
            let lowest = samples.iter().copied().map(seen).min().unwrap();
            let highest = samples.iter().copied().map(seen).max().unwrap();
            prop_assert!((lowest..=highest).contains(&u64::from(estimates.nanos()[0])));
        }
    }
}
