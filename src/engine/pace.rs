//! How long a path takes, and from when on an answer of it is late.
//!
//! The longest of a window's reads and writes says more of what is still ordinary than a mean, and costs one comparison. What
//! is late is not yet a failure: the path is asked, and what can be had elsewhere is fetched there.

use std::time::Duration;

use crate::time::{Tick, nanos};

/// Shortest time that a window lasts, and fewest reads and writes in it.
const WINDOW: Duration = Duration::from_secs(1);
const FEWEST: u32 = 64;
/// So many times the longest is late.
const TIMES: u64 = 2;
/// An answer counts for no more than so many times what was late when it came: one that a stall has held up for seconds says
/// nothing of what is usual, and a path that has become slow is known after a few scans all the same.
const GROWTH: u64 = 2;
/// What is late where too little is known to say better.
const UNKNOWN: Duration = Duration::from_millis(100);

/// One path's pace, as one queue sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Longest that a read or a write took, in ns: in this window, and in the one before.
    longest: u64,
    before: u64,
    /// Reads and writes of this window.
    count: u32,
    began: Tick,
    /// The age from which on an answer is late, in ns, and the least that it can be.
    allowance: u64,
    floor: u64,
}

impl Pace {
    /// Of a path of which nothing is known. Nothing is late there before `floor`.
    pub(super) fn new(floor: Duration) -> Self {
        let allowance = nanos(floor.max(UNKNOWN));
        Self { longest: 0, before: 0, count: 0, began: Tick::ZERO, allowance, floor: nanos(floor) }
    }

    /// A read or a write has taken so long.
    #[inline]
    pub(super) const fn note(&mut self, nanos: u64) {
        self.count = self.count.saturating_add(1);
        if nanos > self.longest {
            let most = self.allowance.saturating_mul(GROWTH);
            self.longest = if nanos < most { nanos } else { most };
        }
    }

    /// The age from which on a read or a write is late, in ns.
    #[inline]
    pub(super) const fn allowance(&self) -> u64 {
        self.allowance
    }

    /// Reckons it anew.
    pub(super) fn turn(&mut self, now: Tick) {
        if self.count >= FEWEST && now.since(self.began) >= WINDOW {
            (self.before, self.longest, self.count, self.began) = (self.longest, 0, 0, now);
        }
        if self.before > 0 {
            self.allowance = self.before.max(self.longest).saturating_mul(TIMES).max(self.floor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;
    const FLOOR: Duration = Duration::from_millis(3);
    const LEAST: u64 = 3 * MILLI;

    fn at(millis: u64) -> Tick {
        Tick::from_nanos(millis * MILLI)
    }

    #[test]
    fn little_is_late_before_a_window_is_over() {
        let mut pace = Pace::new(FLOOR);
        pace.turn(at(1));
        (0..FEWEST - 1).for_each(|_| pace.note(MILLI));
        pace.turn(at(5000));
        assert_eq!(pace.allowance, nanos(UNKNOWN));
        pace.note(20 * MILLI);
        pace.turn(at(5001));
        assert_eq!(pace.allowance, 40 * MILLI);
    }

    #[test]
    fn one_that_takes_longer_counts_at_once_and_is_forgotten_after_two_windows() {
        let mut pace = Pace::new(FLOOR);
        let window = |pace: &mut Pace, nanos: u64, end: u64| {
            (0..FEWEST).for_each(|_| pace.note(nanos));
            pace.turn(at(end));
            pace.allowance
        };
        assert_eq!(window(&mut pace, 1000, 2000), LEAST);
        pace.note(5 * MILLI);
        pace.turn(at(2001));
        assert_eq!(pace.allowance, 10 * MILLI);
        assert_eq!(window(&mut pace, 1000, 4000), 10 * MILLI);
        assert_eq!(window(&mut pace, 1000, 6000), LEAST);
    }

    #[test]
    fn what_a_stall_has_held_up_says_little_and_a_path_that_has_become_slow_is_soon_known() {
        let mut pace = Pace::new(FLOOR);
        (0..FEWEST).for_each(|_| pace.note(1000));
        pace.turn(at(2000));
        (0..20).for_each(|_| pace.note(3000 * MILLI));
        pace.turn(at(2001));
        assert_eq!(pace.allowance, LEAST * 4);
        for scan in 0..3 {
            pace.note(100 * MILLI);
            pace.turn(at(2002 + scan));
        }
        assert_eq!(pace.allowance, 200 * MILLI);
    }
}
