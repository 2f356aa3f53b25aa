//! Events that nobody reads.

use mpio::path::{AccessState, Fault};
use mpio::{Event, EventKind};

use crate::rig::{BOUND, Pair, assert_says};
use crate::script::{Answer, BLOCKS, Place};

/// Events that are kept for a reader.
const BACKLOG: usize = 1024;

#[test]
fn events_that_are_not_read_are_counted_and_the_rest_goes_on() {
    let mut pair = Pair::new();
    let slow = pair.rig.volume.events();
    drop(pair.rig.volume.events());
    // The path needs somewhere to report to.
    pair.bad.answer(Answer::Fail(Fault::Refused(AccessState::Standby)));
    pair.rig.serves();
    pair.rig.until("a probe", |_| (pair.bad.calls(Place::Probe) > 0).then_some(()));
    // Another reader keeps up, and so knows what was told.
    let quick = pair.rig.volume.events();
    for _ in 0..BACKLOG {
        pair.bad.access(AccessState::NonOptimized);
        pair.bad.access(AccessState::Optimized);
        quick.next_within(BOUND).unwrap();
        quick.next_within(BOUND).unwrap();
    }
    pair.bad.resize(BLOCKS + 1);
    while quick.next_within(BOUND).unwrap().kind != EventKind::Capacity(BLOCKS + 1) {}
    pair.rig.serves();
    let told: Vec<Event> = std::iter::from_fn(|| slow.try_next()).collect();
    assert_eq!(told.len(), BACKLOG);
    assert!(!told.iter().any(|event| matches!(event.kind, EventKind::Missed(_))));
    pair.bad.resize(BLOCKS + 2);
    let next = slow.next_within(BOUND).unwrap();
    let EventKind::Missed(missed) = next.kind else { panic!("{next}") };
    assert!(missed > 0);
    assert_says(&next.to_string(), &["volume:", "events were lost: read them sooner"]);
    assert!(matches!(slow.next_within(BOUND).unwrap().kind, EventKind::Capacity(_)));
    pair.finish();
}
