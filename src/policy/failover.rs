//! One path carries everything until it is gone.

use std::time::Duration;

use crate::io::PathId;
use crate::policy::{Candidates, IoSummary, MakePolicy, Placement, Policy};
use crate::time::Tick;

/// When [`Failover`] goes back to a path that is preferred to the one in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failback {
    /// As soon as it is eligible.
    #[default]
    AtOnce,
    /// When it has been eligible for this long without a break: for paths that come and go.
    After(Duration),
    /// Not before the path in use is gone: when to go back is an operator's decision, or each change of path costs
    /// the array a cache transfer between controllers.
    Never,
}

/// Everything takes the preferred path, that of the lowest rank, then of the lowest index. When it is gone, the next
/// in this order takes over.
///
/// When to use it: one way to the array is better than all others and wide enough, or the array pays for I/O that
/// arrives over several controllers in turns.
///
/// I/O that the preferred path has no room for at present waits for it. The choice is a matter of each queue: after a change, queues move over one by one.
///
/// Cost: constant while the preferred path takes I/O, else one look at each candidate.
///
/// Source: `failback` of multipath.conf(5) has the same three choices (`immediate`, a number of seconds, `manual`);
/// the Linux NVMe driver's `numa` policy also keeps to one path (`Documentation/admin-guide/nvme-multipath.rst`).
///
/// ```
/// use std::time::Duration;
/// use mpio::policy::{Failback, Failover};
///
/// let patient = Failover::new().failback(Failback::After(Duration::from_secs(30)));
/// # let _ = patient;
/// ```
#[derive(Clone, Debug, Default)]
pub struct Failover {
    failback: Failback,
    /// The path that carried the last I/O which was not an exception for want of room.
    current: Option<Place>,
    /// The first in order of those that were eligible at the last change.
    preferred: Option<Place>,
    /// When `preferred` was first seen to be other than `current`.
    better_since: Option<Tick>,
}

/// A path and where it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    index: usize,
    id: PathId,
}

impl Failover {
    /// Fails back at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with another rule for going back.
    #[must_use]
    pub const fn failback(mut self, failback: Failback) -> Self {
        self.failback = failback;
        self
    }

    /// Settles who is to carry the I/O of this batch.
    fn settle(&mut self, now: Tick) {
        if self.current == self.preferred {
            return;
        }
        let since = *self.better_since.get_or_insert(now);
        let may_go_back = match self.failback {
            Failback::AtOnce => true,
            Failback::After(wait) => now.since(since) >= wait,
            Failback::Never => false,
        };
        if may_go_back || self.current.is_none() {
            self.current = self.preferred;
            self.better_since = None;
        }
    }
}

impl Policy for Failover {
    fn select(&mut self, io: &IoSummary, candidates: &Candidates<'_>) -> usize {
        self.settle(io.now);
        match self.current {
            Some(place) if candidates.contains(place.index) => place.index,
            _ => first(candidates).unwrap_or(0),
        }
    }

    /// I/O waits for room on the path in use rather than going another way.
    fn placement(&self) -> Placement {
        Placement::Strict
    }

    fn paths_changed(&mut self, candidates: &Candidates<'_>) {
        let preferred = first(candidates).and_then(|index| place(index, candidates));
        if preferred != self.preferred {
            self.preferred = preferred;
            self.better_since = None;
        }
        self.current = self.current.filter(|current| place(current.index, candidates) == Some(*current));
    }

    fn observes(&self) -> bool {
        false
    }
}

/// The first in order of preference.
fn first(candidates: &Candidates<'_>) -> Option<usize> {
    candidates.cheapest_from(0, |_, path| path.rank)
}

fn place(index: usize, candidates: &Candidates<'_>) -> Option<Place> {
    candidates.get(index).map(|path| Place { index, id: path.id })
}

impl MakePolicy for Failover {
    fn make(&self, _seed: u64) -> Box<dyn Policy> {
        Box::new(Self::new().failback(self.failback))
    }

    fn name(&self) -> String {
        "failover".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::suite::Table;

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64) -> IoSummary {
        IoSummary { now: Tick::from_nanos(seconds * SECOND), ..Table::READ }
    }

    #[test]
    fn the_lowest_rank_carries_everything_and_the_lowest_index_decides_ties() {
        let mut table = Table::new(4);
        for (index, rank) in [2, 1, 1, 3].into_iter().enumerate() {
            table.path(index).rank = rank;
        }
        let mut policy = Failover::new();
        policy.paths_changed(&table.candidates());
        assert_eq!(table.shares(&mut policy, 100), [0, 100, 0, 0]);
    }

    #[test]
    fn it_goes_back_at_once_by_default() {
        let table = Table::new(2);
        let mut policy = Failover::new();
        assert_eq!(table.change(&mut policy, 0b11, &at(0)), 0);
        assert_eq!(table.change(&mut policy, 0b10, &at(1)), 1);
        assert_eq!(table.change(&mut policy, 0b11, &at(2)), 0);
    }

    #[test]
    fn never_stays_until_the_path_in_use_is_gone() {
        let table = Table::new(3);
        let mut policy = Failover::new().failback(Failback::Never);
        assert_eq!(table.change(&mut policy, 0b111, &at(0)), 0);
        assert_eq!(table.change(&mut policy, 0b110, &at(1)), 1);
        assert_eq!(table.change(&mut policy, 0b111, &at(1_000)), 1);
        assert_eq!(table.change(&mut policy, 0b101, &at(1_001)), 0);
    }

    #[test]
    fn never_waits_for_the_first_io_before_it_holds_on_to_a_path() {
        let table = Table::new(2);
        let mut policy = Failover::new().failback(Failback::Never);
        policy.paths_changed(&table.only(0b10));
        assert_eq!(table.change(&mut policy, 0b11, &at(0)), 0);
    }

    #[test]
    fn the_wait_for_failback_starts_anew_when_the_better_path_is_lost_again() {
        let table = Table::new(2);
        let mut policy = Failover::new().failback(Failback::After(Duration::from_secs(10)));
        assert_eq!(table.change(&mut policy, 0b10, &at(0)), 1);
        assert_eq!(table.change(&mut policy, 0b11, &at(1)), 1);
        assert_eq!(table.change(&mut policy, 0b10, &at(9)), 1);
        assert_eq!(table.change(&mut policy, 0b11, &at(10)), 1);
        assert_eq!(policy.select(&at(19), &table.candidates()), 1);
        assert_eq!(policy.select(&at(20), &table.candidates()), 0);
    }

    #[test]
    fn a_change_of_other_paths_does_not_restart_the_wait() {
        let table = Table::new(3);
        let mut policy = Failover::new().failback(Failback::After(Duration::from_secs(10)));
        assert_eq!(table.change(&mut policy, 0b110, &at(0)), 1);
        assert_eq!(table.change(&mut policy, 0b111, &at(1)), 1);
        assert_eq!(table.change(&mut policy, 0b011, &at(9)), 1);
        assert_eq!(policy.select(&at(11), &table.candidates()), 0);
    }

    #[test]
    fn want_of_room_is_an_exception_and_not_a_change() {
        let table = Table::new(2);
        let mut policy = Failover::new().failback(Failback::Never);
        assert_eq!(table.change(&mut policy, 0b11, &at(0)), 0);
        assert_eq!(policy.select(&at(1), &table.only(0b10)), 1);
        assert_eq!(policy.select(&at(2), &table.candidates()), 0);
    }

    #[test]
    fn a_new_path_at_the_index_of_the_one_in_use_is_not_taken_for_it() {
        let mut table = Table::new(2);
        let mut policy = Failover::new().failback(Failback::Never);
        assert_eq!(table.change(&mut policy, 0b10, &at(0)), 1);
        table.replace(1);
        assert_eq!(table.change(&mut policy, 0b11, &at(1)), 0);
    }
}
