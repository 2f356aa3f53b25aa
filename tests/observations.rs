//! What a queue tells its policy.

#[path = "../benches/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mpio::policy::{self, Candidates, IoSummary, Observation, Policy};
use support::closed_loop::{ClosedLoop, Shape, WINDOW};
use support::null_path::Answers;

/// Takes the first path, and counts what it hears.
struct Listener {
    heard: Arc<AtomicUsize>,
    is_listening: bool,
}

impl Policy for Listener {
    fn select(&mut self, _io: &IoSummary, candidates: &Candidates<'_>) -> usize {
        candidates.next_from(0).unwrap_or(0)
    }

    fn observes(&self) -> bool {
        self.is_listening
    }

    fn observe(&mut self, observations: &[Observation]) {
        self.heard.fetch_add(observations.len(), Ordering::Relaxed);
    }
}

/// I/Os that ended, and those among them that the policy heard of.
fn ended_and_heard(is_listening: bool) -> (usize, usize) {
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&heard);
    let policy = policy::make("listener", move |_seed| {
        Box::new(Listener { heard: Arc::clone(&counter), is_listening }) as Box<dyn Policy>
    });
    let shape = Shape { paths: 2, used: 1, batch: 4, depth: 0 };
    let mut ios = ClosedLoop::new(policy, &shape, &Answers::BeyondWindow(WINDOW));
    let ended = (0..100).map(|_| ios.turn()).sum();
    (ended, heard.load(Ordering::Relaxed))
}

#[test]
fn a_policy_hears_of_every_success() {
    let (ended, heard) = ended_and_heard(true);
    assert!(ended > 100 && heard == ended, "{ended} {heard}");
}

#[test]
fn a_policy_that_does_not_observe_is_told_nothing() {
    let (ended, heard) = ended_and_heard(false);
    assert!(ended > 100 && heard == 0, "{ended} {heard}");
}
