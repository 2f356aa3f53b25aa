//! What can be done about requests while the queue has no room for more.

use std::thread::yield_now;
use std::time::Duration;

use mpio::path::Stall;
use mpio::{Completion, Cookie, Dispatcher, Error, Fate, Memory, Submitter, Tick};

use crate::rig::{Rig, rest};

/// A lane whose first four requests, numbered from 0, fill the queue and hang there.
fn filled(rig: &Rig, dispatcher: &Dispatcher) -> Submitter {
    let mut lane = rig.serve(dispatcher).submitter(8).unwrap();
    rig.faults.stall(Stall::Late);
    for block in 0..4 {
        lane.submit(rig.read(block, block.into())).unwrap();
    }
    while rig.volume.status().paths[0].in_flight() < 4 {
        yield_now();
    }
    lane
}

/// So many ends, by cookie.
fn ends(lane: &mut Submitter, count: usize) -> Vec<Completion> {
    let patience = Tick::now().after(Duration::from_secs(30));
    let mut completions = Vec::new();
    while completions.len() < count && Tick::now() < patience {
        lane.wait(Some(patience), &mut completions);
    }
    assert_eq!(completions.len(), count, "the others did not end");
    completions.sort_unstable_by_key(|completion| completion.cookie);
    completions
}

#[test]
fn requests_can_be_cancelled_whether_the_queue_has_them_or_they_wait_for_room() {
    let rig = Rig::new(4);
    let mut lane = filled(&rig, &Dispatcher::start().unwrap());
    for block in 4..8 {
        lane.submit(rig.read(block, block.into())).unwrap();
    }
    // The first in the queue goes last: what waits may take its room.
    for cookie in [6, 4, 1] {
        assert_eq!(lane.cancel(Cookie(cookie)), 1);
    }
    let ended = ends(&mut lane, 3);
    assert_eq!(ended.iter().map(|ended| ended.cookie.0).collect::<Vec<_>>(), [1, 4, 6]);
    assert!(ended.iter().all(|ended| matches!(ended.result, Err(Error::Cancelled { .. }))));
    assert!(matches!(ended[0].memory, Memory::Quarantined));
    for ended in &ended[1..] {
        assert!(matches!(ended.result, Err(Error::Cancelled { fate: Fate::NotSent })));
        assert!(matches!(ended.memory, Memory::Returned(_)));
    }
    // Their numbers are used again, and are not cancelled a second time.
    for block in [14, 16] {
        lane.submit(rig.read(block, block.into())).unwrap();
    }
    rig.faults.restore();
    let mut rest = ends(&mut lane, 7);
    assert!(rest.iter().all(|ended| ended.result.is_ok()));
    assert_eq!(rest.iter().map(|ended| ended.cookie.0).collect::<Vec<_>>(), [0, 2, 3, 5, 7, 14, 16]);
    rest.clear();
    drop(ended);
    while lane.poll_released().is_none() {
        lane.wait(None, &mut rest);
    }
    assert!(rest.is_empty() && lane.is_empty());
    rig.regain_buffers();
}

#[test]
fn a_deadline_ends_what_waits_for_room() {
    let rig = Rig::new(4);
    let mut lane = filled(&rig, &Dispatcher::start().unwrap());
    let soon = Tick::now().after(Duration::from_millis(5));
    lane.submit(rig.write(4, 1, 4)).unwrap();
    for (block, deadline) in [(5, soon.after(Duration::from_millis(5))), (6, soon)] {
        lane.submit(rig.write(block, 1, block.into()).with_deadline(deadline)).unwrap();
    }
    for ended in ends(&mut lane, 2) {
        assert!(ended.cookie.0 > 4, "it has no deadline");
        assert!(matches!(ended.result, Err(Error::DeadlineExceeded { fate: Fate::NotSent })));
        assert!(matches!(ended.memory, Memory::Returned(_)));
    }
    rig.faults.restore();
    assert!(rest(&mut lane, 5).iter().all(|ended| ended.result.is_ok()));
    rig.regain_buffers();
}

#[test]
fn what_waits_for_room_ends_when_the_volume_is_closed() {
    let rig = Rig::new(4);
    let mut lane = filled(&rig, &Dispatcher::start().unwrap());
    for block in 4..8 {
        lane.submit(rig.read(block, block.into())).unwrap();
    }
    // What came before a cancel was taken out of the lane by the time it is answered.
    lane.cancel(Cookie(7));
    ends(&mut lane, 1);
    let _settled = rig.volume.close(Duration::ZERO);
    for ended in ends(&mut lane, 7) {
        let waited = ended.cookie.0 >= 4;
        let Err(Error::Closed { fate }) = ended.result else { panic!("{ended:?}") };
        assert_eq!(fate == Fate::NotSent, waited);
        assert_eq!(matches!(ended.memory, Memory::Returned(_)), waited);
    }
    rig.faults.restore();
}
