//! The path that is likely to answer first.

use std::time::Duration;

use crate::error::Error;
use crate::io::{Operation, PathId};
use crate::policy::estimates::Estimates;
use crate::policy::{Candidate, Candidates, IoSummary, MAX_PATHS, MakePolicy, Observation, Policy};
use crate::time::Tick;

/// Selections between two probes, at the least: so slow paths stay out of the 99th percentile.
const PROBE_SPACING: u32 = 128;

/// Each I/O takes the path with the lowest product of expected latency and attempts out (counting the one to be
/// placed, over all queues), divided by the path's weight. Equals take turns.
///
/// What is expected is a moving average of the latencies that were observed, of reads and of writes apart. Errors do
/// not count: a path that fails fast does not look fast. A new path is expected to be as good as the best one
/// known, so that it is tried at once and not flooded.
///
/// When to use it: paths that differ (links of different length or speed, a controller that is busier than another)
/// or that change while in use. Where all are alike, [`LeastQueue`](super::LeastQueue) does the same for less.
///
/// A path that looks slow gets little or nothing, and what is known of it grows old. One of which nothing was heard
/// for a [`probe_interval`](Self::probe_interval) is given one I/O, however it looks, unless an earlier one is still
/// out; at most one I/O in 128 is spent in this way. Its answer then counts for half of the average, so that a path
/// which recovers is back after a few.
///
/// Sizes are not told apart: where small and large I/O are mixed, the average is that of the mixture.
///
/// Cost: one look at each candidate, one to two nanoseconds each, and a few for each I/O that was completed.
///
/// Source: "peak EWMA" balancing of Finagle and tower (`tower/src/load/peak_ewma.rs`) has the same product; the
/// `historical-service-time` selector of Linux dm-multipath (`drivers/md/dm-ps-historical-service-time.c`) the same
/// average per path.
///
/// ```
/// use std::time::Duration;
/// use mpio::policy::AdaptiveLatency;
///
/// let policy = AdaptiveLatency::new().probe_interval(Duration::from_millis(50))?;
/// # let _ = policy;
/// # Ok::<(), mpio::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AdaptiveLatency {
    probe_interval: Duration,
    reads: Estimates,
    writes: Estimates,
    /// The paths that were seen at each index.
    ids: [Option<PathId>; MAX_PATHS],
    /// Where the next look starts: after the path selected last, so that equals take turns.
    start: usize,
    /// When paths of which nothing was heard are next looked for.
    next_sweep: Tick,
    /// Selections since the last probe.
    since_probe: u32,
}

impl Default for AdaptiveLatency {
    fn default() -> Self {
        Self {
            probe_interval: Duration::from_millis(250),
            reads: Estimates::default(),
            writes: Estimates::default(),
            ids: [None; MAX_PATHS],
            start: 0,
            next_sweep: Tick::ZERO,
            since_probe: 0,
        }
    }
}

impl AdaptiveLatency {
    /// Probes silent paths every 250 ms.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with another time after which a path of which nothing was heard is probed.
    ///
    /// # Errors
    /// [`Error::Setting`] if `interval` is zero.
    pub fn probe_interval(mut self, interval: Duration) -> Result<Self, Error> {
        if interval.is_zero() {
            return Err(Error::setting(
                "probe_interval",
                "0 would make every I/O a probe; give some milliseconds",
            ));
        }
        self.probe_interval = interval;
        Ok(self)
    }

    /// The expectations that apply to an operation: whatever is not a read counts as a write.
    fn estimates(&mut self, operation: Operation) -> &mut Estimates {
        if operation == Operation::Read { &mut self.reads } else { &mut self.writes }
    }

    /// A path that is to be probed with this I/O.
    fn probe(&mut self, io: &IoSummary, candidates: &Candidates<'_>) -> Option<usize> {
        if io.now >= self.next_sweep {
            self.reads.sweep(candidates);
            self.writes.sweep(candidates);
            self.next_sweep = io.now.after(self.probe_interval);
        }
        self.since_probe = self.since_probe.saturating_add(1);
        if self.since_probe < PROBE_SPACING || !is_observed(io.operation) {
            return None;
        }
        let index = self.estimates(io.operation).take_due(candidates)?;
        self.since_probe = 0;
        Some(index)
    }
}

impl Policy for AdaptiveLatency {
    fn select(&mut self, io: &IoSummary, candidates: &Candidates<'_>) -> usize {
        if let Some(index) = self.probe(io, candidates) {
            return index;
        }
        let start = self.start;
        let expected = self.estimates(io.operation).nanos();
        // At most 96 bits.
        let cost = |index: usize, path: &Candidate| u128::from(expected[index]) * u128::from(path.cost());
        let index = candidates.cheapest_from(start, cost).unwrap_or(0);
        self.start = index + 1;
        index
    }

    fn observe(&mut self, observations: &[Observation]) {
        for observation in observations {
            if is_observed(observation.operation) {
                self.estimates(observation.operation).observe(observation.index, observation.latency);
            }
        }
    }

    fn paths_changed(&mut self, candidates: &Candidates<'_>) {
        for (index, path) in candidates.iter() {
            if self.ids[index].replace(path.id) != Some(path.id) {
                self.reads.forget(index);
                self.writes.forget(index);
            }
        }
    }
}

/// Whether latencies of such operations say what to expect: those that move data do, a flush or a discard does not.
const fn is_observed(operation: Operation) -> bool {
    operation.has_data()
}

impl MakePolicy for AdaptiveLatency {
    fn make(&self, _seed: u64) -> Box<dyn Policy> {
        Box::new(Self { probe_interval: self.probe_interval, ..Self::new() })
    }

    fn name(&self) -> String {
        "adaptive-latency".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::io::Durability;
    use crate::policy::suite::Table;
    use proptest::prelude::*;

    const WRITE: Operation = Operation::Write(Durability::Cached);

    /// Paths that serve one I/O at a time, each in its own time, under a constant number of I/Os.
    struct ClosedLoop {
        table: Table,
        policy: AdaptiveLatency,
        service: Vec<u64>,
        /// When each path is free again.
        free: Vec<u64>,
        /// End, path and latency of what is out.
        out: BTreeSet<(u64, usize, u64)>,
        now: u64,
    }

    impl ClosedLoop {
        fn new(service: &[u64]) -> Self {
            let table = Table::new(service.len());
            let free = vec![0; service.len()];
            let policy = AdaptiveLatency::new();
            Self { table, policy, service: service.to_vec(), free, out: BTreeSet::new(), now: 0 }
        }

        fn place(&mut self) -> usize {
            let io = IoSummary { now: Tick::from_nanos(self.now), ..Table::READ };
            let path = self.policy.select(&io, &self.table.candidates());
            self.table.path(path).in_flight += 1;
            self.free[path] = self.free[path].max(self.now) + self.service[path];
            self.out.insert((self.free[path], path, self.free[path] - self.now));
            path
        }

        /// I/Os placed on each path in `seconds`, with `depth` of them out at a time.
        fn run(&mut self, depth: usize, seconds: u64) -> Vec<u64> {
            let end = self.now + seconds * 1_000_000_000;
            let mut placed = vec![0; self.service.len()];
            while self.now < end {
                while self.out.len() < depth {
                    placed[self.place()] += 1;
                }
                let (at, path, latency) = self.out.pop_first().unwrap();
                self.now = at;
                self.table.path(path).in_flight -= 1;
                let latency = Duration::from_nanos(latency);
                self.policy.observe(&[Observation::new(path, Operation::Read, 4096, latency)]);
            }
            placed
        }
    }

    #[test]
    fn a_faster_path_carries_most_and_a_slow_one_is_still_probed() {
        let mut paths = ClosedLoop::new(&[1_000_000, 50_000, 1_000_000]);
        paths.run(1, 1);
        let placed = paths.run(1, 10);
        let total: u64 = placed.iter().sum();
        assert!(placed[1] * 100 > total * 99, "{placed:?}");
        assert!(placed[0] >= 15 && placed[2] >= 15, "{placed:?}");
    }

    #[test]
    fn a_path_that_recovers_is_used_again() {
        let mut paths = ClosedLoop::new(&[100_000, 5_000_000]);
        paths.run(1, 2);
        paths.service = vec![100_000, 20_000];
        paths.run(1, 5);
        let placed = paths.run(1, 1);
        assert!(placed[1] > 99 * placed[0], "{placed:?}");
    }

    #[test]
    fn reads_and_writes_are_told_apart() {
        let table = Table::new(2);
        let mut policy = AdaptiveLatency::new();
        let seen = |index, operation, micros| {
            Observation::new(index, operation, 4096, Duration::from_micros(micros))
        };
        policy.observe(&[seen(0, Operation::Read, 100), seen(1, Operation::Read, 900)]);
        policy.observe(&[seen(0, WRITE, 900), seen(1, WRITE, 100)]);
        assert_eq!(policy.select(&Table::READ, &table.candidates()), 0);
        assert_eq!(policy.select(&IoSummary { operation: WRITE, ..Table::READ }, &table.candidates()), 1);
    }

    #[test]
    fn a_slow_flush_does_not_make_a_path_look_slow() {
        let table = Table::new(2);
        let mut policy = AdaptiveLatency::new();
        let seen =
            |index, operation, micros| Observation::new(index, operation, 0, Duration::from_micros(micros));
        policy.observe(&[seen(0, WRITE, 100), seen(1, WRITE, 200), seen(0, Operation::Flush, 1_000_000)]);
        assert_eq!(policy.select(&IoSummary { operation: WRITE, ..Table::READ }, &table.candidates()), 0);
    }

    #[test]
    fn a_new_path_at_an_old_index_is_not_taken_for_the_slow_one() {
        for operation in [Operation::Read, WRITE] {
            let mut table = Table::new(2);
            let mut policy = AdaptiveLatency::new();
            let io = IoSummary { operation, ..Table::READ };
            let pair = |policy: &mut AdaptiveLatency, table: &Table| {
                policy.paths_changed(&table.candidates());
                [(); 2].map(|()| policy.select(&io, &table.candidates()))
            };
            assert_eq!(pair(&mut policy, &table), [0, 1]);
            let seen =
                |index, micros| Observation::new(index, operation, 4096, Duration::from_micros(micros));
            policy.observe(&[seen(0, 100), seen(1, 50_000)]);
            assert_eq!(pair(&mut policy, &table), [0, 0]);
            table.replace(1);
            assert_eq!(pair(&mut policy, &table), [1, 0]);
        }
    }

    #[test]
    fn probes_are_rare_even_when_all_io_is() {
        let table = Table::new(4);
        let mut policy = AdaptiveLatency::new();
        let seen =
            |index, micros| Observation::new(index, Operation::Read, 4096, Duration::from_micros(micros));
        policy.observe(&[seen(0, 100), seen(1, 900), seen(2, 900), seen(3, 900)]);
        let probes = (1..=1280).filter(|&second| {
            let io = IoSummary { now: Tick::from_nanos(second * 1_000_000_000), ..Table::READ };
            let path = policy.select(&io, &table.candidates());
            policy.observe(&[seen(path, if path == 0 { 100 } else { 900 })]);
            path != 0
        });
        assert!((7..=10).contains(&probes.count()));
    }

    #[test]
    fn a_probe_interval_of_zero_is_refused() {
        let message = AdaptiveLatency::new().probe_interval(Duration::ZERO).unwrap_err().to_string();
        assert_eq!(message, "probe_interval: 0 would make every I/O a probe; give some milliseconds");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn throughput_is_near_that_of_all_paths_together(
            service in prop::collection::vec(20_000..2_000_000_u64, 2..=8),
        ) {
            let mut paths = ClosedLoop::new(&service);
            paths.run(64, 1);
            let placed = paths.run(64, 1);
            let possible: u64 = service.iter().map(|nanos| 1_000_000_000 / nanos).sum();
            let done: u64 = placed.iter().sum();
            prop_assert!(done * 10 > possible * 9, "{} of {} in {:?}", done, possible, placed);
        }
    }
}
