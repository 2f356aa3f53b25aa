//! Every fault, alone and together.

mod chaos;
mod fences;
mod memory;
mod rig;

use std::time::Duration;

use rig::{Rig, Status, WRITE};

use crate::error::{Cause, DeviceError};
use crate::io::Operation;
use crate::path::faulty::queue::NO_ROOM_RETRY;
use crate::path::{
    AccessState, Fault, FaultHandle, FaultKind, FenceGrade, News, Path, QueueIndex, Stall, Transport,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const LOST: Stall = Stall::Lost { land_after: None };
const OK: Status = Status::Done(Ok(512));
const NOT_SENT: Status = Status::Done(Err(Fault::NotSent(Cause::NotConnected)));
const DISCONNECTED: Fault = Fault::Unknown { cause: Cause::Disconnected, fence: None };

const fn transport(fence: Option<FenceGrade>) -> Status {
    Status::Done(Err(Fault::Unknown { cause: Cause::Errno(libc::ENOLINK), fence }))
}

#[test]
fn a_handle_works_from_any_thread() {
    fn shared<T: Clone + Send + Sync>() {}
    shared::<FaultHandle>();
}

#[test]
fn without_faults_everything_is_handed_on() {
    let mut rig = Rig::new();
    let write = rig.write(3, 0x5a);
    let flush = rig.submit(Operation::Flush, 0, 1, 0);
    rig.run();
    let read = rig.read(3);
    rig.run();
    assert_eq!((rig.status(write), rig.status(read)), (OK, OK));
    assert_eq!(rig.status(flush), Status::Done(Ok(0)));
    assert_eq!(rig.byte(read), 0x5a);
    rig.disk().frozen = true;
    let cancelled = rig.write(3, 1);
    rig.cancel(cancelled);
    assert_eq!(rig.disk().cancelled.len(), 1);
}

#[test]
fn what_finds_no_room_is_left_in_its_order() {
    let mut rig = Rig::new();
    rig.disk().room = 2;
    let first = rig.submit_all((0..5).map(|block| (WRITE, block, 1, 1)));
    rig.run();
    let statuses: Vec<_> = (first..first + 5).map(|place| rig.status(place)).collect();
    assert_eq!(statuses, [OK, OK, Status::Left, Status::Left, Status::Left]);
}

#[test]
fn a_failed_path_gives_up_what_is_out_and_sends_nothing_new() {
    let mut rig = Rig::new();
    rig.disk().frozen = true;
    let out = rig.write(0, 1);
    rig.run();
    rig.faults.fail();
    rig.run();
    assert_eq!(rig.status(out), Status::GivenUp(DISCONNECTED));
    let new = rig.write(1, 1);
    rig.run();
    assert_eq!(rig.status(new), NOT_SENT);
    assert!(rig.connect().is_err());
    assert!(rig.path.open_queue(QueueIndex(0)).is_err());
    rig.probe();
    assert!(matches!(rig.news()[..], [News::Probed(Err(Cause::NotConnected))]));
}

#[test]
fn a_late_answer_of_a_given_up_attempt_comes_once() {
    let mut rig = Rig::new();
    rig.disk().frozen = true;
    let out = rig.write(0, 1);
    rig.faults.fail();
    rig.run();
    rig.faults.restore();
    rig.faults.fail();
    rig.run();
    rig.disk().frozen = false;
    rig.event();
    assert_eq!(rig.status(out), OK);
    assert_eq!(rig.gave_up(out), Some(DISCONNECTED));
    rig.run();
}

#[test]
fn a_lost_connection_stays_lost_and_the_next_one_works() {
    let mut rig = Rig::new();
    rig.faults.fail();
    rig.faults.restore();
    let old = rig.write(0, 1);
    rig.run();
    assert_eq!(rig.status(old), NOT_SENT);
    rig.probe();
    assert!(matches!(rig.news()[..], [News::Probed(Err(Cause::NotConnected))]));
    rig.connect().unwrap();
    let new = rig.write(0, 2);
    rig.run();
    assert_eq!(rig.status(new), OK);
    rig.probe();
    assert!(matches!(rig.news()[..], [News::Probed(Ok(()))]));
}

#[test]
fn a_connection_lost_before_its_queue_opens_gives_none() {
    let mut rig = Rig::new();
    let open = rig.path.open_queue(QueueIndex(1)).unwrap();
    rig.faults.fail();
    rig.faults.restore();
    let mut reactor = crate::reactor::Reactor::new(Vec::new(), 8).unwrap();
    assert!(open.open(&mut reactor, crate::reactor::Port::new(0)).is_err());
}

#[test]
fn a_late_stall_withholds_results_until_restored() {
    let mut rig = Rig::new();
    rig.faults.stall(Stall::Late);
    let write = rig.write(0, 9);
    rig.probe();
    rig.run();
    assert_eq!(rig.disk().byte(0), 9, "it was really done");
    assert_eq!(rig.status(write), Status::Out);
    assert!(rig.news().is_empty(), "a probe hangs");
    assert!(rig.connect().is_err());
    rig.faults.restore();
    rig.run();
    assert_eq!(rig.status(write), OK);
    assert!(matches!(rig.news()[..], [News::Probed(Ok(()))]));
}

#[test]
fn a_late_result_after_a_failure_is_delivered_exactly_once() {
    let mut rig = Rig::new();
    rig.faults.stall(Stall::Late);
    let write = rig.write(0, 9);
    rig.run();
    rig.faults.fail();
    rig.run();
    assert_eq!(rig.status(write), Status::GivenUp(DISCONNECTED));
    rig.faults.restore();
    rig.run();
    assert_eq!(rig.status(write), OK);
}

#[test]
fn probes_that_hang_fail_with_the_path() {
    let mut rig = Rig::new();
    rig.faults.stall(Stall::Late);
    rig.probe();
    assert!(rig.news().is_empty());
    rig.faults.fail();
    assert!(matches!(rig.news()[..], [News::Probed(Err(Cause::NotConnected))]));
}

#[test]
fn a_probe_that_the_wrapped_path_answers_after_a_failure_fails_at_once() {
    let mut rig = Rig::new();
    rig.disk().frozen = true;
    rig.probe();
    rig.faults.stall(Stall::Late);
    rig.faults.fail();
    assert!(rig.news().is_empty());
    let probe = rig.disk().probes.remove(0);
    probe.probed(Ok(()));
    assert!(matches!(rig.news()[..], [News::Probed(Err(Cause::NotConnected))]));
}

#[test]
fn a_path_that_fails_while_it_connects_is_not_connected() {
    let mut rig = Rig::new();
    let faults = rig.faults.clone();
    rig.disk().saboteur = Some(faults);
    assert!(rig.connect().is_err());
}

#[test]
fn a_stalled_path_has_no_other_faults() {
    let mut rig = Rig::new();
    rig.faults.errors(FaultKind::Medium, 1_000_000).unwrap();
    rig.faults.stall(Stall::Late);
    let write = rig.write(0, 9);
    rig.run();
    rig.faults.restore();
    rig.run();
    assert_eq!(rig.status(write), OK);
}

#[test]
fn a_late_stall_keeps_a_wrapped_path_s_own_give_up_before_its_release() {
    let mut rig = Rig::new();
    let fault = Fault::Unknown { cause: Cause::Timeout, fence: None };
    rig.disk().next.push_back(memory::Ending::GivesUp(fault));
    rig.faults.stall(Stall::Late);
    let write = rig.write(0, 9);
    rig.run();
    assert_eq!(rig.status(write), Status::Out);
    rig.faults.restore();
    rig.event();
    assert_eq!((rig.status(write), rig.gave_up(write)), (Status::Released, Some(fault)));
    rig.run();
}

#[test]
fn a_failed_path_does_not_repeat_a_wrapped_path_s_give_up() {
    let mut rig = Rig::new();
    let fault = Fault::Unknown { cause: Cause::Timeout, fence: None };
    rig.disk().next.push_back(memory::Ending::GivesUp(fault));
    let write = rig.write(0, 9);
    rig.faults.fail();
    rig.run();
    assert_eq!((rig.status(write), rig.gave_up(write)), (Status::Released, Some(DISCONNECTED)));
}

#[test]
fn a_lost_write_lands_over_newer_data_when_restored() {
    let mut rig = Rig::new();
    rig.faults.stall(LOST);
    let ghost = rig.write(0, 1);
    let read = rig.read(0);
    rig.faults.fail();
    rig.advance(Duration::from_hours(1));
    assert_eq!(rig.disk().byte(0), 0, "it was kept");
    assert_eq!(rig.status(ghost), Status::GivenUp(DISCONNECTED));
    rig.cancel(ghost);
    rig.disk().bytes.fill(2);
    rig.faults.restore();
    rig.run();
    assert_eq!(rig.disk().byte(0), 1, "it landed over what was written meanwhile");
    assert_eq!((rig.status(ghost), rig.status(read)), (OK, OK));
    assert_eq!(rig.byte(read), 1);
    assert!(rig.disk().cancelled.is_empty(), "what is lost cannot be called back");
}

#[test]
fn a_lost_write_lands_after_its_time_without_being_restored() {
    let mut rig = Rig::new();
    rig.faults.stall(Stall::Lost { land_after: Some(10 * MILLISECOND) });
    let ghost = rig.write(0, 1);
    rig.advance(9 * MILLISECOND);
    assert_eq!(rig.disk().byte(0), 0);
    rig.disk().bytes.fill(2);
    rig.advance(MILLISECOND);
    assert_eq!((rig.disk().byte(0), rig.status(ghost)), (1, OK));
}

#[test]
fn lost_writes_that_find_no_room_land_when_there_is_some() {
    let mut rig = Rig::new();
    rig.faults.stall(LOST);
    let first = rig.submit_all((0..5).map(|block| (WRITE, 0, 1, block + 1)));
    rig.disk().room = 2;
    rig.faults.restore();
    for landed in [2, 4, 5] {
        rig.run();
        assert_eq!(rig.disk().byte(0), landed, "in their order");
        rig.advance(NO_ROOM_RETRY);
    }
    assert!((first..first + 5).all(|place| rig.status(place) == OK));
}

#[test]
fn a_slow_path_delays_results_and_not_their_effect() {
    let mut rig = Rig::new();
    rig.faults.slow(10 * MILLISECOND);
    let write = rig.write(0, 1);
    rig.run();
    assert_eq!(rig.disk().byte(0), 1);
    rig.advance(9 * MILLISECOND);
    assert_eq!(rig.status(write), Status::Out);
    rig.advance(MILLISECOND);
    assert_eq!(rig.status(write), OK);
}

#[test]
fn a_slow_path_delays_results_that_come_as_events() {
    let mut rig = Rig::new();
    rig.disk().frozen = true;
    let write = rig.write(0, 1);
    rig.run();
    rig.faults.slow(10 * MILLISECOND);
    rig.advance(5 * MILLISECOND);
    rig.disk().frozen = false;
    rig.event();
    rig.run();
    rig.advance(9 * MILLISECOND);
    assert_eq!(rig.status(write), Status::Out);
    rig.advance(MILLISECOND);
    assert_eq!(rig.status(write), OK);
}

#[test]
fn a_delayed_result_is_delivered_when_restored_and_withheld_when_stalled() {
    let mut rig = Rig::new();
    rig.faults.slow(10 * MILLISECOND);
    let write = rig.write(0, 1);
    rig.run();
    rig.faults.stall(Stall::Late);
    rig.advance(20 * MILLISECOND);
    assert_eq!(rig.status(write), Status::Out);
    let other = rig.write(0, 1);
    rig.faults.restore();
    rig.run();
    assert_eq!((rig.status(write), rig.status(other)), (OK, OK));
}

/// Whether the write was done, and how it ended.
fn write_with(kind: FaultKind) -> (bool, Status) {
    let mut rig = Rig::new();
    rig.faults.errors(kind, 1_000_000).unwrap();
    let write = rig.write(0, 1);
    rig.run();
    rig.faults.errors(kind, 0).unwrap();
    let after = rig.write(1, 1);
    rig.run();
    assert_eq!(rig.status(after), OK, "at rate zero there is no error");
    (rig.disk().byte(0) == 1, rig.status(write))
}

#[test]
fn each_error_says_what_is_true() {
    let proven = Some(FenceGrade::Proven);
    let (local, fabric) = (Transport::Local, Transport::Fabric);
    let busy = Fault::Congested { retry_after: MILLISECOND };
    for (kind, done, status) in [
        (FaultKind::TransportBefore(local), false, transport(proven)),
        (FaultKind::TransportBefore(fabric), false, transport(None)),
        (FaultKind::TransportAfter(local), true, transport(proven)),
        (FaultKind::TransportAfter(fabric), true, transport(None)),
        (FaultKind::Medium, false, Status::Done(Err(Fault::Final(DeviceError::Medium)))),
        (FaultKind::Busy, false, Status::Done(Err(busy))),
        (FaultKind::Refused, false, Status::Done(Err(Fault::Refused(AccessState::Standby)))),
    ] {
        assert_eq!(write_with(kind), (done, status), "{kind:?}");
    }
}

#[test]
fn a_transport_error_does_not_hide_what_the_wrapped_path_fears() {
    let mut rig = Rig::new();
    rig.faults.errors(FaultKind::TransportAfter(Transport::Local), 1_000_000).unwrap();
    let fault = Fault::Unknown { cause: Cause::Timeout, fence: None };
    rig.disk().next.push_back(memory::Ending::Fails(fault));
    let write = rig.write(0, 1);
    rig.run();
    assert_eq!(rig.status(write), Status::Done(Err(fault)));
}

#[test]
fn the_probe_after_a_refusal_tells_the_real_access_state() {
    let mut rig = Rig::new();
    rig.faults.errors(FaultKind::Refused, 1_000_000).unwrap();
    rig.write(0, 1);
    rig.probe();
    let [News::AccessState(AccessState::Optimized), News::Probed(Ok(()))] = rig.news()[..] else { panic!() };
    rig.probe();
    assert!(matches!(rig.news()[..], [News::Probed(Ok(()))]));
}

#[test]
fn errors_follow_from_the_seed_alone() {
    let ends = |seed| {
        let mut rig = Rig::unconnected(seed);
        rig.connect().unwrap();
        rig.faults.errors(FaultKind::Busy, 300_000).unwrap();
        rig.submit_all((0..60).map(|block| (WRITE, block, 1, 1)));
        rig.run();
        rig.statuses().map(|(_, status)| status == OK).collect::<Vec<_>>()
    };
    assert_eq!(ends(1), ends(1));
    assert_ne!(ends(1), ends(2));
    let met = ends(1).iter().filter(|&&ok| !ok).count();
    assert!((9..=27).contains(&met), "{met} of 60 at 30 %");
}

#[test]
fn rates_above_all_are_refused() {
    let rig = Rig::new();
    assert!(rig.faults.short(1_000_001).is_err());
    assert!(rig.faults.errors(FaultKind::Busy, 1_000_001).is_err());
}

#[test]
fn a_short_transfer_reports_half_in_whole_blocks() {
    let mut rig = Rig::new();
    rig.faults.short(1_000_000).unwrap();
    let three = rig.submit(WRITE, 0, 3, 1);
    let one = rig.read(0);
    let flush = rig.submit(Operation::Flush, 0, 1, 0);
    rig.run();
    assert_eq!(rig.status(three), Status::Done(Ok(512)));
    assert_eq!(rig.status(one), Status::Done(Ok(0)));
    assert_eq!(rig.status(flush), Status::Done(Ok(0)));
}

#[test]
fn a_capacity_change_is_told_by_probe_and_connect_until_restored() {
    let mut rig = Rig::new();
    rig.faults.set_capacity(100);
    assert!(rig.news().is_empty());
    rig.probe();
    rig.probe();
    assert!(matches!(rig.news()[..], [News::Capacity(100), News::Probed(Ok(())), News::Probed(Ok(()))]));
    assert_eq!(rig.path.connect(rig.incarnation().next()).unwrap().geometry.capacity(), 100);
    rig.faults.restore();
    rig.probe();
    let [News::Capacity(blocks), News::Probed(Ok(()))] = rig.news()[..] else { panic!() };
    assert_eq!(blocks, u64::from(memory::BLOCKS));
    rig.faults.set_capacity(0);
    assert!(rig.path.connect(rig.incarnation().next()).is_err(), "no device has no blocks");
}
