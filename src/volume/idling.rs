//! How a thread that polls waits for the next thing to do.

use std::time::Duration;

use crate::time::Tick;

/// What it costs to be woken, about: as long as this it may pay to poll on. Between cores that halt when they are idle,
/// as those of virtual machines do, it is 50 microseconds.
const DEAREST: Duration = Duration::from_micros(50);

/// What a thread that found nothing to do is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// Look again at once.
    Spin,
    /// Let another thread run, then look again.
    Yield,
    /// Sleep.
    Sleep,
}

/// Decides between polling and sleeping, by how long it took of late until there was something to do.
#[derive(Debug)]
pub(crate) struct Idling {
    /// Since when there is nothing to do.
    since: Option<Tick>,
    /// How long that lasted, of late: a decaying mean.
    usual: Duration,
}

impl Idling {
    pub(crate) const fn new() -> Self {
        Self::resume(Duration::ZERO)
    }

    /// One that knows how long it took of late.
    pub(crate) const fn resume(usual: Duration) -> Self {
        Self { since: None, usual }
    }

    /// How long it took of late.
    pub(crate) const fn usual(&self) -> Duration {
        self.usual
    }

    /// Whether there was nothing to do when it was last asked.
    pub(crate) const fn is_idle(&self) -> bool {
        self.since.is_some()
    }

    /// There was something to do.
    #[inline]
    pub(crate) fn busy(&mut self, now: Tick) {
        if let Some(since) = self.since.take() {
            // A long sleep counts as one that was just too long to poll through: a burst after it is soon noticed.
            let lasted = now.since(since).min(DEAREST * 4);
            self.usual = (self.usual * 7 + lasted) / 8;
        }
    }

    /// There was nothing to do.
    #[inline]
    pub(crate) fn idle(&mut self, now: Tick) -> Idle {
        let since = *self.since.get_or_insert(now);
        if self.usual > DEAREST {
            return Idle::Sleep;
        }
        match now.since(since) {
            short if short < self.usual => Idle::Spin,
            longer if longer < DEAREST => Idle::Yield,
            _ => Idle::Sleep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(micros: u64) -> Tick {
        Tick::from_nanos(micros * 1000)
    }

    #[test]
    fn short_waits_are_polled_through_and_long_ones_slept_through() {
        let mut idling = Idling::new();
        for round in 0..100 {
            assert_ne!(idling.idle(at(round * 100)), Idle::Sleep);
            idling.busy(at(round * 100 + 10));
        }
        assert_eq!(idling.idle(at(20_000)), Idle::Spin);
        assert_eq!(idling.idle(at(20_030)), Idle::Yield);
        assert_eq!(idling.idle(at(20_060)), Idle::Sleep);
        for round in 0..100 {
            idling.busy(at(100_000 * (round + 1)));
            idling.idle(at(100_000 * (round + 1)));
        }
        assert_eq!(idling.idle(at(100_000 * 101)), Idle::Sleep);
    }
}
