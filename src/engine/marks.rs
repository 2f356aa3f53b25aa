//! Which caches hold completed writes that no flush has covered yet.
//!
//! For every cache (*scope*) each queue counts the writes that it completed; a flush notes the sum before it is sent
//! and, when it succeeds, leaves the sum as the scope's mark. A scope whose sum exceeds its mark is dirty.
//!
//! *Order.* A queue stores its count (Release) before it delivers the write's completion; a flush that is accepted
//! because of that completion reads the count later, so it sees it. The mark is loaded (Acquire) before the counts are
//! read: the flush that left the mark had read its counts before it stored the mark (Release), so the counts read now
//! are no older, each for itself, than those in the mark, and equal sums mean equal counts.
//!
//! What can never be made durable is *lost*: each queue's next flush fails for it, once, as `fsync(2)` does after an error of
//! write-back (`errseq_t`, lib/errseq.c in Linux).

use crossbeam::utils::CachePadded;

use crate::io::PathId;
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
    /// Losses so far, with the path of the last: see [`Loss`]. Written by any queue, read by all when they flush.
    lost: AtomicU64,
}

/// Completed writes that will never be durable: how many times that happened, and to which path last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loss(u64);

impl Loss {
    /// The path that it happened to last.
    pub(crate) fn path(self) -> PathId {
        let [.., slot, a, b, c, d] = self.0.to_be_bytes();
        PathId::new(slot, u32::from_be_bytes([a, b, c, d]))
    }

    /// One more, of this path. The count wraps: a queue that did not flush through sixteen million losses may miss one.
    fn next(self, path: PathId) -> Self {
        let count = (self.0 >> 40).wrapping_add(1) & 0xff_ffff;
        let slot = u64::from(u8::try_from(path.slot()).unwrap_or(u8::MAX));
        Self(count << 40 | slot << 32 | u64::from(path.serial()))
    }
}

impl Marks {
    pub(crate) fn new(queues: u16) -> Self {
        let row = || CachePadded::new(std::array::from_fn(|_| AtomicU64::new(0)));
        Self {
            completed: (0..queues).map(|_| row()).collect(),
            flushed: std::array::from_fn(|_| AtomicU64::new(0)),
            lost: AtomicU64::new(0),
        }
    }

    /// Completed writes that `path` had in its cache may never be durable.
    pub(crate) fn lose(&self, path: PathId) {
        let (publish, load) = (Ordering::AcqRel, Ordering::Acquire);
        // Release: partner is the Acquire load in `loss`.
        let _ = self.lost.fetch_update(publish, load, |lost| Some(Loss(lost).next(path).0));
    }

    /// The same, and there is no way to `scope` any more: nothing is left to be flushed.
    pub(crate) fn forsake(&self, scope: usize, path: PathId) {
        // Before the mark, so that whoever finds the scope clean finds the loss.
        self.lose(path);
        self.flushed(scope, self.sum(scope));
    }

    /// What was lost so far. To be read after scopes were found clean.
    pub(crate) fn loss(&self) -> Loss {
        // Acquire: partner is the Release in `lose`.
        Loss(self.lost.load(Ordering::Acquire))
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
mod loom_loss {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// Whoever finds a scope clean because what it held was lost finds the loss.
    #[test]
    fn loom_a_scope_is_not_found_clean_without_its_loss() {
        loom::model(|| {
            let marks = Arc::new(Marks::new(1));
            marks.wrote(QueueIndex(0), 0);
            let loser = {
                let marks = Arc::clone(&marks);
                thread::spawn(move || marks.forsake(0, PathId::new(3, 7)))
            };
            let (is_clean, loss) = (!marks.is_dirty(0), marks.loss());
            assert!(!is_clean || loss.path() == PathId::new(3, 7));
            loser.join().unwrap();
        });
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
