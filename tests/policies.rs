//! The crate's policies pass the suite that it offers for those of others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

use std::time::Duration;

use mpio::policy::{
    self, AdaptiveLatency, Candidates, Failback, Failover, IoSummary, LeastQueue, MakePolicy, Policy,
    RoundRobin,
};
use mpio::policy_suite;

policy_suite!(failover, Failover::new());
policy_suite!(failover_after_a_while, Failover::new().failback(Failback::After(Duration::from_millis(5))));
policy_suite!(failover_for_good, Failover::new().failback(Failback::Never));
policy_suite!(round_robin, RoundRobin::new());
policy_suite!(round_robin_of_long_turns, RoundRobin::new().quantum(16).unwrap());
policy_suite!(least_queue, LeastQueue::new());
policy_suite!(adaptive_latency, AdaptiveLatency::new());
policy_suite!(
    adaptive_latency_that_probes_often,
    AdaptiveLatency::new().probe_interval(Duration::from_nanos(1)).unwrap()
);
policy_suite!(by_name, policy::by_name("adaptive").unwrap());
policy_suite!(from_a_closure, policy::make("last", |_seed| Box::new(Last)));

/// A policy as a user would write it: always the last of the candidates.
struct Last;

impl Policy for Last {
    fn select(&mut self, _io: &IoSummary, candidates: &Candidates<'_>) -> usize {
        candidates.iter().last().map_or(0, |(index, _)| index)
    }
}

/// Policies with one fault each, which the suite must find.
mod faulty {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::{Arc, Mutex};

    use mpio::policy::suite;

    use super::*;

    fn fails(test: fn(&dyn MakePolicy), policy: &dyn MakePolicy) {
        assert!(catch_unwind(AssertUnwindSafe(|| test(policy))).is_err(), "{} passed", policy.name());
    }

    /// Turns to the next path without looking whether it is there.
    #[derive(Clone, Default)]
    struct Blind(usize);

    impl Policy for Blind {
        fn select(&mut self, _io: &IoSummary, _candidates: &Candidates<'_>) -> usize {
            self.0 = (self.0 + 1) % 4;
            self.0
        }
    }

    /// Adds up loads without thinking of their range.
    struct Adder;

    impl Policy for Adder {
        fn select(&mut self, _io: &IoSummary, candidates: &Candidates<'_>) -> usize {
            let load = |path: &policy::Candidate| path.in_flight.wrapping_add(path.in_flight_elsewhere);
            let wrapped = candidates.iter().find(|(_, path)| load(path) < path.in_flight);
            assert!(wrapped.is_none(), "attempt to add with overflow");
            candidates.iter().min_by_key(|(_, path)| load(path)).map_or(0, |(index, _)| index)
        }
    }

    /// Goes on from where the last instance was.
    struct Shared(Arc<Mutex<usize>>);

    impl Policy for Shared {
        fn select(&mut self, _io: &IoSummary, candidates: &Candidates<'_>) -> usize {
            let Ok(mut turn) = self.0.lock() else { return 0 };
            *turn += 1;
            candidates.next_from(*turn).unwrap_or(0)
        }
    }

    #[test]
    fn an_ineligible_selection_is_found() {
        let blind = policy::make("blind", |_| Box::new(Blind::default()));
        fails(suite::selects_eligible_paths_only, &blind);
        fails(suite::selects_the_only_candidate, &blind);
        fails(suite::stands_changes_at_any_time, &blind);
    }

    #[test]
    fn an_overflow_is_found() {
        fails(suite::stands_extreme_numbers, &policy::make("adder", |_| Box::new(Adder)));
    }

    #[test]
    fn a_common_state_of_instances_is_found() {
        let turn = Arc::default();
        let shared = policy::make("shared", move |_| Box::new(Shared(Arc::clone(&turn))));
        fails(suite::selects_the_same_for_the_same_seed, &shared);
    }
}
