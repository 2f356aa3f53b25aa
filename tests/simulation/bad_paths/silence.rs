//! Links that do not answer, or take long.

use mpio::path::FenceSupport;
use mpio::sim::LinkFault;
use mpio::{NoPath, Operation, Sharing};

use super::{MILLI, links, slow};
use crate::harness::{Harness, WRITE};

#[test]
fn silent_links_hold_nothing_that_a_healthy_one_needs() {
    for fault in [LinkFault::Silent, LinkFault::Stuck, LinkFault::HalfDead] {
        let mut options = links(4, FenceSupport::Proven);
        options.depth = 16;
        let mut harness = Harness::new(&options);
        for link in 0..3 {
            harness.sim.break_link(link, fault);
        }
        let counts = harness.flood(Operation::Read, 12, MILLI * 50);
        let late = &counts[4..];
        assert!(late.iter().all(|&count| count > 100), "{fault:?}: {counts:?}");
        harness.finish();
    }
}

#[test]
fn a_read_ends_though_every_link_takes_longer_than_it_is_given() {
    let mut harness = Harness::new(&links(2, FenceSupport::Proven));
    for link in 0..2 {
        harness.sim.set_latency(link, slow(MILLI * 120));
    }
    harness.submit(0, Operation::Read, 1, 1, None);
    harness.run(MILLI * 200);
    assert_eq!(harness.completed, 1, "a late answer is an answer");
    harness.finish();
}

#[test]
fn what_is_slow_everywhere_fails_nothing() {
    for (count, rule) in [(1, NoPath::Fail), (2, NoPath::Fail), (1, NoPath::hold(MILLI * 100))] {
        for fence in [FenceSupport::Proven, FenceSupport::Assumed(MILLI * 5), FenceSupport::Answered] {
            let mut options = links(count, fence);
            options.no_path = rule;
            let mut harness = Harness::new(&options);
            for link in 0..count {
                harness.sim.set_latency(link, slow(MILLI * 50));
            }
            for block in 0..40 {
                harness.submit(0, WRITE, block, 1, None);
                harness.submit(1, Operation::Read, block, 1, None);
                harness.run(MILLI * 30);
            }
            harness.run(MILLI * 1000);
            assert_eq!(
                (harness.completed, harness.failed),
                (80, 0),
                "{count} {rule:?} {fence:?}: {:#?}",
                harness.errors
            );
            harness.finish();
        }
    }
}

#[test]
fn a_preferred_link_that_is_silent_or_half_dead_does_not_keep_the_others_from_work() {
    for fault in [LinkFault::Silent, LinkFault::Stuck, LinkFault::HalfDead] {
        let mut options = links(2, FenceSupport::Proven);
        (options.depth, options.policy) = (16, std::sync::Arc::new(mpio::policy::Failover::new()));
        for link in &mut options.links {
            link.depth = 16;
        }
        let mut harness = Harness::new(&options);
        harness.sim.break_link(0, fault);
        let counts = harness.flood(Operation::Read, 12, MILLI * 50);
        let late = &counts[4..];
        assert!(late.iter().all(|&count| count > 100), "{fault:?}: {counts:?}");
        harness.finish();
    }
}

#[test]
fn what_the_only_link_has_lost_is_asked_for_again() {
    for operation in [WRITE, Operation::Read] {
        for fence in [FenceSupport::Proven, FenceSupport::Assumed(MILLI * 5)] {
            let mut harness = Harness::new(&links(1, fence));
            harness.sim.lose(0, 1);
            harness.submit(0, operation, 1, 4, None);
            for block in 10..60 {
                harness.submit(1, Operation::Read, block, 1, None);
                harness.run(MILLI * 20);
            }
            assert_eq!((harness.completed, harness.failed), (51, 0), "{operation:?} {fence:?}");
            harness.finish();
        }
    }
}

#[test]
fn writes_behind_one_that_is_lost_leave_room_for_others() {
    let mut options = links(2, FenceSupport::None);
    options.depth = 16;
    let mut harness = Harness::new(&options);
    harness.run(MILLI);
    // Lost on both, so that it is known to have been.
    for link in 0..2 {
        harness.sim.lose(link, 1);
    }
    harness.submit(0, WRITE, 1, 1, Some(MILLI * 5));
    harness.submit(0, WRITE, 1, 1, Some(MILLI * 5));
    harness.run(MILLI * 10);
    assert_eq!((harness.completed, harness.failed), (2, 2));
    let ended = |harness: &Harness| harness.completed - harness.failed;
    for _ in 0..20 {
        harness.submit(0, WRITE, 1, 1, None);
        harness.run(MILLI * 10);
    }
    let before = ended(&harness);
    for block in 10..20 {
        assert!(harness.submit(0, WRITE, block, 1, None).is_some(), "there is room");
        harness.run(MILLI * 5);
    }
    assert!(ended(&harness) - before >= 10);
    for path in harness.sim.status().paths {
        harness.sim.vouch(path.id);
    }
    harness.run(MILLI * 200);
    assert_eq!(harness.failed, 2);
    harness.finish();
}

#[test]
fn a_write_that_one_host_alone_writes_ends_though_every_link_takes_longer_than_it_is_given() {
    let mut options = links(2, FenceSupport::Answered);
    options.sharing = Sharing::Exclusive;
    let mut harness = Harness::new(&options);
    for link in 0..2 {
        harness.sim.set_latency(link, slow(MILLI * 120));
    }
    harness.submit(0, WRITE, 1, 1, None);
    harness.run(MILLI * 200);
    assert_eq!((harness.completed, harness.failed), (1, 0), "a late answer is an answer");
    harness.finish();
}

#[test]
fn the_places_of_reads_that_a_link_has_lost_are_had_again() {
    let mut options = links(2, FenceSupport::Proven);
    for link in &mut options.links {
        link.depth = 8;
    }
    let mut harness = Harness::new(&options);
    harness.sim.lose(0, 4);
    for block in 0..40 {
        harness.submit(0, Operation::Read, block, 1, None);
        harness.run(MILLI);
    }
    harness.run(MILLI * 500);
    harness.sim.break_link(1, LinkFault::Dead);
    harness.submit(0, Operation::Read, 1, 1, None);
    harness.submit(0, Operation::Read, 2, 1, None);
    harness.run(MILLI * 100);
    assert_eq!((harness.completed, harness.failed), (42, 0));
    harness.finish();
}
