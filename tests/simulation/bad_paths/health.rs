//! When a path is looked at, and what that decides.

use mpio::path::FenceSupport;
use mpio::sim::LinkFault;
use mpio::{EventKind, Health, Operation};

use super::{MILLI, links};
use crate::harness::Harness;

#[test]
fn a_path_that_connects_and_fails_at_once_is_not_connected_without_a_pause() {
    let mut harness = Harness::new(&links(2, FenceSupport::Proven));
    harness.run(MILLI);
    for _ in 0..1000 {
        harness.sim.break_link(0, LinkFault::Dead);
        harness.submit(0, Operation::Read, 1, 1, None);
        harness.submit(0, Operation::Read, 1, 1, None);
        harness.sim.step(harness.sim.now().after(MILLI));
        harness.sim.restore_link(0);
        harness.run(MILLI);
    }
    let connections = harness.sim.status().paths[0].incarnation.get();
    assert!(connections < 150, "{connections} connections in a second");
    assert_eq!(harness.failed, 0);
    harness.finish();
}

#[test]
fn the_only_path_left_is_looked_at_without_a_pause_that_grows() {
    let mut harness = Harness::new(&links(2, FenceSupport::Proven));
    harness.sim.break_link(1, LinkFault::Dead);
    harness.sim.break_link(0, LinkFault::Dead);
    harness.submit(0, Operation::Read, 1, 1, None);
    harness.submit(0, Operation::Read, 1, 1, None);
    harness.run(MILLI * 2000);
    let status = harness.sim.status();
    assert_eq!(status.waiting, 2);
    assert!(status.paths.iter().all(|path| path.why_down.is_some()), "{status:?}");
    harness.sim.restore_link(0);
    // Probed every 10 ms.
    harness.run(MILLI * 15);
    let status = harness.sim.status();
    assert_eq!((status.paths[0].health, status.waiting), (Health::Up, 0));
    assert_eq!(status.paths[0].why_down, None);
    assert!(status.paths[1].why_down.is_some());
    harness.finish();
}

#[test]
fn a_link_that_is_seldom_used_is_not_found_dead_when_it_is_needed() {
    let mut options = links(2, FenceSupport::Proven);
    options.policy = std::sync::Arc::new(mpio::policy::Failover::new());
    let mut harness = Harness::new(&options);
    harness.submit(0, Operation::Read, 1, 1, None);
    harness.run(MILLI * 500);
    harness.sim.break_link(1, LinkFault::Silent);
    harness.run(MILLI * 500);
    let health = harness.sim.status().paths[1].health;
    assert_eq!(health, Health::Down, "nobody has used it");
    harness.sim.restore_link(1);
    harness.run(MILLI * 500);
    assert_eq!(harness.sim.status().paths[1].health, Health::Up);
    harness.finish();
}

#[test]
fn a_link_whose_probes_are_answered_while_its_io_hangs_is_the_last_resort_for_longer_each_time() {
    let mut harness = Harness::new(&links(2, FenceSupport::Proven));
    harness.run(MILLI);
    harness.sim.break_link(0, LinkFault::HalfDead);
    for round in 0..3000_u64 {
        harness.submit(0, Operation::Read, round % 64, 1, None);
        harness.run(MILLI);
    }
    let told = harness.events();
    let falls =
        told.iter().filter(|kind| matches!(kind, EventKind::Suspect(_) | EventKind::Silent(_))).count();
    assert!((3..20).contains(&falls), "{falls} times in three seconds: {told:?}");
    assert!(told.len() < 80, "{} events", told.len());
    assert_eq!(harness.failed, 0);
    // With the other one gone it is used at once.
    harness.sim.break_link(1, LinkFault::Dead);
    harness.sim.restore_link(0);
    harness.run(MILLI * 50);
    let before = harness.completed;
    harness.submit(0, Operation::Read, 1, 1, None);
    harness.submit(0, Operation::Read, 1, 1, None);
    harness.run(MILLI * 50);
    assert_eq!(harness.completed - before, 2);
    harness.finish();
}

#[test]
fn a_link_that_comes_back_is_given_one_request_and_more_when_it_has_done_it() {
    let mut harness = Harness::new(&links(2, FenceSupport::Proven));
    harness.run(MILLI);
    let burst = |harness: &mut Harness, requests: u64| {
        let count = |harness: &mut Harness| {
            let path = &harness.sim.status().paths[0];
            path.completed() + u64::from(path.in_flight())
        };
        let before = count(harness);
        for block in 0..requests {
            harness.submit(0, Operation::Read, block, 1, None);
        }
        harness.run(MILLI * 2);
        count(harness) - before
    };
    assert!(burst(&mut harness, 32) > 8, "it is given its share");
    harness.sim.break_link(0, LinkFault::HalfDead);
    // Not so many that what they hold keeps others away.
    burst(&mut harness, 4);
    let mut rounds = 0;
    while !harness.events().iter().any(|kind| matches!(kind, EventKind::Up(_))) {
        rounds += 1;
        assert!(rounds < 5000, "it never comes up");
        harness.run(MILLI);
    }
    assert!(burst(&mut harness, 32) <= 1, "it has proved nothing");
    harness.sim.restore_link(0);
    harness.run(MILLI * 2000);
    let given: Vec<u64> = (0..20).map(|_| burst(&mut harness, 32)).collect();
    assert!(given.iter().any(|&given| given > 8), "it is given its share again: {given:?}");
    assert_eq!(harness.failed, 0);
    harness.finish();
}

#[test]
fn a_path_that_is_held_back_says_so_once_and_is_trusted_again_when_somebody_says_so() {
    let mut harness = Harness::new(&links(2, FenceSupport::Proven));
    harness.run(MILLI);
    harness.sim.break_link(0, LinkFault::HalfDead);
    let mut told = Vec::new();
    for block in 0..3000_u64 {
        harness.submit(0, Operation::Read, block % 64, 1, None);
        harness.run(MILLI);
        told.extend(harness.events().into_iter().filter_map(|kind| match kind {
            EventKind::HeldBack(falls, _) => Some(falls),
            _ => None,
        }));
    }
    assert!(told.len() > 2 && told.is_sorted_by(|a, b| a < b), "each time once: {told:?}");
    harness.sim.restore_link(0);
    let path = harness.sim.status().paths[0].clone();
    assert!(path.held_back_until > Some(harness.sim.now()), "{path:?}");
    harness.sim.retry_path(path.id).unwrap();
    harness.run(MILLI);
    let path = harness.sim.status().paths[0].clone();
    assert_eq!((path.health, path.held_back_until), (Health::Up, None));
    harness.finish();
}

#[test]
fn a_path_that_was_held_back_is_called_upon_when_the_other_falls() {
    let mut harness = Harness::new(&links(2, FenceSupport::Proven));
    harness.run(MILLI);
    harness.sim.break_link(0, LinkFault::HalfDead);
    let mut block = 0;
    while !harness.events().iter().any(|kind| matches!(kind, EventKind::HeldBack(falls, _) if *falls > 5)) {
        block += 1;
        assert!(block < 20_000, "it never counts as flapping");
        harness.submit(0, Operation::Read, block % 64, 1, None);
        harness.run(MILLI);
    }
    harness.sim.restore_link(0);
    harness.sim.break_link(1, LinkFault::Dead);
    harness.submit(0, Operation::Read, 1, 1, None);
    harness.submit(0, Operation::Read, 2, 1, None);
    harness.run(MILLI * 25);
    assert_eq!(harness.sim.status().paths[0].health, Health::Up);
    assert_eq!(harness.failed, 0);
    harness.finish();
}
