//! The paths that a policy selects from.

use std::fmt;
use std::num::NonZeroU32;

use crate::io::PathId;

/// Most paths in a volume: sets of paths are the bits of a `u64`.
pub const MAX_PATHS: usize = 64;

/// One path as a policy sees it. Two fit in a cache line: policies read many of them for each I/O.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Candidate {
    /// This queue's attempts that are out on it, counting those placed in this batch.
    pub in_flight: u32,
    /// The other queues' attempts that are out on it, as they last said.
    pub in_flight_elsewhere: u32,
    weight: NonZeroU32,
    /// [`Self::WEIGHT_ONE`] divided by the weight, so that no policy divides.
    per_weight: u32,
    /// Attempts that this queue may have out on it.
    pub depth: u32,
    /// Order that the user gave it: lower is preferred; 0 unless told otherwise.
    pub rank: u32,
    /// Its name: another path may later take the same index.
    pub id: PathId,
}

impl Candidate {
    /// What one attempt costs on a path of weight 1. At most 2^31: then no [`cost`](Self::cost) overflows.
    const WEIGHT_ONE: u32 = 1 << 31;

    /// An idle path of weight 1 and rank 0.
    pub const fn new(id: PathId, depth: u32) -> Self {
        Self {
            in_flight: 0,
            in_flight_elsewhere: 0,
            weight: NonZeroU32::MIN,
            per_weight: Self::WEIGHT_ONE,
            depth,
            rank: 0,
            id,
        }
    }

    /// The same with the share that the user gave it; 1 unless told otherwise.
    #[must_use]
    pub const fn with_weight(mut self, weight: NonZeroU32) -> Self {
        self.weight = weight;
        self.per_weight = Self::WEIGHT_ONE / weight.get();
        if self.per_weight == 0 {
            self.per_weight = 1;
        }
        self
    }

    /// Share that the user gave it, never 0.
    pub const fn weight(&self) -> u32 {
        self.weight.get()
    }

    /// Attempts that are out on it, over all queues.
    pub const fn load(&self) -> u32 {
        self.in_flight.saturating_add(self.in_flight_elsewhere)
    }

    /// Load relative to weight if one more attempt were placed, in units of 2^-31: what to compare paths by. Exact
    /// for weights that are powers of two, within 1/32768 for others up to 65536.
    pub const fn cost(&self) -> u64 {
        (self.in_flight as u64 + self.in_flight_elsewhere as u64 + 1) * self.per_weight as u64
    }
}

/// The eligible paths, never none. Indices are those of the volume's table, below [`MAX_PATHS`]: they stay the same for
/// a path's life, so that a policy can keep what it knows in an array.
#[derive(Clone, Copy)]
pub struct Candidates<'a> {
    eligible: u64,
    table: &'a [Candidate; MAX_PATHS],
}

impl<'a> Candidates<'a> {
    /// Those entries of `table` whose bit is set in `eligible`.
    pub const fn new(eligible: u64, table: &'a [Candidate; MAX_PATHS]) -> Self {
        Self { eligible, table }
    }

    /// How many.
    pub const fn len(&self) -> usize {
        self.eligible.count_ones() as usize
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.eligible == 0
    }

    /// Bit `i` is set for an eligible path of index `i`.
    pub const fn bits(&self) -> u64 {
        self.eligible
    }

    /// Whether the path of this index is eligible.
    pub const fn contains(&self, index: usize) -> bool {
        index < MAX_PATHS && self.eligible >> index & 1 == 1
    }

    /// The path of this index, if it is eligible.
    pub const fn get(&self, index: usize) -> Option<&'a Candidate> {
        if self.contains(index) { Some(&self.table[index]) } else { None }
    }

    /// The first eligible index at or after `index`, and round to the start.
    pub const fn next_from(&self, index: usize) -> Option<usize> {
        if self.eligible == 0 {
            return None;
        }
        let distance = self.rotated(index).trailing_zeros() as usize;
        Some((index % MAX_PATHS + distance) % MAX_PATHS)
    }

    /// The eligible paths with `start` as bit 0 and those before it at the end.
    const fn rotated(&self, start: usize) -> u64 {
        #[allow(clippy::cast_possible_truncation, reason = "below MAX_PATHS")]
        let start = (start % MAX_PATHS) as u32;
        self.eligible.rotate_right(start)
    }

    /// The eligible index of the lowest `cost`; of several, the first at or after `start`, and round to the start.
    /// Who passes the index after the last one selected has equals take turns. About a nanosecond for each path, as
    /// long as `cost` is plain arithmetic: the scan does not branch on what it finds.
    ///
    /// ```
    /// use mpio::policy::{Candidates, IoSummary, Policy};
    ///
    /// /// The path with the most room left.
    /// struct MostRoom;
    ///
    /// impl Policy for MostRoom {
    ///     fn select(&mut self, _io: &IoSummary, candidates: &Candidates<'_>) -> usize {
    ///         let used = |_, path: &mpio::policy::Candidate| u64::from(path.in_flight) * 1000 / u64::from(path.depth.max(1));
    ///         candidates.cheapest_from(0, used).unwrap_or(0)
    ///     }
    /// }
    /// ```
    #[inline]
    pub fn cheapest_from<C: PartialOrd + Copy>(
        &self,
        start: usize,
        mut cost: impl FnMut(usize, &'a Candidate) -> C,
    ) -> Option<usize> {
        let start = start % MAX_PATHS;
        let mut best = self.next_from(start)?;
        let mut lowest = cost(best, &self.table[best]);
        let mut rest = self.rotated(start);
        rest &= rest - 1;
        while rest != 0 {
            let index = (start + rest.trailing_zeros() as usize) % MAX_PATHS;
            rest &= rest - 1;
            let this = cost(index, &self.table[index]);
            let less = this < lowest;
            lowest = std::hint::select_unpredictable(less, this, lowest);
            best = std::hint::select_unpredictable(less, index, best);
        }
        Some(best)
    }

    /// Indices and paths, by index.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &'a Candidate)> + use<'a> {
        let table = self.table;
        let mut rest = self.eligible;
        std::iter::from_fn(move || {
            let index = rest.trailing_zeros() as usize;
            let candidate = table.get(index)?;
            rest &= rest - 1;
            Some((index, candidate))
        })
    }
}

impl fmt::Debug for Candidates<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn loaded(load: u32, weight: u32) -> Candidate {
        let mut candidate =
            Candidate::new(PathId::new(0, 0), 64).with_weight(NonZeroU32::new(weight).unwrap());
        candidate.in_flight = load;
        candidate
    }

    #[test]
    fn two_candidates_fit_in_a_cache_line() {
        assert_eq!(size_of::<Candidate>(), 32);
    }

    #[test]
    fn the_cost_of_extremes_does_not_overflow() {
        let mut candidate = loaded(u32::MAX, 1);
        candidate.in_flight_elsewhere = u32::MAX;
        assert!(candidate.cost() > loaded(u32::MAX, 1).cost());
        assert!(loaded(0, u32::MAX).cost() > 0);
    }

    proptest! {
        #[test]
        fn cost_orders_paths_by_load_over_weight(
            a in (0..4096_u32, 1..1024_u32), b in (0..4096_u32, 1..1024_u32),
        ) {
            let exact = u64::from(a.0 + 1) * u64::from(b.1);
            let other = u64::from(b.0 + 1) * u64::from(a.1);
            if exact != other {
                prop_assert_eq!(exact < other, loaded(a.0, a.1).cost() < loaded(b.0, b.1).cost());
            }
        }

        #[test]
        fn the_cheapest_is_the_first_minimum_from_start_on(
            eligible: u64, start in 0..200_usize, loads in prop::collection::vec(0..4_u32, MAX_PATHS),
        ) {
            let table = std::array::from_fn(|index| loaded(loads[index], 1));
            let candidates = Candidates::new(eligible, &table);
            let round = (0..MAX_PATHS).map(|step| (start + step) % MAX_PATHS);
            let obvious = round.filter(|&index| candidates.contains(index)).min_by_key(|&index| loads[index]);
            prop_assert_eq!(candidates.cheapest_from(start, |_, path| path.cost()), obvious);
        }
    }
}
