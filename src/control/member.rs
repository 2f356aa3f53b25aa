//! A path as the supervisor keeps it.

use std::time::Duration;

use crate::engine::{Health, Route};
use crate::io::PathId;
use crate::path::{AccessState, Description, Incarnation};
use crate::time::Tick;

use super::Voucher;
use super::fence::Fences;

/// Probe intervals within which two falls of a path count as flapping, and the doublings of the time for which it is then not
/// trusted.
const FLAPPING: u32 = 128;
const MOST_DAMPING: u32 = 6;

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
    /// Probing.
    Probing,
}

/// Whether the present incarnation has a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Linked {
    No,
    Yes,
}

/// Whether it ever connected: before that nothing is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EverConnected {
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
    /// Whether a queue waits for the answer to a probe of a path that is up.
    pub(super) asked: bool,
    /// When to probe or connect next.
    pub(super) next_try: Tick,
    /// When the last probe was sent, and when its answer is overdue (again).
    pub(super) probed_at: Tick,
    pub(super) probe_due: Tick,
    /// Times that it ceased to be up within a short time of each other, and when it did last.
    pub(super) falls: u32,
    pub(super) fell_at: Option<Tick>,
    /// Until when it is the last resort for that, though it answers.
    pub(super) held_back_until: Option<Tick>,
    pub(super) linked: Linked,
    pub(super) ever_connected: EverConnected,
    /// Why it is down, as last told: why it went, or why it cannot connect again.
    pub(super) why_down: String,
    /// Tries that failed in a row.
    pub(super) failures: u32,
    /// When it was last up.
    pub(super) last_up: Tick,
    /// When it last came up.
    pub(super) up_since: Tick,
    /// When a connection was last made anew at once.
    pub(super) reconnected_at: Option<Tick>,
    pub(super) fences: Fences,
    /// By queue.
    pub(super) over: Vec<Over>,
    pub(super) scope: Option<u8>,
    /// Caches that it was said to have before.
    pub(super) former: Vec<Former>,
    pub(super) leaving: Leaving,
    /// Queues that have let go of it while it leaves.
    pub(super) let_go: Vec<bool>,
}

/// How far a queue is done with the connections of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Over {
    /// It sends nothing more over those up to this one.
    pub(super) left: Incarnation,
    /// It has everything back that it sent over those up to this one.
    pub(super) drained: Incarnation,
}

impl Over {
    pub(super) const NOTHING: Self = Self { left: Incarnation::NONE, drained: Incarnation::NONE };
}

/// A cache that a path was said to have before, and that may still hold what a flush over the path makes durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Former {
    pub(super) scope: u8,
    /// The last connection whose writes landed in it.
    pub(super) through: Incarnation,
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
            asked: false,
            next_try: Tick::MAX,
            probed_at: now,
            probe_due: Tick::MAX,
            falls: 0,
            fell_at: None,
            held_back_until: None,
            linked: Linked::Yes,
            ever_connected: EverConnected::Yes,
            why_down: String::new(),
            failures: 0,
            last_up: now,
            up_since: now,
            reconnected_at: None,
            fences: Fences::default(),
            over: Vec::new(),
            scope: None,
            former: Vec::new(),
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
            fenced: self.fences.done,
            scope: self.scope,
            covers: self.covers(),
            leaving: self.leaving == Leaving::Yes,
            preferred: self.description.preferred,
        }
    }

    /// All caches that a flush over it covers.
    pub(super) fn covers(&self) -> u64 {
        let former = self.former.iter().map(|cache| cache.scope);
        former.chain(self.scope).fold(0, |set, scope| set | 1 << scope)
    }

    /// How far every queue is done with its connections, but for those that are idle; `None` if all are.
    pub(super) fn over_in(&self, idle: &[bool]) -> Option<Over> {
        let busy = self.over.iter().zip(idle).filter(|&(_, &idle)| !idle).map(|(&over, _)| over);
        busy.reduce(|a, b| Over { left: a.left.min(b.left), drained: a.drained.min(b.drained) })
    }

    /// When there is something to do for it.
    pub(super) fn due(&self) -> Option<Tick> {
        let task = match self.task {
            Task::Idle => (self.next_try < Tick::MAX).then_some(self.next_try),
            Task::Probing if self.health != Health::Down => Some(self.probe_due),
            Task::Probing | Task::Connecting(_) => None,
        };
        [task, self.fences.due()].into_iter().flatten().min()
    }

    /// It is up no more.
    pub(super) fn fall(&mut self, now: Tick, base: Duration) {
        let lately = self.fell_at.is_some_and(|before| now.since(before) < base.saturating_mul(FLAPPING));
        self.falls = if lately { self.falls.saturating_add(1) } else { 1 };
        self.fell_at = Some(now);
        self.last_up = now;
    }

    /// Until when it is not trusted though it answers, since it fell again and again: from the second time on, doubling.
    pub(super) fn damped_until(&self, base: Duration) -> Option<Tick> {
        let steps = self.falls.checked_sub(2)?;
        Some(self.fell_at?.after(base.saturating_mul(1 << steps.min(MOST_DAMPING))))
    }

    /// How long to wait after the present number of failures in a row: doubling from `base` to 16 times that.
    pub(super) fn pause(&self, base: Duration) -> Duration {
        base.saturating_mul(1 << self.failures.saturating_sub(1).min(4))
    }
}
