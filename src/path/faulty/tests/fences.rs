//! Fences, with and without lost writes in their way.

use std::time::Duration;

use super::memory::Ending;
use super::rig::{Rig, Status};
use super::{LOST, MILLISECOND, NOT_SENT, OK};
use crate::error::Cause;
use crate::path::{Fault, FenceGrade, FenceSupport, Incarnation, News, Path, Stall};

const ABORTED: Status =
    Status::Done(Err(Fault::Unknown { cause: Cause::Aborted, fence: Some(FenceGrade::Proven) }));

fn fenced(rig: &Rig) -> bool {
    let news = rig.news();
    let fenced = matches!(
        news[..],
        [News::Fenced { through, grade: FenceGrade::Proven }] if through == rig.incarnation()
    );
    assert!(fenced || news.is_empty(), "{news:?}");
    fenced
}

/// With a fence of the wrapper's own, of ten milliseconds.
fn own() -> Rig {
    let mut rig = Rig::unconnected(7);
    rig.faults.fence_after(10 * MILLISECOND);
    rig.connect().unwrap();
    rig
}

/// With a fence of the wrapped path.
fn inner() -> Rig {
    let mut rig = Rig::unconnected(7);
    rig.disk().fence = FenceSupport::Proven;
    rig.connect().unwrap();
    rig
}

#[test]
fn support_is_told_at_the_connect() {
    let mut rig = Rig::unconnected(7);
    assert_eq!(rig.path.connect(rig.incarnation().next()).unwrap().fence, FenceSupport::None);
    rig.disk().fence = FenceSupport::Assumed(MILLISECOND);
    assert_eq!(rig.path.connect(rig.incarnation().next()).unwrap().fence, FenceSupport::Assumed(MILLISECOND));
    rig.faults.fence_after(MILLISECOND);
    rig.faults.restore();
    assert_eq!(rig.path.connect(rig.incarnation().next()).unwrap().fence, FenceSupport::Proven);
}

#[test]
fn support_that_comes_later_is_told_of_a_path_that_is_silent_too() {
    let told = |rig: &Rig| matches!(rig.news()[..], [News::FenceSupport(FenceSupport::Proven)]);
    let mut rig = Rig::new();
    rig.faults.stall(LOST);
    rig.faults.fence_after(MILLISECOND);
    assert!(rig.news().is_empty(), "nobody has asked for anything yet");
    rig.probe();
    assert!(told(&rig));

    let mut rig = Rig::new();
    rig.faults.stall(LOST);
    rig.probe();
    assert!(rig.news().is_empty());
    rig.faults.fence_after(MILLISECOND);
    assert!(told(&rig));
    rig.faults.fence_after(2 * MILLISECOND);
    assert!(rig.news().is_empty(), "once is enough");
}

#[test]
fn a_fenced_lost_write_never_lands_and_the_fence_is_told_only_then() {
    let mut rig = own();
    rig.faults.stall(LOST);
    let ghost = rig.write(0, 1);
    rig.run();
    rig.fence();
    rig.run();
    rig.advance(9 * MILLISECOND);
    assert_eq!((rig.status(ghost), fenced(&rig)), (Status::Out, false));
    rig.advance(MILLISECOND);
    assert_eq!((rig.status(ghost), fenced(&rig)), (ABORTED, true));
    rig.faults.restore();
    rig.advance(Duration::from_secs(1));
    assert_eq!(rig.disk().byte(0), 0);
}

#[test]
fn a_fence_waits_for_the_wrapped_path_s_answer() {
    let mut rig = own();
    rig.disk().frozen = true;
    let write = rig.write(0, 1);
    rig.fence();
    rig.advance(Duration::ZERO);
    rig.advance(20 * MILLISECOND);
    assert!(!fenced(&rig));
    rig.disk().frozen = false;
    rig.event();
    assert_eq!((rig.status(write), fenced(&rig)), (OK, true));
}

#[test]
fn a_fence_needs_answers_and_not_their_delivery() {
    let mut rig = own();
    rig.faults.stall(Stall::Late);
    let write = rig.write(0, 1);
    rig.fence();
    rig.advance(Duration::ZERO);
    rig.advance(10 * MILLISECOND);
    assert_eq!((rig.status(write), fenced(&rig)), (Status::Out, true));
}

#[test]
fn an_attempt_that_may_land_for_all_the_wrapped_path_knows_prevents_the_fence() {
    let mut rig = own();
    let fault = Fault::Unknown { cause: Cause::Timeout, fence: None };
    rig.disk().next.push_back(Ending::Fails(fault));
    rig.write(0, 1);
    rig.run();
    rig.fence();
    rig.advance(Duration::ZERO);
    rig.advance(Duration::from_secs(10));
    assert!(!fenced(&rig));
}

/// Whether the first connection is fenced.
fn first_fenced(rig: &Rig) -> bool {
    let news = rig.news();
    assert!(news.len() <= 1, "{news:?}");
    matches!(news[..], [News::Fenced { through, .. }] if through == Incarnation::NONE.next())
}

#[test]
fn a_fence_takes_its_time_by_the_clock_of_the_next_queue_which_may_be_busy() {
    let mut rig = own();
    rig.drop_queue();
    rig.fence();
    rig.advance(MILLISECOND);
    rig.connect().unwrap();
    rig.disk().frozen = true;
    rig.write(0, 1);
    rig.run();
    rig.advance(9 * MILLISECOND);
    assert!(!first_fenced(&rig));
    rig.advance(MILLISECOND);
    assert!(first_fenced(&rig));
}

#[test]
fn a_fence_takes_its_time_by_the_clock_of_a_later_queue_that_is_there() {
    let mut rig = own();
    let first = rig.incarnation();
    rig.drop_queue();
    rig.connect().unwrap();
    let sink = rig.sink();
    rig.path.fence(first, sink).unwrap();
    rig.run();
    rig.advance(9 * MILLISECOND);
    assert!(!first_fenced(&rig));
    rig.advance(MILLISECOND);
    assert!(first_fenced(&rig));
}

#[test]
fn a_fence_for_which_no_queue_can_tell_the_time_is_made_at_once() {
    let mut rig = own();
    rig.drop_queue();
    rig.faults.fail();
    rig.fence();
    assert!(fenced(&rig));

    let endings: [fn(&mut Rig); 4] = [
        |rig| rig.faults.fail(),
        |rig| rig.faults.stall(LOST),
        // It was overdue.
        Rig::fence,
        |rig| {
            rig.connect().unwrap();
            rig.run();
            rig.drop_queue();
        },
    ];
    for (ending, told) in endings.into_iter().zip([1, 1, 2, 1]) {
        let mut rig = own();
        rig.drop_queue();
        rig.fence();
        assert!(!fenced(&rig));
        ending(&mut rig);
        assert_eq!(rig.news().len(), told);
    }
}

#[test]
fn a_queue_dropped_with_attempts_out_prevents_the_fence() {
    let mut rig = own();
    rig.disk().frozen = true;
    rig.write(0, 1);
    rig.drop_queue();
    rig.fence();
    rig.advance(Duration::from_secs(10));
    assert!(!fenced(&rig));
}

#[test]
fn a_queue_dropped_in_mid_fence_takes_its_lost_writes_along() {
    let mut rig = own();
    rig.faults.stall(LOST);
    rig.write(0, 1);
    rig.fence();
    rig.run();
    assert!(!fenced(&rig));
    rig.drop_queue();
    assert!(fenced(&rig));
}

#[test]
fn a_fenced_connection_takes_nothing_new_and_the_next_one_is_not_held_up() {
    let mut rig = own();
    rig.faults.stall(LOST);
    let ghost = rig.write(0, 1);
    rig.fence();
    let late = rig.write(0, 2);
    rig.run();
    assert_eq!((rig.status(ghost), rig.status(late)), (Status::Out, NOT_SENT));
    rig.faults.restore();
    rig.connect().unwrap();
    let new = rig.write(1, 3);
    rig.run();
    assert_eq!(rig.status(new), OK);
    assert_eq!(rig.status(ghost), OK, "restored before the fence was made, it landed");
}

#[test]
fn a_fence_of_the_wrapped_path_is_handed_on() {
    let mut rig = inner();
    rig.fence();
    assert!(fenced(&rig));
}

#[test]
fn a_fence_of_the_wrapped_path_is_not_told_while_a_lost_write_is_kept() {
    let mut rig = inner();
    rig.faults.stall(LOST);
    let ghost = rig.write(0, 1);
    rig.run();
    rig.fence();
    rig.advance(Duration::from_secs(10));
    assert!(!fenced(&rig));
    rig.disk().frozen = true;
    rig.faults.restore();
    rig.run();
    assert!(!fenced(&rig), "it is sent, and not yet done");
    rig.disk().frozen = false;
    rig.event();
    assert_eq!((rig.status(ghost), fenced(&rig)), (OK, true));
}
