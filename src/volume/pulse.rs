//! Whether to go on looking for work, or to sleep.

use std::time::Duration;

use crate::time::{Tick, nanos};

/// To sleep and be woken costs so much that a shorter wait is better spent looking.
const WORTH: u64 = nanos(Duration::from_micros(60));
/// How long to look without letting others run.
const SPIN: u64 = nanos(Duration::from_micros(4));
/// How long to look at all.
const LIMIT: u64 = nanos(Duration::from_micros(50));
/// Longest wait that is learnt from: a night without I/O must not count for a thousand waits.
const MOST: u64 = nanos(Duration::from_micros(500));

/// To let others run for longer than this is to have lost the core to somebody who has nothing to do with this.
const USURPED: u64 = nanos(Duration::from_micros(200));
/// For how long nobody is let run then.
const WARY: Duration = Duration::from_millis(100);

/// What to do while there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// Look again at once.
    Look,
    /// Let others run, then look again.
    Yield,
    /// Sleep.
    Sleep,
}

/// Learns how long there is nothing to do.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// Mean of the last waits, in nanoseconds.
    expected: u64,
    since: Option<Tick>,
    /// When others were let run, if that was the last thing said.
    yielded: Option<Tick>,
    /// Until when others are not let run.
    wary: Tick,
}

impl Pulse {
    /// One that expects what another has learnt.
    pub(crate) const fn expecting(nanos: u64) -> Self {
        Self { expected: nanos, since: None, yielded: None, wary: Tick::ZERO }
    }

    /// How long a wait is expected to last, in nanoseconds.
    pub(crate) const fn expected(&self) -> u64 {
        self.expected
    }

    /// There was something to do.
    pub(crate) fn busy(&mut self, now: Tick) {
        self.resumed(now);
        if let Some(since) = self.since.take() {
            let wait = now.nanos_since(since).min(MOST);
            self.expected = (self.expected * 7 + wait) / 8;
        }
    }

    /// There is nothing to do.
    pub(crate) fn idle(&mut self, now: Tick) -> Pause {
        self.resumed(now);
        let waited = now.nanos_since(*self.since.get_or_insert(now));
        if self.expected > WORTH || waited >= LIMIT {
            Pause::Sleep
        } else if waited < SPIN || now < self.wary {
            Pause::Look
        } else {
            self.yielded = Some(now);
            Pause::Yield
        }
    }

    /// Looks how long others ran.
    fn resumed(&mut self, now: Tick) {
        if self.yielded.take().is_some_and(|yielded| now.nanos_since(yielded) > USURPED) {
            self.wary = now.after(WARY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pause::{Look, Sleep, Yield};
    use super::*;

    fn wait(pulse: &mut Pulse, nanos: u64) -> Pause {
        let pause = pulse.idle(Tick::ZERO);
        pulse.busy(Tick::from_nanos(nanos));
        pause
    }

    #[test]
    fn after_long_waits_it_sleeps_at_once_and_after_short_ones_it_looks_again() {
        let mut pulse = Pulse::default();
        assert_eq!(wait(&mut pulse, 1_000_000_000), Pause::Look);
        for _ in 0..8 {
            wait(&mut pulse, 1_000_000_000);
        }
        assert_eq!(wait(&mut pulse, 10_000), Pause::Sleep);
        for _ in 0..40 {
            wait(&mut pulse, 10_000);
        }
        assert_eq!(wait(&mut pulse, 10_000), Pause::Look);
    }

    #[test]
    fn who_keeps_the_core_is_not_let_run_again_soon() {
        let micros = |micros: u64| Tick::from_nanos(micros * 1000);
        let mut pulse = Pulse::default();
        let pauses = [0, 5, 1_000].map(|at| pulse.idle(micros(at)));
        assert_eq!(pauses, [Look, Yield, Sleep]);
        pulse.busy(micros(2_000));
        pulse.expected = 0;
        let pauses = [2_000, 2_010, 2_040, 2_060].map(|at| pulse.idle(micros(at)));
        assert_eq!(pauses, [Look, Look, Look, Sleep]);
        pulse.busy(micros(150_000));
        pulse.expected = 0;
        assert_eq!([150_000, 150_010].map(|at| pulse.idle(micros(at))), [Look, Yield]);
    }

    #[test]
    fn it_looks_then_yields_then_sleeps() {
        let mut pulse = Pulse::default();
        let pauses = [0, 3_000, 5_000, 49_000, 50_000].map(|nanos| pulse.idle(Tick::from_nanos(nanos)));
        assert_eq!(pauses, [Look, Look, Yield, Yield, Sleep]);
    }
}
