//! Writes of unknown fate, and what lays them.

use mpio::path::FenceSupport;
use mpio::sim::{FenceFault, LinkFault};
use mpio::{EventKind, Sharing};

use super::{MILLI, links};
use crate::harness::{Harness, WRITE};

#[test]
fn a_write_of_unknown_fate_ends_however_its_link_is_fenced_and_where_it_is_not_when_it_is_vouched_for() {
    for fence in [
        FenceSupport::Proven,
        FenceSupport::Answered,
        FenceSupport::Assumed(MILLI * 20),
        FenceSupport::Resend,
        FenceSupport::None,
    ] {
        let mut harness = Harness::new(&links(2, fence));
        harness.run(MILLI);
        // It is lost on the way, and its transport gives it up after its own time.
        harness.submit(0, WRITE, 1, 1, None);
        harness.submit(0, WRITE, 2, 1, None);
        harness.sim.step(harness.sim.now().after(MILLI));
        harness.sim.break_link(0, LinkFault::Dead);
        harness.run(MILLI * 200);
        if fence == FenceSupport::None {
            assert_eq!(harness.completed, 1, "nothing but a word helps");
            let path = harness.sim.status().paths[0].id;
            assert!(harness.sim.status().paths[0].unfenced_since.is_some());
            assert_eq!(harness.sim.status().waiting, 1);
            // What was under way is over.
            harness.sim.vouch(path);
            harness.run(MILLI * 50);
        }
        assert_eq!((harness.completed, harness.failed), (2, 0), "{fence:?}");
        assert_eq!(harness.sim.status().waiting, 0);
        harness.finish();
    }
}

#[test]
fn where_one_host_alone_writes_a_write_goes_on_at_once_and_newer_ones_wait_for_the_fence() {
    for fence in [FenceSupport::Proven, FenceSupport::Assumed(MILLI * 60), FenceSupport::None] {
        let mut options = links(2, fence);
        options.sharing = Sharing::Exclusive;
        let mut harness = Harness::new(&options);
        harness.run(MILLI);
        harness.sim.break_link(0, LinkFault::Stuck);
        harness.submit(0, WRITE, 1, 4, None);
        harness.submit(0, WRITE, 9, 4, None);
        harness.run(MILLI * 25);
        assert_eq!((harness.completed, harness.failed), (2, 0), "{fence:?}: over the other link");
        // Over the same blocks, from both queues.
        harness.submit(0, WRITE, 1, 1, None);
        harness.submit(1, WRITE, 9, 1, None);
        harness.submit(1, WRITE, 20, 1, None);
        harness.run(MILLI);
        assert!(harness.completed >= 3, "{fence:?}: elsewhere nothing waits");
        harness.sim.restore_link(0);
        harness.run(MILLI * 500);
        assert_eq!((harness.completed, harness.failed), (5, 0), "{fence:?}");
        harness.finish();
    }
}

#[test]
fn a_fence_that_fails_is_asked_for_again_and_one_that_never_comes_is_told() {
    for fault in [FenceFault::Fails, FenceFault::Silent] {
        let mut harness = Harness::new(&links(2, FenceSupport::Proven));
        harness.run(MILLI);
        harness.sim.set_fence_fault(0, Some(fault));
        harness.submit(0, WRITE, 1, 1, None);
        harness.submit(0, WRITE, 2, 1, None);
        harness.sim.step(harness.sim.now().after(MILLI));
        harness.sim.break_link(0, LinkFault::Dead);
        harness.run(MILLI * 10);
        harness.sim.restore_link(0);
        harness.run(MILLI * 300);
        let told = harness.events();
        let is_told = |kind: &EventKind| match fault {
            FenceFault::Fails => matches!(kind, EventKind::FenceFailed(_)),
            FenceFault::Silent => matches!(kind, EventKind::FenceOverdue(_)),
        };
        assert!(told.iter().any(is_told), "{fault:?}: {told:?}");
        assert!(harness.sim.status().paths[0].unfenced_since.is_some());
        assert_eq!(harness.completed, 1, "{fault:?}");
        harness.sim.set_fence_fault(0, None);
        harness.run(MILLI * 2000);
        assert_eq!((harness.completed, harness.failed), (2, 0), "{fault:?}");
        assert!(harness.sim.status().paths[0].unfenced_since.is_none());
        harness.finish();
    }
}

#[test]
fn an_assumed_fence_comes_though_its_link_flaps() {
    let mut harness = Harness::new(&links(2, FenceSupport::Assumed(MILLI * 60)));
    harness.run(MILLI);
    harness.submit(0, WRITE, 1, 1, None);
    harness.submit(0, WRITE, 2, 1, None);
    harness.sim.step(harness.sim.now().after(MILLI));
    for _ in 0..10 {
        harness.sim.break_link(0, LinkFault::Dead);
        harness.run(MILLI * 4);
        harness.sim.restore_link(0);
        harness.run(MILLI * 12);
        for block in 10..14 {
            harness.submit(1, WRITE, block, 1, None);
        }
        harness.run(MILLI * 4);
    }
    assert!(harness.completed >= 2, "the first write waits for its own connection's end alone");
    harness.run(MILLI * 500);
    harness.finish();
}

#[test]
fn a_queue_that_nobody_polls_holds_up_no_proven_fence() {
    let mut harness = Harness::new(&links(2, FenceSupport::Proven));
    harness.run(MILLI);
    harness.sim.pause_queue(1);
    harness.submit(0, WRITE, 1, 1, None);
    harness.submit(0, WRITE, 2, 1, None);
    harness.sim.step(harness.sim.now().after(MILLI));
    harness.sim.break_link(0, LinkFault::Dead);
    harness.run(MILLI * 100);
    assert_eq!((harness.completed, harness.failed), (2, 0));
    harness.sim.resume_queue(1);
    harness.finish();
}

#[test]
fn a_write_that_was_given_up_on_the_only_link_lets_later_ones_go_when_it_is_vouched_for_or_fenced() {
    for (fence, vouched) in [
        (FenceSupport::None, true),
        (FenceSupport::Proven, false),
        (FenceSupport::Assumed(MILLI * 20), false),
    ] {
        let mut harness = Harness::new(&links(1, fence));
        harness.sim.lose(0, 1);
        harness.submit(0, WRITE, 1, 1, Some(MILLI * 5));
        harness.run(MILLI * 10);
        harness.submit(1, WRITE, 1, 1, None);
        harness.run(MILLI * 50);
        assert_eq!((harness.completed, harness.failed), (1, 1), "{fence:?}: the first may still land");
        if vouched {
            let path = harness.sim.status().paths[0].id;
            harness.sim.vouch(path);
            harness.run(MILLI * 50);
        } else {
            harness.run(MILLI * 500);
        }
        assert_eq!((harness.completed, harness.failed), (2, 1), "{fence:?}");
        harness.finish();
    }
}

#[test]
fn to_vouch_for_a_path_that_is_in_use_and_owes_nothing_ends_no_connection() {
    let mut harness = Harness::new(&links(2, FenceSupport::None));
    harness.submit(0, WRITE, 1, 1, None);
    harness.run(MILLI);
    let path = harness.sim.status().paths[0].id;
    harness.sim.vouch(path);
    harness.run(MILLI * 50);
    assert_eq!(harness.sim.status().paths[0].incarnation.get(), 1);
    harness.finish();
}

#[test]
fn of_two_writes_the_one_that_was_submitted_when_the_other_was_late_is_what_stays() {
    for sharing in [Sharing::Shared, Sharing::Exclusive] {
        for fault in [LinkFault::Stuck, LinkFault::Silent, LinkFault::HalfDead] {
            let mut options = links(2, FenceSupport::Answered);
            options.sharing = sharing;
            options.policy = std::sync::Arc::new(mpio::policy::Failover::new());
            let mut harness = Harness::new(&options);
            harness.run(MILLI);
            harness.sim.break_link(0, fault);
            harness.submit(0, WRITE, 1, 4, None);
            harness.run(MILLI * 30);
            let newer = harness.submit(1, WRITE, 2, 1, None).unwrap();
            harness.run(MILLI * 100);
            harness.sim.restore_link(0);
            harness.run(MILLI * 500);
            assert_eq!((harness.completed, harness.failed), (2, 0), "{sharing:?} {fault:?}");
            assert_eq!(harness.sim.content()[2], newer.0, "{sharing:?} {fault:?}");
            harness.finish();
        }
    }
}

#[test]
fn a_silent_link_is_fenced_for_what_waits_though_the_write_has_gone_another_way() {
    let mut options = links(2, FenceSupport::Proven);
    (options.sharing, options.suspect_after) = (Sharing::Exclusive, MILLI * 1000);
    options.policy = std::sync::Arc::new(mpio::policy::Failover::new());
    let mut harness = Harness::new(&options);
    harness.run(MILLI);
    harness.sim.break_link(0, LinkFault::Silent);
    harness.submit(0, WRITE, 1, 4, None);
    harness.run(MILLI * 120);
    assert_eq!(harness.completed, 1);
    harness.submit(1, WRITE, 1, 1, None);
    harness.run(MILLI * 300);
    assert_eq!((harness.completed, harness.failed), (2, 0));
    harness.finish();
}

#[test]
fn what_waits_for_a_fence_is_told_whatever_its_kind() {
    for fence in [FenceSupport::Answered, FenceSupport::Assumed(MILLI * 1000), FenceSupport::None] {
        let mut options = links(2, fence);
        options.policy = std::sync::Arc::new(mpio::policy::Failover::new());
        let mut harness = Harness::new(&options);
        harness.run(MILLI);
        harness.sim.break_link(0, LinkFault::Stuck);
        harness.submit(0, WRITE, 1, 1, None);
        harness.run(MILLI * 400);
        assert!(harness.sim.status().paths[0].unfenced_since.is_some(), "{fence:?}");
        let told = harness.events();
        let reminders = told.iter().filter(|kind| matches!(kind, EventKind::FenceOverdue(_))).count();
        assert!((2..8).contains(&reminders), "{fence:?}: {reminders} times");
        harness.finish();
    }
}
