//! Waking a thread that may be asleep, for the price of a fence where it is not.
//!
//! The sleeper arms the bell, looks once more for something to do, and only then sleeps. Who has something for it makes
//! that visible first and rings then. Of the two, at least one sees what the other did: the sleeper that there is
//! something, or the ringer that the bell is armed. How the thread sleeps and is woken is its users' matter.

use crossbeam::utils::CachePadded;

use crate::sync::{AtomicU32, Ordering, fence};

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;

/// The bell of one thread, which others ring.
#[derive(Debug)]
pub(crate) struct Doorbell {
    /// Whether the thread sleeps or is about to. It arms and disarms; one ringer disarms. Publishes nothing: the fences
    /// order it against what was made visible.
    sleeper: CachePadded<AtomicU32>,
}

impl Doorbell {
    pub(crate) fn new() -> Self {
        Self { sleeper: CachePadded::new(AtomicU32::new(AWAKE)) }
    }

    /// To call after something was made visible. `true` if the sleeper has to be woken: to one ringer for each time that
    /// the bell was armed.
    #[inline]
    pub(crate) fn ring(&self) -> bool {
        // Pairs with the fence in `arm`: what came before this is seen by whoever looks after that, or the load below
        // sees the bell armed.
        fence(Ordering::SeqCst);
        self.sleeper.load(Ordering::Relaxed) == ASLEEP && self.wake()
    }

    #[cold]
    fn wake(&self) -> bool {
        // Writes only where it disarms: the thread may have disarmed and armed anew meanwhile.
        self.sleeper.compare_exchange(ASLEEP, AWAKE, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// To call before sleeping. Then look once more whether there is something; if so [`disarm`](Self::disarm), if not
    /// sleep.
    pub(crate) fn arm(&self) {
        self.sleeper.store(ASLEEP, Ordering::Relaxed);
        // Pairs with the fence in `ring`.
        fence(Ordering::SeqCst);
    }

    /// Whether nobody has rung since it was armed.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn is_armed(&self) -> bool {
        self.sleeper.load(Ordering::Relaxed) == ASLEEP
    }

    /// The thread is awake: nobody need wake it. A ringer may have decided to before this.
    pub(crate) fn disarm(&self) {
        self.sleeper.store(AWAKE, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_ringer_wakes_for_each_time_that_the_bell_was_armed() {
        let bell = Doorbell::new();
        assert!(!bell.ring());
        bell.arm();
        assert_eq!([bell.ring(), bell.ring()], [true, false]);
        bell.arm();
        bell.disarm();
        assert!(!bell.ring());
    }
}
