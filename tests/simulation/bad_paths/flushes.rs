//! Caches that change, and that are lost.

use mpio::path::{CacheScope, FenceSupport};
use mpio::sim::LinkFault;
use mpio::{Error, NoPath, Operation};

use super::{MILLI, links};
use crate::harness::{Harness, WRITE};

#[test]
fn a_flush_reaches_what_was_written_before_a_cache_had_another_name() {
    let mut options = links(1, FenceSupport::Proven);
    options.links[0].cache = Some(CacheScope("one".to_owned()));
    let mut harness = Harness::new(&options);
    harness.submit(0, WRITE, 1, 8, None);
    harness.run(MILLI);
    harness.sim.rename_cache(0, CacheScope("other".to_owned()));
    harness.sim.break_link(0, LinkFault::Dead);
    harness.submit(0, Operation::Read, 1, 1, None);
    harness.run(MILLI * 5);
    harness.sim.restore_link(0);
    harness.run(MILLI * 50);
    harness.submit(0, Operation::Flush, 0, 1, None);
    harness.run(MILLI * 5);
    assert_eq!((harness.completed, harness.failed), (3, 0));
    // The history has checked that all of it is durable.
    harness.finish();
}

#[test]
fn what_a_leaving_path_could_not_flush_fails_the_next_flush_of_every_queue_once() {
    let mut options = links(2, FenceSupport::Proven);
    options.no_path = NoPath::hold(MILLI * 50);
    for (number, link) in options.links.iter_mut().enumerate() {
        link.cache = Some(CacheScope(format!("{number}")));
    }
    let mut harness = Harness::new(&options);
    for block in 0..8 {
        harness.submit(0, WRITE, block, 1, None);
    }
    harness.run(MILLI);
    harness.sim.break_link(0, LinkFault::Dead);
    let path = harness.sim.status().paths[0].id;
    harness.sim.remove_path(path).unwrap();
    harness.run(MILLI * 500);
    for queue in 0..2 {
        for outcome in [1, 0] {
            let before = harness.failed;
            harness.submit(queue, Operation::Flush, 0, 1, None);
            harness.run(MILLI * 5);
            assert_eq!(harness.failed - before, outcome, "queue {queue}");
        }
    }
    assert!(matches!(harness.last_error, Some(Error::FlushIncomplete { path: told }) if told == path));
    harness.finish();
}

#[test]
fn a_flush_reaches_what_another_queue_has_not_yet_heard_to_be_written() {
    let mut options = links(1, FenceSupport::Assumed(MILLI * 5));
    options.links[0].cache = Some(CacheScope("one".to_owned()));
    let mut harness = Harness::new(&options);
    harness.run(MILLI);
    harness.sim.lose(0, 1);
    harness.submit(0, Operation::Read, 20, 1, None);
    harness.sim.step(harness.sim.now().after(MILLI));
    harness.sim.set_latency(0, (MILLI, MILLI));
    harness.submit(1, WRITE, 1, 8, None);
    harness.run(MILLI + MILLI / 2);
    // The device has it, and its queue does not look for the answer.
    harness.sim.pause_queue(1);
    harness.sim.rename_cache(0, CacheScope("other".to_owned()));
    harness.run(MILLI * 1000);
    assert!(harness.sim.status().paths[0].incarnation.get() > 1, "it has connected anew");
    harness.submit(0, Operation::Flush, 0, 1, None);
    harness.run(MILLI * 50);
    harness.sim.resume_queue(1);
    harness.run(MILLI * 50);
    harness.submit(1, Operation::Flush, 0, 1, None);
    harness.run(MILLI * 50);
    assert_eq!((harness.completed, harness.failed), (4, 0));
    harness.finish();
}
