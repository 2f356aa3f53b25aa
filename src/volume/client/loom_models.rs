//! Models of a client's ends under loom. The lane is a word here. Run with `RUSTFLAGS="--cfg loom" cargo test --lib loom`.

use super::ends::Ends;
use crate::ring::doorbell::Doorbell;
use crate::sync::{Arc, AtomicU32, Ordering};

/// Takes what is on the lane; how much it was.
fn empty(lane: &AtomicU32) -> u32 {
    let is_there = lane.load(Ordering::Relaxed) == 1;
    u32::from(is_there && lane.compare_exchange(1, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok())
}

#[test]
fn loom_nothing_stays_on_the_lane_when_the_door_goes() {
    loom::model(|| {
        let shared = Arc::new((Ends::new(), Doorbell::new(), AtomicU32::new(0)));
        let sender = Arc::clone(&shared);
        let thread = loom::thread::spawn(move || {
            let (ends, bell, lane) = &*sender;
            lane.store(1, Ordering::Relaxed);
            bell.ring();
            if ends.is_shut() { empty(lane) } else { 0 }
        });
        let (ends, _, lane) = &*shared;
        ends.shut();
        let found = empty(lane);
        assert_eq!(found + thread.join().unwrap(), 1);
    });
}

#[test]
fn loom_what_came_before_the_last_client_went_is_seen() {
    loom::model(|| {
        let shared = Arc::new((Ends::new(), AtomicU32::new(0)));
        let sender = Arc::clone(&shared);
        let thread = loom::thread::spawn(move || {
            sender.1.store(1, Ordering::Relaxed);
            sender.0.leave();
        });
        if shared.0.are_clients_gone() {
            assert_eq!(shared.1.load(Ordering::Relaxed), 1);
        }
        thread.join().unwrap();
    });
}
