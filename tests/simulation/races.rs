//! Turns of events between queues, control side and paths that each had an end once that was not the right one.

use std::time::Duration;

use mpio::path::{AccessState, CacheScope, FenceSupport};
use mpio::sim::{LinkFault, LinkProfile, Options};
use mpio::{Cookie, Durability, EventKind, Fate, NoPath, Operation};

use crate::harness::{Harness, WRITE};

const MILLI: Duration = Duration::from_millis(1);

fn links(count: usize, fence: FenceSupport) -> Options {
    let mut profile = LinkProfile::default();
    profile.fence = fence;
    Options::new(vec![profile; count])
}

/// Links that each have a cache of their own.
fn private_caches(count: usize) -> Options {
    let mut options = links(count, FenceSupport::Proven);
    for (number, link) in options.links.iter_mut().enumerate() {
        link.cache = Some(CacheScope(format!("{number}")));
    }
    options
}

impl Harness {
    /// Goes on until the supervisor has said this of a path, and not a step further.
    fn run_until(&mut self, said: impl Fn(&EventKind) -> bool) {
        let limit = self.sim.now().after(MILLI * 1000);
        while !self.sim.take_events().iter().any(|event| said(&event.kind)) {
            assert!(self.sim.step(limit), "it was never said");
        }
        self.collect();
    }
}

#[test]
fn an_answer_that_lays_a_ghost_lets_the_writes_of_other_queues_go_on() {
    let mut harness = Harness::new(&links(2, FenceSupport::None));
    harness.sim.break_link(0, LinkFault::Stuck);
    harness.submit(0, WRITE, 1, 4, Some(MILLI * 5));
    harness.run(MILLI * 10);
    assert_eq!(harness.completed, 1, "its deadline passed");
    harness.submit(1, WRITE, 4, 1, None);
    harness.run(MILLI * 5);
    assert_eq!(harness.completed, 1, "it waits");
    harness.sim.restore_link(0);
    harness.run(MILLI * 5);
    assert_eq!(harness.completed, 2);
    harness.finish();
}

#[test]
fn a_ghost_that_comes_after_its_fence_is_laid_all_the_same() {
    let mut harness = Harness::new(&links(2, FenceSupport::Proven));
    let cookie = harness.submit(0, WRITE, 1, 4, None).unwrap();
    harness.sim.step(harness.sim.now().after(MILLI));
    harness.sim.break_link(0, LinkFault::Dead);
    harness.run_until(|kind| matches!(kind, EventKind::Fenced(_)));
    assert_eq!(harness.sim.cancel(0, cookie), 1, "the queue has not heard of the fence");
    harness.collect();
    harness.submit(1, WRITE, 1, 4, None);
    harness.run(MILLI * 50);
    assert_eq!((harness.completed, harness.sim.status().ghosts), (2, 0));
    harness.finish();
}

#[test]
fn the_first_part_of_a_write_that_was_continued_elsewhere_is_flushed_too() {
    let mut harness = Harness::new(&private_caches(2));
    harness.sim.break_link(0, LinkFault::Short);
    for _ in 0..8 {
        harness.submit(0, WRITE, 8, 8, None);
        harness.run(MILLI);
        harness.submit(1, Operation::Flush, 0, 1, None);
        harness.run(MILLI);
    }
    assert_eq!(harness.completed, 16);
    harness.finish();
}

#[test]
fn a_flush_covers_caches_that_its_queue_has_not_heard_of_yet() {
    let mut options = private_caches(1);
    let mut newcomer = options.links[0].clone();
    newcomer.cache = Some(CacheScope("new".to_owned()));
    options.links[0].cache = None;
    let mut harness = Harness::new(&options);
    harness.run(MILLI);
    harness.sim.pause_queue(1);
    harness.sim.add_path(newcomer).unwrap();
    harness.run(MILLI);
    for block in 0..4 {
        harness.submit(0, WRITE, block, 1, None);
    }
    harness.run(MILLI);
    assert_eq!(harness.completed, 4);
    harness.submit(1, Operation::Flush, 0, 1, None);
    harness.sim.resume_queue(1);
    harness.run(MILLI);
    assert_eq!(harness.completed, 5);
    harness.finish();
}

#[test]
fn a_far_deadline_does_not_put_off_the_look_at_a_silent_link() {
    let mut harness = Harness::new(&links(2, FenceSupport::Proven));
    harness.sim.break_link(0, LinkFault::Silent);
    harness.submit(0, Operation::Read, 1, 1, Some(MILLI * 5000));
    harness.submit(0, Operation::Read, 2, 1, Some(MILLI * 5000));
    harness.run(MILLI * 30);
    assert_eq!(harness.completed, 2);
    harness.finish();
}

#[test]
fn a_failure_of_an_earlier_connection_does_not_bar_the_present_one() {
    let mut harness = Harness::new(&links(1, FenceSupport::Proven));
    harness.submit(0, Operation::Read, 1, 1, None);
    harness.submit(1, Operation::Read, 1, 1, None);
    harness.sim.step(harness.sim.now().after(MILLI));
    harness.sim.step(harness.sim.now().after(MILLI));
    // The thread of one queue sleeps through the loss of the connection and through what comes after.
    harness.sim.pause_queue(0);
    harness.sim.break_link(0, LinkFault::Dead);
    harness.submit(1, Operation::Read, 1, 1, None);
    harness.run(MILLI * 5);
    harness.sim.restore_link(0);
    harness.run(MILLI * 50);
    harness.sim.resume_queue(0);
    harness.run(MILLI * 100);
    assert_eq!(harness.completed, 3);
    harness.finish();
}

#[test]
fn requests_over_a_path_whose_code_panics_go_over_another() {
    let mut harness = Harness::new(&links(2, FenceSupport::Proven));
    for block in 0..8 {
        harness.submit(0, Operation::Read, block, 1, None);
        harness.submit(0, WRITE, block + 8, 1, None);
    }
    harness.sim.step(harness.sim.now());
    harness.sim.step(harness.sim.now().after(MILLI));
    harness.sim.break_link(0, LinkFault::Crash);
    harness.run(MILLI * 50);
    assert_eq!(harness.completed, 16);
    assert_eq!(harness.sim.status().paths.len(), 2);
}

#[test]
fn a_path_whose_code_panicked_is_used_again_once_it_has_connected_anew() {
    let mut harness = Harness::new(&links(1, FenceSupport::Proven));
    harness.run(MILLI);
    harness.sim.break_link(0, LinkFault::Crash);
    harness.submit(0, Operation::Read, 1, 1, None);
    harness.run(MILLI * 5);
    harness.sim.restore_link(0);
    harness.run(MILLI * 200);
    harness.submit(0, Operation::Read, 2, 1, None);
    harness.submit(0, WRITE, 2, 1, None);
    harness.run(MILLI * 200);
    assert_eq!(harness.completed, 3);
}

#[test]
fn a_path_is_flushed_before_it_leaves_even_if_the_queue_is_full() {
    let mut options = private_caches(2);
    options.depth = 4;
    options.queues = 1;
    let mut harness = Harness::new(&options);
    for block in 0..4 {
        harness.submit(0, WRITE, block, 1, None);
    }
    harness.run(MILLI);
    harness.sim.break_link(1, LinkFault::Silent);
    let leaver = harness.sim.status().paths[0].id;
    for block in 8..12 {
        harness.submit(0, Operation::Read, block, 1, None);
    }
    harness.sim.step(harness.sim.now());
    harness.sim.remove_path(leaver).unwrap();
    harness.run(MILLI * 2);
    harness.sim.restore_link(1);
    harness.run(MILLI * 2);
    harness.submit(0, Operation::Flush, 0, 1, None);
    harness.run(MILLI * 2);
    assert_eq!(harness.completed, 9);
    assert!(!warned(&harness), "nothing was lost");
    harness.finish();
}

#[test]
fn a_cache_behind_two_paths_that_leave_at_once_is_flushed() {
    for down in [0, 1] {
        let mut options = links(3, FenceSupport::Proven);
        for link in &mut options.links[..2] {
            link.cache = Some(CacheScope("both".to_owned()));
        }
        let mut harness = Harness::new(&options);
        for block in 0..12 {
            harness.submit(block % 2, WRITE, block as u64, 1, None);
        }
        harness.run(MILLI);
        harness.sim.break_link(down, LinkFault::Dead);
        for block in 0..6 {
            harness.submit(0, Operation::Read, block, 1, None);
        }
        harness.run(MILLI);
        let leavers: Vec<_> = harness.sim.status().paths[..2].iter().map(|path| path.id).collect();
        for leaver in leavers {
            harness.sim.remove_path(leaver).unwrap();
        }
        harness.run(MILLI * 5);
        harness.submit(0, Operation::Flush, 0, 1, None);
        harness.run(MILLI * 5);
        assert!(!warned(&harness), "nothing was lost");
        assert_eq!(harness.completed, 19);
        harness.finish();
    }
}

#[test]
fn the_callers_cookies_never_mean_a_flush_of_the_volumes_own() {
    let mut harness = Harness::new(&private_caches(2));
    for block in 0..4 {
        harness.submit(0, WRITE, block, 1, None);
    }
    harness.run(MILLI);
    let leaver = harness.sim.status().paths[0].id;
    let settled = harness.sim.remove_path(leaver).unwrap();
    let limit = harness.sim.now().after(MILLI);
    while !settled.is_settled() {
        assert_eq!(harness.sim.cancel(0, Cookie::default()), 0);
        assert!(harness.sim.step(limit) && harness.sim.step(limit));
    }
    assert!(!warned(&harness), "nothing was lost");
    harness.submit(0, Operation::Flush, 0, 1, None);
    harness.run(MILLI);
    assert_eq!(harness.completed, 5);
    harness.finish();
}

#[test]
fn a_quiet_time_begins_when_the_queue_that_it_waited_for_is_gone() {
    let mut harness = Harness::new(&links(2, FenceSupport::Assumed(MILLI * 50)));
    harness.run(MILLI);
    harness.sim.pause_queue(1);
    harness.submit(0, WRITE, 1, 1, None);
    harness.submit(0, WRITE, 2, 1, None);
    harness.sim.step(harness.sim.now());
    harness.sim.step(harness.sim.now().after(MILLI));
    harness.sim.break_link(0, LinkFault::Dead);
    harness.sim.break_link(1, LinkFault::Dead);
    harness.run(MILLI);
    harness.sim.restore_link(0);
    harness.sim.restore_link(1);
    harness.run(MILLI * 200);
    assert_eq!(harness.completed, 0, "the other queue may still send");
    harness.drop_queue(1);
    harness.run(MILLI * 100);
    assert_eq!(harness.completed, 2);
    harness.finish();
}

#[test]
fn a_request_that_was_held_and_waits_for_its_turn_now_does_not_fail_for_want_of_a_path() {
    let mut options = links(1, FenceSupport::Proven);
    options.no_path = NoPath::hold(MILLI * 100);
    options.links[0].depth = 2;
    options.links[0].latency = (MILLI * 5, MILLI * 5);
    let mut harness = Harness::new(&options);
    harness.sim.break_link(0, LinkFault::Dead);
    harness.run(MILLI * 5);
    harness.submit(0, Operation::Read, 0, 1, None);
    harness.run(MILLI * 10);
    for block in 0..30 {
        harness.submit(0, Operation::Read, block, 1, None);
    }
    harness.run(MILLI * 50);
    harness.sim.restore_link(0);
    let limit = harness.sim.now().after(MILLI * 1000);
    while harness.sim.outstanding() > 0 && harness.sim.step(limit) {}
    let failed = harness.sim.take_completions().into_iter().filter(|(_, one)| one.result.is_err()).count();
    assert_eq!(failed, 0);
}

#[test]
fn a_queue_that_sleeps_while_its_connection_is_fenced_sends_nothing_over_it_afterwards() {
    let mut harness = Harness::new(&links(2, FenceSupport::Proven));
    harness.run(MILLI);
    harness.sim.break_link(0, LinkFault::Stuck);
    harness.sim.pause_queue(1);
    for block in 0..4 {
        harness.submit(0, WRITE, block, 1, None);
        harness.submit(1, Operation::Write(Durability::Fua), block, 1, None);
    }
    harness.run(MILLI * 100);
    assert_eq!(harness.completed, 4);
    harness.sim.restore_link(0);
    harness.sim.resume_queue(1);
    harness.run(MILLI * 100);
    assert_eq!(harness.completed, 8);
    harness.finish();
}

#[test]
fn a_request_that_no_path_ever_took_ends_as_not_sent() {
    let mut options = links(2, FenceSupport::Proven);
    options.no_path = NoPath::Fail;
    let mut harness = Harness::new(&options);
    harness.sim.break_link(0, LinkFault::Dead);
    harness.sim.break_link(1, LinkFault::Dead);
    harness.submit(0, WRITE, 1, 1, None);
    harness.sim.run_for(MILLI * 10);
    let completions = harness.sim.take_completions();
    assert_eq!(completions[0].1.result.as_ref().unwrap_err().fate(), Fate::NotSent);
}

#[test]
fn a_queue_whose_preferred_link_is_full_sleeps_until_there_is_room() {
    let mut options = links(2, FenceSupport::Proven);
    options.policy = mpio::policy::by_name("failover").unwrap();
    options.links[0].depth = 4;
    let mut harness = Harness::new(&options);
    harness.run(MILLI);
    for block in 0..8 {
        harness.submit(0, Operation::Read, block, 1, None);
    }
    let limit = harness.sim.now().after(MILLI);
    let steps = std::iter::from_fn(|| harness.sim.step(limit).then_some(())).count();
    harness.collect();
    assert_eq!(harness.completed, 8);
    assert!(steps < 150, "{steps} turns");
    harness.finish();
}

#[test]
fn what_a_silent_link_held_goes_on_over_another_once_it_is_fenced() {
    let mut harness = Harness::new(&links(2, FenceSupport::Proven));
    harness.run(MILLI);
    harness.sim.break_link(0, LinkFault::Silent);
    harness.submit(0, WRITE, 1, 1, None);
    harness.submit(0, WRITE, 2, 1, None);
    harness.run(MILLI * 30);
    assert_eq!(harness.completed, 2, "the link has not handed back the first attempt");
    harness.finish();
}

#[test]
fn a_fence_of_an_earlier_connection_leaves_the_present_one_alone() {
    let mut harness = Harness::new(&links(1, FenceSupport::Proven));
    harness.submit(0, WRITE, 1, 1, None);
    harness.submit(1, Operation::Read, 1, 1, None);
    harness.sim.step(harness.sim.now());
    harness.sim.step(harness.sim.now().after(MILLI));
    harness.sim.pause_queue(0);
    harness.sim.break_link(0, LinkFault::Dead);
    harness.submit(1, Operation::Read, 1, 1, None);
    harness.run(MILLI * 5);
    harness.sim.restore_link(0);
    harness.run(MILLI * 50);
    let incarnation = harness.sim.status().paths[0].incarnation;
    harness.sim.resume_queue(0);
    harness.run(MILLI * 100);
    assert_eq!(harness.completed, 3);
    assert_eq!(harness.sim.status().paths[0].incarnation, incarnation);
    harness.finish();
}

#[test]
fn where_requests_do_not_wait_one_goes_to_a_path_that_failed_it_only_once_more_and_after_that_was_looked_into()
 {
    let mut options = links(1, FenceSupport::Proven);
    options.no_path = NoPath::Fail;
    let mut harness = Harness::new(&options);
    harness.sim.break_link(0, LinkFault::Short);
    harness.submit(0, Operation::Read, 0, 16, None);
    harness.run(MILLI * 50);
    assert_eq!(harness.completed, 1);
    assert_eq!(harness.sim.status().paths[0].failed(Fate::Unknown), 2);
    harness.finish();
}

#[test]
fn a_path_that_refuses_is_left_alone_until_there_is_news_of_it() {
    let mut harness = Harness::new(&links(2, FenceSupport::Proven));
    harness.run(MILLI);
    for state in [AccessState::Standby, AccessState::Optimized] {
        harness.sim.set_access(0, state);
        for block in 0..16 {
            harness.submit(0, Operation::Read, block, 1, None);
            harness.submit(1, WRITE, block, 1, None);
        }
        harness.run(MILLI * 20);
    }
    assert_eq!(harness.completed, 64);
    harness.finish();
}

#[test]
fn a_write_that_is_given_up_while_it_waits_for_its_fence_does_not_land_over_a_newer_one() {
    for (seed, fence) in (0..16)
        .flat_map(|seed| [FenceSupport::Proven, FenceSupport::Assumed(MILLI * 50)].map(|fence| (seed, fence)))
    {
        let mut options = links(2, fence);
        options.seed = seed;
        let mut harness = Harness::new(&options);
        let older = harness.submit(0, WRITE, 1, 4, None).unwrap();
        harness.sim.step(harness.sim.now());
        harness.sim.step(harness.sim.now().after(MILLI));
        harness.sim.break_link(0, LinkFault::Dead);
        harness.sim.run_for(MILLI / 10);
        harness.sim.cancel(0, older);
        harness.collect();
        harness.submit(1, WRITE, 1, 4, None);
        harness.run(MILLI * 100);
        harness.finish();
    }
}

#[test]
fn a_fence_of_an_earlier_connection_says_nothing_of_a_later_one() {
    for seed in 0..48 {
        let mut options = links(2, FenceSupport::Proven);
        options.seed = seed;
        let mut harness = Harness::new(&options);
        // The link loses connections faster than their fences are made.
        harness.sim.set_mishaps(0, 400_000);
        for round in 0..60 {
            harness.submit(round % 2, WRITE, 1, 4, None);
            harness.run(MILLI / 4);
        }
        harness.run(MILLI * 50);
        harness.finish();
    }
}

#[test]
fn a_flush_waits_for_a_cache_that_only_another_queue_can_flush_any_more() {
    for rule in [NoPath::Fail, NoPath::hold(MILLI * 1000)] {
        let mut options = private_caches(1);
        options.no_path = rule;
        let mut harness = Harness::new(&options);
        harness.run(MILLI);
        harness.submit(1, WRITE, 1, 2, None);
        harness.sim.run_for(MILLI / 50);
        // One queue lets go of the path at once, the other only when its write has ended.
        harness.sim.pause_queue(1);
        let leaver = harness.sim.status().paths[0].id;
        harness.sim.add_path(LinkProfile::default()).unwrap();
        harness.sim.remove_path(leaver).unwrap();
        harness.run(MILLI);
        assert_eq!(harness.completed, 0);
        harness.sim.resume_queue(1);
        while harness.completed == 0 {
            let now = harness.sim.now();
            harness.sim.step(now.after(MILLI));
            harness.collect();
        }
        harness.submit(0, Operation::Flush, 0, 1, None);
        harness.run(MILLI);
        assert_eq!(harness.completed, 2);
        harness.finish();
    }
}

fn warned(harness: &Harness) -> bool {
    harness.sim.take_events().iter().any(|event| matches!(event.kind, EventKind::Warning(_)))
}
