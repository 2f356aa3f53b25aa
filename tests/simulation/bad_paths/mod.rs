//! One bad path, in each way that storage has, never takes the volume down.

mod errors;
mod fences;
mod flushes;
mod health;
mod silence;

use std::time::Duration;

use mpio::path::FenceSupport;
use mpio::sim::{LinkProfile, Options};
use mpio::{EventKind, Operation};

use crate::harness::Harness;

const MILLI: Duration = Duration::from_millis(1);

fn links(count: usize, fence: FenceSupport) -> Options {
    let mut profile = LinkProfile::default();
    profile.fence = fence;
    Options::new(vec![profile; count])
}

/// A link that takes this long, there and back, with a little scatter.
fn slow(span: Duration) -> (Duration, Duration) {
    (span / 2, span / 2 + MILLI)
}

impl Harness {
    /// Submits what the queue takes, for `rounds` times `span`; what has completed in each.
    fn flood(&mut self, operation: Operation, rounds: usize, span: Duration) -> Vec<usize> {
        let mut counts = Vec::new();
        for round in 0..rounds {
            let before = self.completed;
            let limit = self.sim.now().after(span);
            let mut block = round as u64;
            while self.sim.now() < limit {
                for queue in 0..2 {
                    while self.submit(queue, operation, block % 64, 1, None).is_some() {
                        block += 1;
                    }
                }
                self.run(MILLI);
            }
            counts.push(self.completed - before);
        }
        counts
    }

    fn events(&mut self) -> Vec<EventKind> {
        self.sim.take_events().into_iter().map(|event| event.kind).collect()
    }
}

/// Each test that the page names is there.
#[test]
fn what_is_said_of_failover_is_tested() {
    let page = include_str!("../../../docs/failover.md");
    let groups = [
        ("errors", include_str!("errors.rs")),
        ("fences", include_str!("fences.rs")),
        ("flushes", include_str!("flushes.rs")),
        ("health", include_str!("health.rs")),
        ("silence", include_str!("silence.rs")),
    ];
    let mut named = 0;
    for word in page.split('`') {
        let Some((group, test)) = word.split_once("::") else { continue };
        let Some((_, tests)) = groups.iter().find(|(name, _)| *name == group) else { continue };
        assert!(tests.contains(&format!("fn {test}() {{")), "{word} is no test");
        named += 1;
    }
    assert!(named > 20, "{named} tests are named");
}
