//! The way from many threads to one door.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crossbeam::queue::ArrayQueue;

use crate::sync::{AtomicU32, Ordering};

/// A lane that many may put something on and one takes from, first in, first out. Where it is full, what comes lines up
/// beside it, so that nobody has to wait for room.
#[derive(Debug)]
pub(super) struct Intake<T> {
    lane: ArrayQueue<T>,
    /// What came when the lane was full, and what came after that.
    beside: Mutex<VecDeque<T>>,
    /// Whether there is something beside the lane. Written under that lock; a hint to those who have not got it.
    is_crowded: AtomicU32,
}

impl<T> Intake<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            lane: ArrayQueue::new(capacity),
            beside: Mutex::new(VecDeque::new()),
            is_crowded: AtomicU32::new(0),
        }
    }

    /// Puts something in. Its taker sees it once its bell was rung.
    #[inline]
    pub(super) fn push(&self, item: T) {
        let item = if self.is_crowded() {
            item
        } else {
            match self.lane.push(item) {
                Ok(()) => return,
                Err(back) => back,
            }
        };
        self.push_beside(item);
    }

    #[cold]
    fn push_beside(&self, item: T) {
        let mut beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        beside.push_back(item);
        self.is_crowded.store(1, Ordering::Relaxed);
    }

    /// Takes the oldest out.
    #[inline]
    pub(super) fn pop(&self) -> Option<T> {
        self.lane.pop().or_else(|| self.pop_beside())
    }

    fn pop_beside(&self) -> Option<T> {
        if !self.is_crowded() {
            return None;
        }
        let mut beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        let item = beside.pop_front();
        if beside.is_empty() {
            self.is_crowded.store(0, Ordering::Relaxed);
        }
        item
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lane.is_empty() && !self.is_crowded()
    }

    fn is_crowded(&self) -> bool {
        self.is_crowded.load(Ordering::Relaxed) != 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_lines_up_and_order_is_kept() {
        let intake = Intake::new(2);
        for item in 0..5 {
            intake.push(item);
        }
        assert_eq!([intake.pop(), intake.pop(), intake.pop()], [Some(0), Some(1), Some(2)]);
        intake.push(5);
        assert_eq!(std::iter::from_fn(|| intake.pop()).collect::<Vec<_>>(), [3, 4, 5]);
        assert!(intake.is_empty());
        intake.push(6);
        assert_eq!((intake.lane.len(), intake.pop()), (1, Some(6)));
    }
}
