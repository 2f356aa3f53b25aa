//! Which caches hold completed writes that no flush has covered yet.
//!
//! For every cache (*scope*) each queue counts the writes that it completed; a flush notes the sum before it is sent
//! and, when it succeeds, leaves the sum as the scope's mark. A scope whose sum exceeds its mark is dirty.
//!
//! *Order.* A queue stores its count (Release) before it delivers the write's completion; a flush that is accepted
//! because of that completion reads the count later, so it sees it. The mark is loaded (Acquire) before the counts are
//! read: the flush that left the mark had read its counts before it stored the mark (Release), so the counts read now
//! are no older, each for itself, than those in the mark, and equal sums mean equal counts.

use crossbeam::utils::CachePadded;

use crate::path::QueueIndex;
use crate::policy::MAX_PATHS;
use crate::sync::{AtomicU64, Ordering};

/// Most scopes in a volume: each path brings at most one.
pub(crate) const MAX_SCOPES: usize = MAX_PATHS;

/// One queue's counts. Written by that queue alone.
type Row = CachePadded<[AtomicU64; MAX_SCOPES]>;

#[derive(Debug)]
pub(crate) struct Marks {
    completed: Box<[Row]>,
    flushed: [AtomicU64; MAX_SCOPES],
}

impl Marks {
    pub(crate) fn new(queues: u16) -> Self {
        let row = || CachePadded::new(std::array::from_fn(|_| AtomicU64::new(0)));
        Self {
            completed: (0..queues).map(|_| row()).collect(),
            flushed: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// One more write completed on `scope`; called by the thread that owns `queue`, before it delivers the completion.
    pub(crate) fn wrote(&self, queue: QueueIndex, scope: usize) {
        let count = &self.completed[queue.0 as usize][scope];
        // Relaxed: only this thread writes it.
        let next = count.load(Ordering::Relaxed) + 1;
        // Release: partner is the Acquire load in `sum`.
        count.store(next, Ordering::Release);
    }

    /// The sum to remember when a flush of `scope` is about to be sent.
    pub(crate) fn sum(&self, scope: usize) -> u64 {
        // Acquire: partner is the Release store in `wrote`.
        self.completed.iter().map(|row| row[scope].load(Ordering::Acquire)).sum()
    }

    /// Whether writes were completed that no flush has covered.
    pub(crate) fn is_dirty(&self, scope: usize) -> bool {
        // Acquire: partner is the Release in `flushed`. Before the counts, see above.
        let mark = self.flushed[scope].load(Ordering::Acquire);
        self.sum(scope) > mark
    }

    /// A flush of `scope` that was sent after `sum` was read has succeeded.
    pub(crate) fn flushed(&self, scope: usize, sum: u64) {
        // Release: partner is the Acquire load in `is_dirty`.
        self.flushed[scope].fetch_max(sum, Ordering::AcqRel);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_dirty_from_a_write_to_the_flush_sent_after_it() {
        let marks = Marks::new(2);
        assert!(!marks.is_dirty(3));
        marks.wrote(QueueIndex(1), 3);
        let sum = marks.sum(3);
        marks.wrote(QueueIndex(0), 3);
        marks.flushed(3, sum);
        assert!(marks.is_dirty(3), "the second write came after the flush was sent");
        marks.flushed(3, marks.sum(3));
        assert!(!marks.is_dirty(3));
        assert!(!marks.is_dirty(2));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// One queue writes and flushes, the other writes and looks: if it finds the scope clean, its write was covered. A sum
    /// that was read before the mark, or is not ordered after it, can be equal to the mark by chance.
    #[test]
    fn loom_a_clean_scope_has_no_write_that_its_flush_did_not_cover() {
        loom::model(|| {
            let marks = Arc::new(Marks::new(2));
            let flusher = {
                let marks = Arc::clone(&marks);
                thread::spawn(move || {
                    marks.wrote(QueueIndex(0), 0);
                    let sum = marks.sum(0);
                    marks.flushed(0, sum);
                    sum
                })
            };
            marks.wrote(QueueIndex(1), 0);
            let dirty = marks.is_dirty(0);
            let covered = flusher.join().unwrap();
            assert!(dirty || covered == 2, "clean, but the flush had seen {covered} of 2 writes");
            assert_eq!(marks.is_dirty(0), covered < 2);
        });
    }
}
