//! The place of a queue's policy: whatever sits there, the engine gets an eligible path.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::policy::{Candidates, IoSummary, LeastQueue, MakePolicy, Observation, Placement, Policy};

/// A policy, replaced by [`LeastQueue`] the first time that it panics or names a path that is not eligible.
pub(crate) struct PolicySeat {
    policy: Box<dyn Policy>,
    placement: Placement,
    observes: bool,
    seed: u64,
    failure: Option<&'static str>,
}

const PANICKED: &str = "the policy panicked";
const INELIGIBLE: &str = "the policy selected a path that is not eligible";

impl PolicySeat {
    pub(crate) fn new(make: &dyn MakePolicy, seed: u64) -> Self {
        let fallback = || LeastQueue::default().make(seed);
        let attempted = catch_unwind(AssertUnwindSafe(|| {
            let policy = make.make(seed);
            let (placement, observes) = (policy.placement(), policy.observes());
            (policy, placement, observes)
        }));
        let failure = attempted.is_err().then_some(PANICKED);
        let (policy, placement, observes) =
            attempted.unwrap_or_else(|_| (fallback(), Placement::WithRoom, false));
        Self { policy, placement, observes, seed, failure }
    }

    /// Which of the routes the policy is to choose from: those with room, or all of them.
    pub(super) const fn placement(&self) -> Placement {
        self.placement
    }

    /// Whether the policy wants to hear of successes.
    pub(super) const fn observes(&self) -> bool {
        self.observes
    }

    /// An index of `candidates`, which are not empty.
    #[inline]
    pub(super) fn select(&mut self, io: &IoSummary, candidates: &Candidates<'_>) -> usize {
        let policy = &mut self.policy;
        match catch_unwind(AssertUnwindSafe(|| policy.select(io, candidates))) {
            Ok(index) if candidates.contains(index) => index,
            Ok(_) => self.replace(INELIGIBLE, candidates),
            Err(_) => self.replace(PANICKED, candidates),
        }
    }

    pub(crate) fn observe(&mut self, observations: &[Observation]) {
        let policy = &mut self.policy;
        if catch_unwind(AssertUnwindSafe(|| policy.observe(observations))).is_err() {
            self.give_up(PANICKED);
        }
    }

    pub(crate) fn paths_changed(&mut self, candidates: &Candidates<'_>) {
        let policy = &mut self.policy;
        if catch_unwind(AssertUnwindSafe(|| policy.paths_changed(candidates))).is_err() {
            self.give_up(PANICKED);
        }
    }

    /// Why the policy was replaced, told once.
    pub(crate) fn take_failure(&mut self) -> Option<&'static str> {
        self.failure.take()
    }

    #[cold]
    fn replace(&mut self, reason: &'static str, candidates: &Candidates<'_>) -> usize {
        self.give_up(reason);
        candidates.next_from(0).unwrap_or(0)
    }

    #[cold]
    fn give_up(&mut self, reason: &'static str) {
        self.drop_policy();
        self.placement = Placement::WithRoom;
        self.failure = Some(reason);
    }

    /// Puts `LeastQueue` in the policy's place. The policy's destructor may panic as well.
    fn drop_policy(&mut self) {
        let fallback = LeastQueue::default().make(self.seed);
        let policy = std::mem::replace(&mut self.policy, fallback);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(policy)));
    }
}

impl Drop for PolicySeat {
    fn drop(&mut self) {
        self.drop_policy();
    }
}
