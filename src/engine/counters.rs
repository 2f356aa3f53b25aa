//! What one queue did on one path: counted by the queue's thread, read by anyone.

use std::time::Duration;

use crate::error::Fate;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Buckets per factor of two: a percentile is exact to one sixteenth.
const STEPS: u32 = 16;
const STEP_BITS: u32 = STEPS.ilog2();
/// Factors of two that are told apart above `STEPS` ns: up to 2^40 ns, 18 minutes.
const OCTAVES: u32 = 36;
const BUCKETS: usize = (STEPS * (OCTAVES + 1)) as usize;

/// Counters of one queue on one path. One thread writes; loads and stores are relaxed, each number stands for itself.
#[derive(Debug)]
pub(crate) struct PathCounters {
    completed: AtomicU64,
    bytes: AtomicU64,
    in_flight: AtomicU32,
    failed: [AtomicU64; 5],
    latency: [AtomicU32; BUCKETS],
}

impl Default for PathCounters {
    fn default() -> Self {
        Self {
            completed: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            failed: std::array::from_fn(|_| AtomicU64::new(0)),
            latency: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }
}

impl PathCounters {
    #[inline]
    pub(crate) fn success(&self, bytes: u32, nanos: u64) {
        add(&self.completed, 1);
        add(&self.bytes, u64::from(bytes));
        let bucket = &self.latency[bucket(nanos)];
        bucket.store(bucket.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
    }

    pub(crate) fn failure(&self, fate: Fate) {
        add(&self.failed[row(fate)], 1);
    }

    /// Publishes how many attempts the queue has out.
    pub(crate) fn set_in_flight(&self, count: u32) {
        self.in_flight.store(count, Ordering::Relaxed);
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Adds what was counted so far to `total`.
    pub(crate) fn add_to(&self, total: &mut Totals) {
        total.completed += self.completed.load(Ordering::Relaxed);
        total.bytes += self.bytes.load(Ordering::Relaxed);
        total.in_flight += self.in_flight();
        for (sum, count) in total.failed.iter_mut().zip(&self.failed) {
            *sum += count.load(Ordering::Relaxed);
        }
        for (sum, count) in total.latency.iter_mut().zip(&self.latency) {
            *sum += u64::from(count.load(Ordering::Relaxed));
        }
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

const fn row(fate: Fate) -> usize {
    match fate {
        Fate::NotSent => 0,
        Fate::Refused => 1,
        Fate::Unknown => 2,
        Fate::Congested => 3,
        Fate::Final => 4,
    }
}

/// Sums over queues.
#[derive(Clone, Debug)]
pub(crate) struct Totals {
    pub(crate) completed: u64,
    pub(crate) bytes: u64,
    pub(crate) in_flight: u32,
    failed: [u64; 5],
    latency: Box<[u64]>,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            completed: 0,
            bytes: 0,
            in_flight: 0,
            failed: [0; 5],
            latency: vec![0; BUCKETS].into_boxed_slice(),
        }
    }
}

impl Totals {
    pub(crate) fn failed(&self, fate: Fate) -> u64 {
        self.failed[row(fate)]
    }

    /// The latency that `per_mille` of the successes did not exceed, to one sixteenth; `None` without any.
    pub(crate) fn percentile(&self, per_mille: u32) -> Option<Duration> {
        let count: u64 = self.latency.iter().sum();
        if count == 0 {
            return None;
        }
        let rank = (count * u64::from(per_mille)).div_ceil(1000).max(1);
        let mut seen = 0;
        let bucket = self.latency.iter().position(|&in_bucket| {
            seen += in_bucket;
            seen >= rank
        })?;
        Some(Duration::from_nanos(upper(bucket)))
    }
}

/// Log-linear: values below `STEPS` each have a bucket, above that every factor of two has `STEPS`.
#[inline]
fn bucket(nanos: u64) -> usize {
    let octave = (nanos | 1).ilog2().saturating_sub(STEP_BITS);
    let step = nanos >> octave;
    // In the octaves above the first the leading bit is always set: it is not stored.
    usize::try_from(u64::from(octave * STEPS) + step).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// Largest value in a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let steps = u64::from(STEPS);
    if bucket < 2 * steps {
        return bucket;
    }
    let octave = bucket / steps - 1;
    ((bucket - octave * steps + 1) << octave) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_falls_in_a_bucket_that_ends_within_a_sixteenth() {
        for exponent in 0..40 {
            for offset in [0, 1, 3] {
                let nanos = (1u64 << exponent) + offset;
                let end = upper(bucket(nanos));
                assert!(end >= nanos && end - nanos <= nanos / 16 + 1, "{nanos} {end}");
            }
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn buckets_ascend() {
        let ends: Vec<u64> = (0..BUCKETS).map(upper).collect();
        assert!(ends.is_sorted());
    }

    #[test]
    fn percentiles_count_from_the_fastest() {
        let counters = PathCounters::default();
        for micros in 1..=100 {
            counters.success(4096, micros * 1000);
        }
        let mut total = Totals::default();
        counters.add_to(&mut total);
        let median = total.percentile(500).unwrap().as_micros();
        assert!((50..=54).contains(&median), "{median}");
        let tail = total.percentile(990).unwrap().as_micros();
        assert!((99..=106).contains(&tail), "{tail}");
        assert_eq!((total.completed, total.bytes), (100, 409_600));
    }
}
