//! A policy that looks over the shoulder of the engine: whatever it is offered must be eligible by a plain reading of
//! what the supervisor published.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;

use crate::engine::{Health, Route, Snapshot};
use crate::policy::{Candidates, IoSummary, MakePolicy, Observation, Placement, Policy};

/// What was seen that must not be.
pub(super) type Testimony = Arc<Mutex<Vec<String>>>;

/// The published snapshot, once there is one; weak, since the snapshot has the policy in it.
pub(super) type Published = Arc<Mutex<Weak<ArcSwap<Snapshot>>>>;

/// Makes witnesses around a policy.
pub(super) struct Witnessed {
    pub(super) inner: Arc<dyn MakePolicy>,
    pub(super) published: Published,
    pub(super) testimony: Testimony,
}

impl MakePolicy for Witnessed {
    fn make(&self, seed: u64) -> Box<dyn Policy> {
        let (published, testimony) = (Arc::clone(&self.published), Arc::clone(&self.testimony));
        Box::new(Witness { inner: self.inner.make(seed), published, testimony })
    }

    fn name(&self) -> String {
        self.inner.name()
    }
}

struct Witness {
    inner: Box<dyn Policy>,
    published: Published,
    testimony: Testimony,
}

impl Witness {
    fn inspect(&self, io: &IoSummary, candidates: &Candidates<'_>) {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(snapshot) = published.upgrade().map(|published| published.load_full()) else { return };
        let mut complaints = Vec::new();
        if candidates.is_empty() {
            complaints.push("a policy was asked to choose from nothing".to_owned());
        }
        let flush = io.operation == crate::io::Operation::Flush;
        for (index, candidate) in candidates.iter() {
            let id = candidate.id;
            let room = candidate.in_flight < candidate.depth || self.inner.placement() == Placement::Strict;
            let problem = match snapshot.routes.get(index).and_then(Option::as_ref) {
                Some(route) if route.id != id => "is another path by now",
                Some(Route { leaving: true, .. }) if !flush => "is being removed",
                Some(Route { health: Health::Down, .. }) => "is down",
                Some(Route { access, .. }) if !access.is_active() => "is not active",
                Some(_) if !room => "has no room",
                Some(_) => continue,
                None => "does not exist",
            };
            complaints.push(format!("a policy was offered {id}, which {problem}"));
        }
        self.testimony.lock().unwrap_or_else(PoisonError::into_inner).extend(complaints);
    }
}

impl Policy for Witness {
    fn select(&mut self, io: &IoSummary, candidates: &Candidates<'_>) -> usize {
        self.inspect(io, candidates);
        self.inner.select(io, candidates)
    }

    fn placement(&self) -> Placement {
        self.inner.placement()
    }

    fn observe(&mut self, observations: &[Observation]) {
        self.inner.observe(observations);
    }

    fn paths_changed(&mut self, candidates: &Candidates<'_>) {
        self.inner.paths_changed(candidates);
    }
}
