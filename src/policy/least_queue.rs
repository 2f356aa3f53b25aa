//! The path with the least to do.

use crate::policy::{Candidates, IoSummary, MakePolicy, Policy};

/// Each I/O takes the path with the fewest attempts out, counting the one to be placed, divided by the path's weight.
/// This queue's attempts are counted exactly, those of other queues as they last said. Equals take turns.
///
/// When to use it: when in doubt. A path that slows down keeps its attempts longer and is given fewer, without
/// anything being measured; paths that are alike share evenly. With few I/Os out at a time it knows little: a slow
/// path that is idle looks as good as a fast one, which [`AdaptiveLatency`](super::AdaptiveLatency) mends.
///
/// Cost: one look at each candidate, about a nanosecond each.
///
/// Source: the `queue-length` selector of Linux dm-multipath (`drivers/md/dm-ps-queue-length.c`) and the `queue-depth`
/// policy of its NVMe driver (`drivers/nvme/host/multipath.c`), with weights as the relative throughput of
/// `drivers/md/dm-ps-service-time.c` has them.
///
/// ```
/// use mpio::policy::{LeastQueue, MakePolicy};
///
/// assert_eq!(LeastQueue::new().name(), "least-queue");
/// ```
#[derive(Clone, Debug, Default)]
pub struct LeastQueue {
    /// Where the next look starts: after the path selected last, so that equals take turns.
    start: usize,
}

impl LeastQueue {
    /// It has no settings.
    pub const fn new() -> Self {
        Self { start: 0 }
    }
}

impl Policy for LeastQueue {
    fn select(&mut self, _io: &IoSummary, candidates: &Candidates<'_>) -> usize {
        let index = candidates.cheapest_from(self.start, |_, path| path.cost()).unwrap_or(0);
        self.start = index + 1;
        index
    }

    fn observes(&self) -> bool {
        false
    }
}

impl MakePolicy for LeastQueue {
    fn make(&self, _seed: u64) -> Box<dyn Policy> {
        Box::new(Self::new())
    }

    fn name(&self) -> String {
        "least-queue".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::suite::Table;
    use proptest::prelude::*;

    #[test]
    fn equals_take_turns() {
        let mut table = Table::new(4);
        table.path(1).in_flight = 5;
        let picks: Vec<_> = std::iter::repeat_with({
            let mut policy = LeastQueue::new();
            move || policy.select(&Table::READ, &table.candidates())
        })
        .take(6)
        .collect();
        assert_eq!(picks, [0, 2, 3, 0, 2, 3]);
    }

    #[test]
    fn the_load_of_other_queues_counts() {
        let mut table = Table::new(2);
        table.path(0).in_flight_elsewhere = 3;
        table.path(1).in_flight = 2;
        assert_eq!(LeastQueue::new().select(&Table::READ, &table.candidates()), 1);
    }

    proptest! {
        #[test]
        fn what_is_out_is_shared_by_weight(
            weights in prop::collection::vec(1..20_u32, 1..=32), rounds in 1..20_u32,
        ) {
            let mut table = Table::new(weights.len());
            for (index, &weight) in weights.iter().enumerate() {
                table.weigh(index, weight);
            }
            let total = weights.iter().sum::<u32>() * rounds;
            let mut policy = LeastQueue::new();
            for _ in 0..total {
                let index = policy.select(&Table::READ, &table.candidates());
                table.path(index).in_flight += 1;
            }
            let out: Vec<_> = (0..weights.len()).map(|index| table.path(index).in_flight).collect();
            for (index, &weight) in weights.iter().enumerate() {
                prop_assert!(out[index].abs_diff(weight * rounds) <= 1, "{:?} of {:?} times {}", out, weights, rounds);
            }
        }
    }
}
