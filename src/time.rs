//! Points in time, as plain numbers.
//!
//! Nothing between the queue and the policy reads a clock: whoever polls passes `now`. A daemon passes
//! [`Tick::now`]; the simulator passes virtual time.

use std::fmt;
use std::time::Duration;

/// A point in time: nanoseconds since an origin that is the same for the whole process.
///
/// Arithmetic saturates, it never wraps: [`Tick::MAX`] is "never".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(u64);

impl Tick {
    /// The origin.
    pub const ZERO: Self = Self(0);
    /// Later than every other tick.
    pub const MAX: Self = Self(u64::MAX);

    /// The present, read from `CLOCK_MONOTONIC` (25 to 30 ns): read it once per batch.
    pub fn now() -> Self {
        crate::os::monotonic()
    }

    /// The tick `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The tick `span` later, [`Tick::MAX`] if that is past the end.
    #[must_use]
    pub const fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }

    /// So many nanoseconds later.
    #[inline]
    pub(crate) const fn after_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }

    /// The same in nanoseconds: where every I/O passes a `Duration` is two multiplications too many.
    pub(crate) const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000 / 1_000)
    }
}

/// The whole nanoseconds of `span`, `u64::MAX` if it has more than fit (584 years).
pub(crate) const fn nanos(span: Duration) -> u64 {
    let nanos = span.as_nanos();
    if nanos > u64::MAX as u128 {
        return u64::MAX;
    }
    #[allow(clippy::cast_possible_truncation, reason = "compared above")]
    let nanos = nanos as u64;
    nanos
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Tick::MAX.after(Duration::from_secs(1)), Tick::MAX);
        assert_eq!(Tick::ZERO.after(Duration::MAX), Tick::MAX);
        assert_eq!(Tick::ZERO.since(Tick::MAX), Duration::ZERO);
    }

    #[test]
    fn displays_seconds_and_microseconds() {
        assert_eq!(Tick::from_nanos(12_000_345_678).to_string(), "12.000345s");
    }
}
