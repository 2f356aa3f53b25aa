//! Links that fail what they are given.

use mpio::path::FenceSupport;
use mpio::sim::LinkFault;
use mpio::{EventKind, NoPath, Operation, Sharing};

use super::{MILLI, links, slow};
use crate::harness::{Harness, WRITE};

#[test]
fn errors_of_the_only_path_that_works_fail_nothing_while_requests_may_wait() {
    let mut options = links(2, FenceSupport::Proven);
    options.no_path = NoPath::hold(MILLI * 2000);
    let mut harness = Harness::new(&options);
    harness.sim.break_link(1, LinkFault::Dead);
    harness.sim.break_link(0, LinkFault::Short);
    for block in 0..16 {
        harness.submit(0, WRITE, block * 4, 4, None);
    }
    harness.run(MILLI * 500);
    assert_eq!(harness.completed, 0, "they wait");
    harness.sim.restore_link(0);
    harness.run(MILLI * 1500);
    assert_eq!((harness.completed, harness.failed), (16, 0));
    harness.finish();
}

#[test]
fn a_request_that_fails_everywhere_ends_when_it_has_waited_for_as_long_as_it_may() {
    let mut options = links(2, FenceSupport::Proven);
    options.no_path = NoPath::hold(MILLI * 200);
    let mut harness = Harness::new(&options);
    for link in 0..2 {
        harness.sim.break_link(link, LinkFault::Short);
    }
    harness.submit(0, Operation::Read, 0, 16, None);
    harness.run(MILLI * 190);
    assert_eq!(harness.completed, 0);
    harness.run(MILLI * 1200);
    assert_eq!((harness.completed, harness.failed), (1, 1));
    let tries: u64 = harness.sim.status().paths.iter().map(|path| path.failed(mpio::Fate::Unknown)).sum();
    assert!((4..40).contains(&tries), "{tries} tries, with pauses that grow");
    harness.finish();
}

#[test]
fn when_there_was_no_path_for_as_long_as_requests_wait_later_ones_fail_at_once() {
    let mut options = links(1, FenceSupport::Proven);
    options.no_path = NoPath::hold(MILLI * 100);
    let mut harness = Harness::new(&options);
    harness.sim.break_link(0, LinkFault::Dead);
    harness.submit(0, Operation::Read, 1, 1, None);
    harness.run(MILLI * 150);
    assert_eq!((harness.completed, harness.failed), (1, 1));
    harness.submit(0, Operation::Read, 2, 1, None);
    harness.run(MILLI * 5);
    assert_eq!((harness.completed, harness.failed), (2, 2));
    harness.sim.restore_link(0);
    harness.run(MILLI * 200);
    harness.submit(0, Operation::Read, 3, 1, None);
    harness.run(MILLI * 5);
    assert_eq!((harness.completed, harness.failed), (3, 2));
    harness.finish();
}

#[test]
fn a_path_that_was_left_for_no_fault_of_its_own_is_gone_back_to() {
    let mut harness = Harness::new(&links(2, FenceSupport::Proven));
    harness.sim.break_link(0, LinkFault::Denied);
    harness.sim.set_latency(1, slow(MILLI * 10));
    harness.submit(0, Operation::Read, 1, 1, None);
    harness.submit(0, Operation::Read, 2, 1, None);
    harness.run(MILLI * 2);
    assert_eq!(harness.completed, 0, "the other is asked before the error is believed");
    harness.sim.break_link(1, LinkFault::Dead);
    harness.run(MILLI * 300);
    assert_eq!((harness.completed, harness.failed), (2, 2), "it says the same once more");
    harness.finish();
}

#[test]
fn a_path_that_alone_denies_what_others_do_fails_nothing_and_is_looked_into() {
    for policy in mpio::policy::NAMES {
        let mut options = links(2, FenceSupport::Proven);
        options.policy = mpio::policy::by_name(policy).unwrap();
        let mut harness = Harness::new(&options);
        harness.sim.break_link(0, LinkFault::Denied);
        for (block, queue) in (0..32).zip([0, 1].into_iter().cycle()) {
            harness.submit(queue, WRITE, block, 1, None);
            harness.run(MILLI);
        }
        assert_eq!((harness.completed, harness.failed), (32, 0), "{policy}");
        let told = harness.events();
        assert!(told.iter().any(|kind| matches!(kind, EventKind::Suspect(_))), "{policy}: {told:?}");
        harness.finish();
    }
}

#[test]
fn a_time_without_any_path_ends_when_there_is_one_though_nothing_is_sent() {
    let mut options = links(1, FenceSupport::Proven);
    options.no_path = NoPath::hold(MILLI * 100);
    let mut harness = Harness::new(&options);
    harness.sim.break_link(0, LinkFault::Dead);
    harness.submit(0, Operation::Read, 1, 1, None);
    harness.run(MILLI * 200);
    assert_eq!((harness.completed, harness.failed), (1, 1));
    harness.sim.restore_link(0);
    harness.run(MILLI * 500);
    harness.sim.break_link(0, LinkFault::Dead);
    harness.run(MILLI * 500);
    harness.submit(0, Operation::Read, 2, 1, None);
    harness.run(MILLI * 50);
    assert_eq!(harness.completed, 1, "it waits for as long as the first did");
    harness.sim.restore_link(0);
    harness.run(MILLI * 50);
    assert_eq!((harness.completed, harness.failed), (2, 1));
    harness.finish();
}

#[test]
fn a_request_that_breaks_every_path_ends_after_the_retries_that_it_is_allowed() {
    let mut options = links(2, FenceSupport::Proven);
    options.max_retries = 3;
    let mut harness = Harness::new(&options);
    for link in 0..2 {
        harness.sim.break_link(link, LinkFault::Short);
    }
    harness.submit(0, Operation::Read, 0, 16, None);
    harness.run(MILLI * 500);
    assert_eq!((harness.completed, harness.failed), (1, 1));
    let tries: u64 = harness.sim.status().paths.iter().map(|path| path.failed(mpio::Fate::Unknown)).sum();
    assert_eq!(tries, 4);
    harness.finish();
}

#[test]
fn a_write_that_is_denied_when_it_is_late_goes_another_way() {
    for sharing in [Sharing::Shared, Sharing::Exclusive] {
        let mut options = links(2, FenceSupport::Proven);
        (options.sharing, options.suspect_after) = (sharing, MILLI * 1000);
        options.policy = std::sync::Arc::new(mpio::policy::Failover::new());
        let mut harness = Harness::new(&options);
        harness.sim.break_link(0, LinkFault::Denied);
        harness.sim.set_latency(0, slow(MILLI * 300));
        // Two that overlap: neither waits for the other.
        harness.submit(0, WRITE, 1, 4, None);
        harness.submit(1, WRITE, 2, 4, None);
        harness.run(MILLI * 400);
        assert_eq!((harness.completed, harness.failed), (2, 0), "{sharing:?}");
        harness.finish();
    }
}
