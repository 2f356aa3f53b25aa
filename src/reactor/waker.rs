//! Waking a queue's thread from another thread.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::error::Error;
use crate::reactor::Port;
use crate::reactor::eventfd::EventFd;
use crate::sync::{AtomicU64, Ordering};
use crate::time::Tick;

/// What other threads have to say to a queue's thread: the reading side.
///
/// A wake writes three places in this order: the port's bit, the number of wakes, the eventfd. Since every wake adds
/// one to the number and one to the eventfd, the reader knows by comparing the number with what it has drained
/// whether anything is outstanding, at the price of one load.
#[derive(Debug)]
pub(crate) struct Ready {
    shared: Arc<Shared>,
    /// Sum of all that was read from the eventfd. At most the number of wakes.
    drained: u64,
    /// Ports that were collected and not taken.
    ports: u64,
}

#[derive(Debug)]
struct Shared {
    /// Bit `index & 63` of the ports to poll. Wakers set (the bell none), the reader takes; publishes what the waker did
    /// before.
    ports: AtomicU64,
    /// Number of wakes so far, of ports and of the bell. Wakers add; publishes nothing by itself.
    wakes: AtomicU64,
    /// Counts the same wakes, for the kernel to sleep on.
    bell: EventFd,
}

impl Ready {
    pub(crate) fn new() -> Result<Self, Error> {
        let bell =
            EventFd::new().map_err(|source| Error::os("making an eventfd to wake a queue by", source))?;
        let shared = Shared { ports: AtomicU64::new(0), wakes: AtomicU64::new(0), bell };
        Ok(Self { shared: Arc::new(shared), drained: 0, ports: 0 })
    }

    /// The ports woken since the last call.
    pub(crate) fn take(&mut self) -> u64 {
        self.collect();
        std::mem::take(&mut self.ports)
    }

    /// Whether a wake came since the last call, or ports wait to be taken. If not, it is safe to sleep: the next wake,
    /// and one that is half done, makes the eventfd readable.
    pub(crate) fn collect(&mut self) -> bool {
        if self.shared.wakes.load(Ordering::Relaxed) == self.drained {
            return self.ports != 0;
        }
        // Drained before the bits are taken: a wake that comes in between leaves the eventfd readable. Of one whose
        // write to the eventfd is still to come, it does not matter whether the bit is taken now or then.
        let rung = self.shared.bell.drain();
        self.drained = self.drained.wrapping_add(rung);
        // Pairs with `fetch_or` in `Waker::wake`.
        self.ports |= self.shared.ports.swap(0, Ordering::Acquire);
        rung > 0 || self.ports != 0
    }

    /// Sleeps until a wake or `until`, without a ring.
    pub(crate) fn sleep(&self, until: Option<Tick>) {
        self.shared.bell.sleep(until);
    }

    /// Wakes for `port`, or for none.
    pub(crate) fn waker(&self, port: Option<Port>) -> Waker {
        let bit = port.map_or(0, Port::bit);
        Waker { shared: Arc::clone(&self.shared), bit }
    }
}

#[cfg(not(loom))]
impl AsFd for Ready {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.bell.as_fd()
    }
}

#[cfg(loom)]
impl AsFd for Ready {
    fn as_fd(&self) -> BorrowedFd<'_> {
        unreachable!("a model has no file descriptors")
    }
}

/// Has a port polled soon, from any thread. Costs a system call: for what is rare, not for every I/O.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
    bit: u64,
}

impl Waker {
    /// Wakes the queue's thread if it sleeps, and has the port polled. What was done before is seen by that poll.
    pub fn wake(&self) {
        // Pairs with `swap` in `Ready::take`.
        self.shared.ports.fetch_or(self.bit, Ordering::Release);
        self.shared.wakes.fetch_add(1, Ordering::Relaxed);
        // The kernel's own lock orders this before a drain that takes it, and with it all of the above.
        self.shared.bell.ring();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn woken_ports_are_taken_once() {
        let mut ready = Ready::new().unwrap();
        let (three, five) = (ready.waker(Some(Port::new(3))), ready.waker(Some(Port::new(5))));
        assert_eq!(ready.take(), 0);
        three.wake();
        five.wake();
        three.clone().wake();
        assert_eq!(ready.take(), 1 << 3 | 1 << 5);
        assert_eq!(ready.take(), 0);
        assert!(!ready.collect());
    }

    #[test]
    fn what_was_collected_is_taken_later() {
        let mut ready = Ready::new().unwrap();
        ready.waker(Some(Port::new(3))).wake();
        assert!(ready.collect());
        assert!(ready.collect(), "until it is taken");
        assert_eq!(ready.take(), 1 << 3);
        assert!(!ready.collect());
    }

    #[test]
    fn the_bell_wakes_without_a_port() {
        let mut ready = Ready::new().unwrap();
        ready.waker(None).wake();
        ready.sleep(None);
        assert!(ready.collect());
        assert!(!ready.collect());
        assert_eq!(ready.take(), 0);
    }

    #[test]
    fn a_wake_outlives_its_reader() {
        let waker = Ready::new().unwrap().waker(Some(Port::new(1)));
        waker.wake();
    }
}

/// Run with `RUSTFLAGS="--cfg loom" cargo test --release --lib loom`.
#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use loom::sync::atomic::AtomicU32;

    /// Something that is published by a wake: not by itself.
    type Word = Arc<AtomicU32>;

    /// Reads until each port of `words` was taken, sleeping whenever nothing is pending: a lost wake is a deadlock. What
    /// was written before a port's wake must be seen as soon as the port is taken.
    fn read_until(ready: &mut Ready, words: &[Word]) {
        let mut missing = (1 << words.len()) - 1;
        loop {
            let taken = ready.take();
            for (port, word) in words.iter().enumerate() {
                assert!(taken >> port & 1 == 0 || word.load(Ordering::Relaxed) == 7);
            }
            missing &= !taken;
            if missing == 0 {
                return;
            }
            if !ready.collect() {
                ready.sleep(None);
            }
        }
    }

    fn publish(word: &Word, waker: &Waker) {
        word.store(7, Ordering::Relaxed);
        waker.wake();
    }

    #[test]
    fn loom_no_wake_is_lost_and_what_was_done_before_is_seen() {
        loom::model(|| {
            let mut ready = Ready::new().unwrap();
            let word = Word::default();
            let (waker, published) = (ready.waker(Some(Port::new(0))), Arc::clone(&word));
            let thread = loom::thread::spawn(move || publish(&published, &waker));
            read_until(&mut ready, &[word]);
            thread.join().unwrap();
        });
    }

    #[test]
    fn loom_what_was_done_before_a_bell_is_seen() {
        loom::model(|| {
            let mut ready = Ready::new().unwrap();
            let word = Word::default();
            let (bell, published) = (ready.waker(None), Arc::clone(&word));
            let thread = loom::thread::spawn(move || publish(&published, &bell));
            while ready.drained == 0 {
                ready.sleep(None);
                ready.take();
            }
            assert_eq!(word.load(Ordering::Relaxed), 7);
            thread.join().unwrap();
        });
    }

    #[test]
    fn loom_two_wakers_and_the_bell_do_not_hide_each_other() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let mut ready = Ready::new().unwrap();
            let words = [Word::default(), Word::default()];
            let [zero, one] = [0, 1].map(|port| ready.waker(Some(Port::new(port))));
            let [first, second] = words.clone();
            let bell = ready.waker(None);
            let first = loom::thread::spawn(move || {
                bell.wake();
                publish(&first, &zero);
            });
            let second = loom::thread::spawn(move || publish(&second, &one));
            read_until(&mut ready, &words);
            first.join().unwrap();
            second.join().unwrap();
            ready.take();
            assert_eq!((ready.drained, ready.collect()), (3, false));
        });
    }
}
