//! A path as the supervisor keeps it.

use std::time::Duration;

use crate::engine::{Health, Route};
use crate::io::PathId;
use crate::path::{AccessState, Description, Incarnation};
use crate::time::Tick;

use super::Voucher;

/// What the user says of a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) weight: u32,
    pub(crate) rank: u32,
    pub(crate) voucher: Voucher,
}

impl Default for Terms {
    fn default() -> Self {
        Self { weight: 1, rank: 0, voucher: Voucher::Identity }
    }
}

/// What the path's helper is doing for the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Idle,
    /// Connecting for this incarnation.
    Connecting(Incarnation),
    /// Probing since then.
    Probing(Tick),
}

/// Whether the present incarnation has a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Linked {
    No,
    Yes,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: PathId,
    pub(super) name: String,
    pub(super) terms: Terms,
    pub(super) description: Description,
    pub(super) incarnation: Incarnation,
    pub(super) admission: u32,
    pub(super) health: Health,
    pub(super) access: AccessState,
    /// The access state was taken from a refusal, not from the path: a good probe ends it.
    pub(super) access_inferred: Inferred,
    pub(super) task: Task,
    /// When to probe or connect next.
    pub(super) next_try: Tick,
    pub(super) linked: Linked,
    /// Why the last try to connect failed.
    pub(super) hindrance: String,
    /// Tries that failed in a row.
    pub(super) failures: u32,
    /// When it was last up.
    pub(super) last_up: Tick,
    /// When it last came up.
    pub(super) up_since: Tick,
    pub(super) fenced: Incarnation,
    /// Something of connections up to this one may still land.
    pub(super) unfenced: Incarnation,
    /// A fence was asked for through this one.
    pub(super) fencing: Incarnation,
    /// When an assumed fence is over.
    pub(super) quiet_at: Option<Tick>,
    /// By queue: connections up to this one have handed everything back.
    pub(super) drained: Vec<Incarnation>,
    pub(super) scope: Option<u8>,
    pub(super) leaving: Leaving,
    /// Queues that have let go of it while it leaves.
    pub(super) let_go: Vec<bool>,
}

/// Where an access state came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inferred {
    No,
    Yes,
}

/// Whether a path is being removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    Yes,
}

impl Member {
    pub(super) fn new(id: PathId, name: String, terms: Terms, description: Description, now: Tick) -> Self {
        Self {
            id,
            name,
            terms,
            access: description.access,
            access_inferred: Inferred::No,
            description,
            incarnation: Incarnation::NONE.next(),
            admission: 1,
            health: Health::Up,
            task: Task::Idle,
            next_try: Tick::MAX,
            linked: Linked::Yes,
            hindrance: String::new(),
            failures: 0,
            last_up: now,
            up_since: now,
            fenced: Incarnation::NONE,
            unfenced: Incarnation::NONE,
            fencing: Incarnation::NONE,
            quiet_at: None,
            drained: Vec::new(),
            scope: None,
            leaving: Leaving::No,
            let_go: Vec::new(),
        }
    }

    /// What queues need to know; each of `queues` gets its share of the depth.
    pub(super) fn route(&self, queues: u16) -> Route {
        Route {
            id: self.id,
            incarnation: self.incarnation,
            admission: self.admission,
            health: self.health,
            access: self.access,
            weight: self.terms.weight,
            rank: self.terms.rank,
            depth: (self.description.depth / u32::from(queues.max(1))).max(1),
            fenced: self.fenced,
            scope: self.scope,
            leaving: self.leaving == Leaving::Yes,
        }
    }

    /// How long to wait after the present number of failures in a row: doubling from `base` to 16 times that.
    pub(super) fn pause(&self, base: Duration) -> Duration {
        base.saturating_mul(1 << self.failures.saturating_sub(1).min(4))
    }
}
