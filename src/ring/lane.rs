//! A bounded lane for one sender and one receiver.
//!
//! Each slot is a line of its own, and its lap number says whether it is filled: an item costs one transfer of one line
//! between the two cores, however the indices stand. The sender learns lazily what was taken out.

#![allow(unsafe_code)]

use std::fmt;
use std::mem::MaybeUninit;

use crossbeam::utils::CachePadded;

use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering, UnsafeCell};

/// A lane for at least `capacity` items at once.
pub(crate) fn lane<T: Send>(capacity: u32) -> (Sender<T>, Receiver<T>) {
    let slots: Box<[Slot<T>]> =
        (0..u64::from(capacity).next_power_of_two()).map(|_| Slot::vacant()).collect();
    let shared = Arc::new(Shared {
        slots,
        taken: CachePadded::new(AtomicU64::new(0)),
        sent: AtomicU64::new(0),
        sender: AtomicU32::new(HERE),
        receiver: AtomicU32::new(HERE),
    });
    (Sender { shared: Arc::clone(&shared), tail: 0, taken: 0 }, Receiver { shared, head: 0, told: 0 })
}

const HERE: u32 = 0;
const GONE: u32 = 1;

struct Shared<T> {
    slots: Box<[Slot<T>]>,
    /// Items taken out so far. The receiver writes it, now and then; the sender reads it, and writes over the slots of
    /// those items. Belongs to the sender once the receiver is gone.
    taken: CachePadded<AtomicU64>,
    /// Items put in so far: the sender writes it when it goes.
    sent: AtomicU64,
    /// Whether the sender is gone: its last act, published with all that it put in.
    sender: AtomicU32,
    /// Whether the receiver is gone: its last act, published with `taken`.
    receiver: AtomicU32,
}

/// A line of its own, so that items which follow each other do not make the cores contend.
#[repr(align(64))]
struct Slot<T> {
    /// One more than the number of times that the slot was filled before the item that is in it, 0 before the first. The
    /// sender writes it and publishes the item with it; the receiver reads it.
    lap: AtomicU64,
    item: UnsafeCell<MaybeUninit<T>>,
}

impl<T> Slot<T> {
    fn vacant() -> Self {
        Self { lap: AtomicU64::new(0), item: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// # Safety
    /// The slot holds an item, and this thread alone may touch it; the item is not read again.
    #[inline]
    unsafe fn take(&self) -> T {
        self.item.with_mut(|item| {
            // SAFETY: the caller's promise: nobody else uses the cell.
            let item = unsafe { &*item };
            // SAFETY: the caller's promise: it is filled, and read this once.
            unsafe { item.assume_init_read() }
        })
    }

    /// # Safety
    /// The slot holds no item, and this thread alone may touch it.
    #[inline]
    unsafe fn fill(&self, value: T) {
        self.item.with_mut(|item| {
            // SAFETY: the caller's promise: nobody else uses the cell.
            let item = unsafe { &mut *item };
            item.write(value);
        });
    }
}

// SAFETY: an item goes from the sender's thread to the receiver's, hence `T: Send`; which of the two may touch a slot is
// settled by `lap` and `taken`, as each operation on them says.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above; nothing in it belongs to a thread.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    #[inline]
    fn capacity(&self) -> u64 {
        self.slots.len() as u64
    }

    /// The slot of the item at `position`, and the lap that the slot shows when the item is in it.
    #[inline]
    fn slot(&self, position: u64) -> (&Slot<T>, u64) {
        #[allow(clippy::cast_possible_truncation, reason = "masked to an index of `slots`")]
        let index = (position & (self.capacity() - 1)) as usize;
        (&self.slots[index], (position >> self.capacity().trailing_zeros()) + 1)
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // Both ends have gone, and their last acts came before this through the reference count.
        let (taken, sent) = (self.taken.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed));
        for position in taken..sent {
            // SAFETY: put in and never taken out, as the two ends said when they went; nobody else is left.
            drop(unsafe { self.slot(position).0.take() });
        }
    }
}

/// The end that puts in.
pub(crate) struct Sender<T> {
    shared: Arc<Shared<T>>,
    /// Items put in so far.
    tail: u64,
    /// Items taken out, as last seen.
    taken: u64,
}

impl<T> Sender<T> {
    /// Puts an item in; gives it back if there is no room.
    #[inline]
    pub(crate) fn push(&mut self, item: T) -> Result<(), T> {
        if self.tail - self.taken == self.shared.capacity() {
            // Pairs with the store in `Receiver::tell`: what was in those slots has been read.
            self.taken = self.shared.taken.load(Ordering::Acquire);
            if self.tail - self.taken == self.shared.capacity() {
                return Err(item);
            }
        }
        let (slot, lap) = self.shared.slot(self.tail);
        // SAFETY: the item of the lap before was taken out, as `taken` says, and the receiver does not touch the slot
        // before it sees this lap; there is one sender, held exclusively here.
        unsafe { slot.fill(item) };
        // Publishes the item; pairs with the load in `Receiver::is_empty`.
        slot.lap.store(lap, Ordering::Release);
        self.tail += 1;
        Ok(())
    }

    /// Whether the receiver is gone: nothing will be taken out any more.
    #[inline]
    pub(crate) fn is_abandoned(&self) -> bool {
        // Pairs with the store in the receiver's `drop`.
        self.shared.receiver.load(Ordering::Acquire) == GONE
    }

    /// Once the lane [is abandoned](Self::is_abandoned): the oldest item that the receiver did not take.
    pub(crate) fn reclaim(&mut self) -> Option<T> {
        if !self.is_abandoned() {
            return None;
        }
        // The receiver's last word, which came before it went.
        self.taken = self.shared.taken.load(Ordering::Relaxed);
        if self.taken == self.tail {
            return None;
        }
        // SAFETY: put in by this thread and not taken by the receiver, which is gone: `is_abandoned`.
        let item = unsafe { self.shared.slot(self.taken).0.take() };
        self.taken += 1;
        self.shared.taken.store(self.taken, Ordering::Relaxed);
        Some(item)
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.sent.store(self.tail, Ordering::Relaxed);
        // Pairs with the load in `Receiver::is_abandoned`.
        self.shared.sender.store(GONE, Ordering::Release);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("sent", &self.tail).finish_non_exhaustive()
    }
}

/// The end that takes out.
pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// Items taken out so far.
    head: u64,
    /// How many of them the sender was told of.
    told: u64,
}

impl<T> Receiver<T> {
    /// Takes out the oldest item.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            self.tell();
            return None;
        }
        // SAFETY: `is_empty` saw that it is filled, and the sender does not touch the slot before it is told that it was
        // taken; there is one receiver, held exclusively here.
        let item = unsafe { self.shared.slot(self.head).0.take() };
        self.head += 1;
        // Seldom, since it takes a line from the sender that it is reading.
        if self.head - self.told >= self.shared.capacity().div_ceil(4) {
            self.tell();
        }
        Some(item)
    }

    /// Whether there is nothing to take out.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        let (slot, lap) = self.shared.slot(self.head);
        // Pairs with the store in `Sender::push`.
        slot.lap.load(Ordering::Acquire) != lap
    }

    /// Whether the sender is gone: what [`is_empty`](Self::is_empty) says after this is final.
    #[inline]
    pub(crate) fn is_abandoned(&self) -> bool {
        // Pairs with the store in the sender's `drop`.
        self.shared.sender.load(Ordering::Acquire) == GONE
    }

    /// Tells the sender what was taken out.
    #[inline]
    fn tell(&mut self) {
        if self.told != self.head {
            self.told = self.head;
            // Pairs with the load in `Sender::push`.
            self.shared.taken.store(self.head, Ordering::Release);
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.tell();
        // Pairs with the load in `Sender::is_abandoned`.
        self.shared.receiver.store(GONE, Ordering::Release);
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("taken", &self.head).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc as Counted;

    #[test]
    fn items_come_out_in_order_over_many_laps() {
        let (mut sender, mut receiver) = lane(4);
        let (mut sent, mut taken) = (0_u64, 0);
        for step in 0..100 {
            for _ in 0..step % 5 {
                sent += u64::from(sender.push(sent).is_ok());
            }
            for _ in 0..step % 3 {
                if let Some(item) = receiver.pop() {
                    assert_eq!(item, taken);
                    taken += 1;
                }
            }
        }
        assert!(taken > 50 && sent - taken <= 4);
    }

    #[test]
    fn what_has_no_room_is_given_back() {
        let (mut sender, mut receiver) = lane(2);
        assert_eq!([sender.push(1), sender.push(2), sender.push(3)], [Ok(()), Ok(()), Err(3)]);
        assert_eq!(receiver.pop(), Some(1));
        assert_eq!(sender.push(3), Ok(()));
    }

    #[test]
    fn what_nobody_took_can_be_reclaimed_once() {
        let (mut sender, mut receiver) = lane(8);
        for item in 0..5 {
            sender.push(item).unwrap();
        }
        receiver.pop();
        assert_eq!(sender.reclaim(), None);
        drop(receiver);
        assert_eq!(std::iter::from_fn(|| sender.reclaim()).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(sender.push(5), Ok(()));
        assert_eq!((sender.reclaim(), sender.reclaim()), (Some(5), None));
    }

    #[test]
    fn what_is_left_in_the_lane_is_dropped_once() {
        let witness = Counted::new(());
        for put_in in 0..10 {
            let (mut sender, mut receiver) = lane(4);
            for _ in 0..put_in {
                if let Err(back) = sender.push(Counted::clone(&witness)) {
                    receiver.pop();
                    sender.push(back).unwrap();
                }
            }
            assert_eq!(Counted::strong_count(&witness), 1 + put_in.min(4));
            if put_in % 2 == 0 {
                drop(sender);
                assert!(receiver.is_abandoned());
            } else {
                drop(receiver);
                drop(sender.reclaim());
            }
        }
        assert_eq!(Counted::strong_count(&witness), 1);
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "two threads are the point")]
    fn a_million_items_cross_between_threads() {
        let (mut sender, mut receiver) = lane(64);
        let thread = std::thread::spawn(move || {
            for item in 0..1_000_000_u64 {
                let mut item = Box::new(item);
                while let Err(back) = sender.push(item) {
                    item = back;
                    std::thread::yield_now();
                }
            }
        });
        for expected in 0..1_000_000 {
            let item = loop {
                if let Some(item) = receiver.pop() {
                    break item;
                }
                std::thread::yield_now();
            };
            assert_eq!(*item, expected);
        }
        thread.join().unwrap();
        assert!(receiver.is_abandoned() && receiver.pop().is_none());
    }
}
