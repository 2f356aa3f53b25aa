//! Single turns of events, each with its one right end.

use std::time::Duration;

use mpio::path::{AccessState, CacheScope, FenceSupport};
use mpio::sim::{LinkFault, LinkProfile, Options};
use mpio::{Error, Fate, Health, NoPath, Operation};

use crate::harness::{Harness, Step, WRITE};

const MILLI: Duration = Duration::from_millis(1);

fn two_links() -> Options {
    Options::new(vec![LinkProfile::default(); 2])
}

#[test]
fn everything_completes_over_healthy_links() {
    let mut harness = Harness::new(&two_links());
    for block in 0..32 {
        harness.submit(block % 2, WRITE, block as u64, 2, None);
        harness.submit(block % 2, Operation::Read, block as u64, 1, None);
    }
    harness.run(MILLI * 10);
    assert_eq!(harness.completed, 64);
    harness.finish();
}

#[test]
fn reads_and_writes_go_on_over_the_other_link_when_one_dies() {
    let mut harness = Harness::new(&two_links());
    harness.sim.break_link(0, LinkFault::Dead);
    for block in 0..32 {
        harness.submit(0, WRITE, block, 1, None);
        harness.submit(1, Operation::Read, block, 1, None);
    }
    harness.run(MILLI * 10);
    assert_eq!(harness.completed, 64);
    harness.finish();
}

#[test]
fn a_read_on_a_silent_link_is_answered_by_another() {
    let mut harness = Harness::new(&two_links());
    harness.sim.break_link(0, LinkFault::Silent);
    harness.submit(0, Operation::Read, 1, 1, None);
    harness.submit(0, Operation::Read, 2, 1, None);
    harness.run(MILLI * 30);
    assert_eq!(harness.completed, 2, "one at once, one after the link became suspect");
    harness.finish();
}

#[test]
fn without_a_fence_a_write_waits_until_its_silent_link_answers() {
    let mut options = two_links();
    for link in &mut options.links {
        link.fence = FenceSupport::None;
    }
    let mut harness = Harness::new(&options);
    harness.sim.break_link(0, LinkFault::Stuck);
    harness.submit(0, WRITE, 1, 1, None);
    harness.submit(0, WRITE, 2, 1, None);
    harness.run(MILLI * 500);
    assert_eq!(harness.completed, 1);
    harness.sim.restore_link(0);
    harness.run(MILLI * 10);
    assert_eq!(harness.completed, 2);
    harness.finish();
}

#[test]
fn a_write_given_up_bars_newer_ones_to_its_blocks_on_every_queue_until_it_is_fenced() {
    let mut options = two_links();
    for link in &mut options.links {
        link.fence = FenceSupport::None;
    }
    let mut harness = Harness::new(&options);
    harness.sim.break_link(0, LinkFault::Stuck);
    harness.sim.break_link(1, LinkFault::Stuck);
    harness.submit(0, WRITE, 1, 4, Some(MILLI * 5));
    harness.run(MILLI * 10);
    assert_eq!(harness.completed, 1, "its deadline passed");
    harness.sim.restore_link(1);
    harness.sim.restore_link(0);
    harness.sim.break_link(0, LinkFault::Stuck);
    harness.sim.break_link(1, LinkFault::Stuck);
    harness.submit(1, WRITE, 4, 1, None);
    harness.run(MILLI * 10);
    harness.finish();
}

#[test]
fn a_newer_write_goes_on_when_another_queue_hears_that_the_older_one_has_ended() {
    let mut options = two_links();
    for link in &mut options.links {
        link.fence = FenceSupport::None;
    }
    let mut harness = Harness::new(&options);
    harness.sim.break_link(0, LinkFault::Stuck);
    harness.sim.break_link(1, LinkFault::Stuck);
    harness.submit(0, WRITE, 1, 4, Some(MILLI * 5));
    harness.run(MILLI * 10);
    harness.submit(1, WRITE, 4, 1, None);
    harness.run(MILLI * 10);
    assert_eq!(harness.completed, 1, "the newer one waits");
    harness.sim.restore_link(0);
    harness.sim.restore_link(1);
    harness.run(MILLI * 10);
    assert_eq!(harness.completed, 2, "queue 1 has nothing else to wake it");
    harness.finish();
}

#[test]
fn with_no_path_left_requests_are_held_and_then_fail_as_not_sent() {
    let mut options = two_links();
    options.no_path = NoPath::hold(MILLI * 100);
    let mut harness = Harness::new(&options);
    harness.sim.break_link(0, LinkFault::Dead);
    harness.sim.break_link(1, LinkFault::Dead);
    harness.run(MILLI * 5);
    let cookie = harness.submit(0, WRITE, 1, 1, None).unwrap();
    let start = harness.sim.now();
    while harness.sim.outstanding() > 0 && harness.sim.now() < start.after(MILLI * 500) {
        harness.sim.step(start.after(MILLI * 500));
    }
    let completions = harness.sim.take_completions();
    let [(0, completion)] = completions.as_slice() else { panic!("{completions:?}") };
    assert_eq!(completion.cookie, cookie);
    match completion.result.as_ref().unwrap_err() {
        Error::NoPath { held, fate: Fate::NotSent } => assert!(*held >= MILLI * 100, "{held:?}"),
        other => panic!("{other}"),
    }
}

#[test]
fn a_removed_path_goes_once_every_queue_has_let_go() {
    let mut harness = Harness::new(&two_links());
    harness.submit(0, WRITE, 1, 1, None);
    harness.submit(1, WRITE, 2, 1, None);
    let first = harness.sim.status().paths[0].id;
    let settled = harness.sim.remove_path(first).unwrap();
    assert!(!settled.is_settled());
    harness.run(MILLI);
    assert!(settled.is_settled());
    assert_eq!(harness.sim.status().paths.len(), 1);
    assert!(harness.sim.remove_path(first).is_err());
}

#[test]
fn a_closed_volume_ends_every_request_and_settles() {
    let mut harness = Harness::new(&two_links());
    harness.sim.break_link(0, LinkFault::Stuck);
    harness.sim.break_link(1, LinkFault::Stuck);
    harness.submit(0, WRITE, 1, 1, None);
    harness.submit(1, Operation::Read, 1, 1, None);
    harness.run(MILLI);
    let settled = harness.sim.close(MILLI * 10);
    harness.run(MILLI * 5);
    assert!(harness.submit(0, WRITE, 3, 1, None).is_none(), "no new ones");
    harness.run(MILLI * 10);
    assert_eq!(harness.completed, 2);
    assert!(!settled.is_settled(), "a link still holds memory");
    harness.sim.restore_link(0);
    harness.sim.restore_link(1);
    harness.run(MILLI * 10);
    assert!(settled.is_settled());
}

#[test]
fn a_link_that_was_lost_with_writes_out_is_fenced_and_comes_back_when_restored() {
    // The queues' news of the loss reach the supervisor in one order or another.
    for seed in 0..32 {
        let mut options = two_links();
        options.seed = seed;
        let mut harness = Harness::new(&options);
        for block in 0..32 {
            harness.submit(1, WRITE, block, 1, None);
        }
        // Long enough to be sent, too short to be answered.
        harness.run(Duration::from_micros(15));
        for block in 32..48 {
            harness.submit(0, WRITE, block, 1, None);
        }
        harness.sim.break_link(0, LinkFault::Dead);
        harness.run(MILLI * 50);
        assert_eq!(harness.completed, 48);
        assert_eq!(harness.sim.status().paths[0].health, Health::Down);
        harness.sim.restore_link(0);
        harness.run(MILLI * 500);
        assert_eq!(harness.sim.status().paths[0].health, Health::Up, "seed {seed}");
        harness.finish();
    }
}

/// Found by the property tests: a queue whose path has connected anew for another reason had a read there that was lost.
#[test]
fn the_memory_of_a_cancelled_read_comes_back_though_it_was_lost_over_a_connection_that_is_over() {
    let mut links = Vec::new();
    for depth in [6, 6, 1, 1] {
        let mut profile = LinkProfile::default();
        (profile.cache, profile.depth) = (Some(CacheScope("cache 0".to_owned())), depth);
        links.push(profile);
    }
    let mut options = Options::new(links);
    options.seed = 2_391_642_386_874_124_158;
    let mut harness = Harness::new(&options);
    let submit = |queue, operation| Step::Submit { queue, operation, start: 0, blocks: 1, deadline: None };
    let read = |queue| submit(queue, Operation::Read);
    let mut steps = vec![read(0), read(0), submit(0, Operation::Discard)];
    steps.push(Step::Access(2, AccessState::Transitioning));
    steps.extend((0..7).map(|_| read(0)));
    steps.extend([Step::Remove(2), read(0), Step::Lose(1, 1), read(0)]);
    steps.extend([Step::Run(Duration::from_micros(148)), Step::Access(0, AccessState::Optimized)]);
    steps.extend([Step::Run(Duration::ZERO), read(1), Step::Cancel(0), read(1), read(0)]);
    steps.extend([Step::Break(4, LinkFault::Crash), Step::Run(Duration::from_micros(5)), Step::Cancel(11)]);
    for step in &steps {
        harness.carry_out(step);
    }
    harness.finish();
}
