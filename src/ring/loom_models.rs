//! Models of the ring under loom. Run with `RUSTFLAGS="--cfg loom" cargo test --lib loom`.

use loom::alloc::Track;
use loom::sync::{Condvar, Mutex};

use super::doorbell::Doorbell;
use super::lane::lane;
use crate::sync::{Arc, AtomicU32, Ordering};

/// What a thread sleeps on: remembers that it was woken, as an eventfd does.
#[derive(Default)]
struct Bed {
    woken: Mutex<bool>,
    condition: Condvar,
}

impl Bed {
    fn wake(&self) {
        *self.woken.lock().unwrap() = true;
        self.condition.notify_one();
    }

    fn sleep(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.condition.wait(woken).unwrap();
        }
        *woken = false;
    }
}

#[test]
fn loom_items_cross_whole_and_in_order() {
    loom::model(|| {
        let (mut sender, mut receiver) = lane(2);
        let thread = loom::thread::spawn(move || {
            for item in 1..=3 {
                let mut item = Box::new(item);
                while let Err(back) = sender.push(item) {
                    item = back;
                    loom::thread::yield_now();
                }
            }
        });
        for expected in 1..=3 {
            let item = loop {
                if let Some(item) = receiver.pop() {
                    break item;
                }
                loom::thread::yield_now();
            };
            assert_eq!(*item, expected);
        }
        thread.join().unwrap();
        assert!(receiver.is_abandoned() && receiver.is_empty());
    });
}

/// A receiver that goes after `taken` of `sent` items, while the sender looks what it can have back: each item comes out
/// once, and what is left is dropped with the lane, or loom reports a leak.
fn leave_behind(capacity: u32, sent: u32, taken: usize) {
    loom::model(move || {
        let (mut sender, mut receiver) = lane(capacity);
        let items = |items: Vec<Track<u32>>| items.iter().map(|item| *item.get_ref()).collect::<Vec<_>>();
        let thread = loom::thread::spawn(move || items((0..taken).map_while(|_| receiver.pop()).collect()));
        for item in 0..sent {
            assert!(sender.push(Track::new(item)).is_ok(), "there is room");
        }
        let reclaimed = items(sender.reclaim().into_iter().collect());
        let taken = thread.join().unwrap();
        let (all, out) = ((0..sent).collect::<Vec<_>>(), [taken, reclaimed].concat());
        assert!(all.starts_with(&out), "{out:?}");
    });
}

#[test]
fn loom_what_the_receiver_leaves_is_reclaimed_or_dropped() {
    leave_behind(2, 2, 1);
}

/// It has not told the sender of all that it took by then.
#[test]
fn loom_what_the_receiver_took_is_not_reclaimed() {
    leave_behind(8, 3, 1);
}

#[test]
fn loom_an_abandoned_lane_keeps_what_was_sent() {
    loom::model(|| {
        let (mut sender, mut receiver) = lane(2);
        let thread = loom::thread::spawn(move || {
            sender.push(Box::new(7)).unwrap();
        });
        while !receiver.is_abandoned() {
            loom::thread::yield_now();
        }
        assert_eq!(receiver.pop(), Some(Box::new(7)));
        assert!(receiver.is_empty());
        thread.join().unwrap();
    });
}

/// The receiver sleeps whenever it finds nothing: a lost wake is a deadlock, which loom reports.
#[test]
fn loom_no_item_is_slept_over() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let (bell, bed) = (Arc::new(Doorbell::new()), Arc::new(Bed::default()));
        let (mut sender, mut receiver) = lane(2);
        let (rung, made) = (Arc::clone(&bell), Arc::clone(&bed));
        let thread = loom::thread::spawn(move || {
            for item in 1..=2 {
                sender.push(item).unwrap();
                if rung.ring() {
                    made.wake();
                }
            }
        });
        let mut expected = 1;
        while expected <= 2 {
            if let Some(item) = receiver.pop() {
                assert_eq!(item, expected);
                expected += 1;
                continue;
            }
            bell.arm();
            if receiver.is_empty() {
                bed.sleep();
            }
            bell.disarm();
        }
        thread.join().unwrap();
    });
}

#[test]
fn loom_two_ringers_do_not_hide_each_other() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let (bell, bed) = (Arc::new(Doorbell::new()), Arc::new(Bed::default()));
        let words = [Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0))];
        let threads = words.clone().map(|word| {
            let (bell, bed) = (Arc::clone(&bell), Arc::clone(&bed));
            loom::thread::spawn(move || {
                word.store(1, Ordering::Relaxed);
                if bell.ring() {
                    bed.wake();
                }
            })
        });
        let missing = || words.iter().any(|word| word.load(Ordering::Relaxed) == 0);
        while missing() {
            bell.arm();
            if missing() {
                bed.sleep();
            }
            bell.disarm();
        }
        for thread in threads {
            thread.join().unwrap();
        }
    });
}
