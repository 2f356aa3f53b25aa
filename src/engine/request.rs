//! A request on its way, and its attempts.

use std::time::Duration;

use crate::block::Extent;
use crate::buffer::Lent;
use crate::error::Cause;
use crate::io::{Cookie, Operation, PathId};
use crate::path::{AttemptId, Incarnation};
use crate::time::Tick;

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// To be placed: in the list of ready requests.
    Ready,
    /// Cannot be placed at present: in the list of parked requests.
    Parked,
    /// Has a live attempt.
    Out,
    /// A write that may yet land by an attempt over this slot and connection, and is not sent again before.
    Fencing { slot: u8, incarnation: Incarnation, attempt: AttemptId },
    /// Its completion was delivered.
    Done,
}

/// Who waits for a request's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Caller,
    /// The engine itself: a flush of what a path that is being removed still holds.
    Engine,
}

/// An accepted request. What every I/O touches comes first, as it stands here: two cache lines, and not four.
#[derive(Debug)]
#[repr(C)]
pub(super) struct RequestSlot {
    pub(super) operation: Operation,
    pub(super) origin: Origin,
    pub(super) continued: Continued,
    /// Whether an attempt was ever out whose effect is not known to be none.
    pub(super) exposed: Exposed,
    /// Whether `history` is of this request.
    is_eventful: bool,
    pub(super) state: State,
    /// The attempts that paths hold of it: the latest, from which the others follow; [`NOBODY`] for none.
    pub(super) attempts: u32,
    /// Bytes done by a transfer that was short.
    pub(super) done: u32,
    pub(super) memory: Option<Lent>,
    pub(super) extent: Extent,
    pub(super) cookie: Cookie,
    /// `Tick::MAX` for none.
    pub(super) deadline: Tick,
    history: History,
}

/// What befalls few requests.
#[derive(Debug)]
pub(super) struct History {
    /// Paths that failed it since they were last admitted.
    pub(super) tried: u64,
    /// Paths that failed it, were found good, and failed it again.
    pub(super) condemned: u64,
    /// Paths that failed it at some time.
    pub(super) failed: u64,
    /// Times that it left a path that was too slow: each doubles the patience with the next.
    pub(super) moves: u32,
    /// Times that a path failed it, since when, and before when it does not go again to a path that did.
    pub(super) failures: u32,
    pub(super) failing_since: Option<Tick>,
    pub(super) not_before: Tick,
    /// While it is held: until when.
    pub(super) held_until: Option<Tick>,
    /// Since when no path has sent it, though one may have looked as if it could.
    pub(super) waiting_since: Option<Tick>,
    pub(super) last_failure: Option<(PathId, Cause)>,
    /// The path whose final error is not believed before another has said the same, and its admission then.
    pub(super) doubted: Option<(PathId, u32)>,
    /// Of a write: whether what is submitted later waits for its end.
    pub(super) bars: bool,
    /// Of a flush: whether it has yet to look which caches there are to be flushed.
    pub(super) survey: Survey,
    /// Of a flush: caches still to be flushed, and the sum noted for the one that is being flushed.
    pub(super) scopes: u64,
    pub(super) sum: u64,
}

impl History {
    /// Of a request that is to succeed at the first attempt, for all that is known.
    const NONE: Self = Self {
        tried: 0,
        condemned: 0,
        failed: 0,
        moves: 0,
        failures: 0,
        failing_since: None,
        not_before: Tick::ZERO,
        held_until: None,
        waiting_since: None,
        last_failure: None,
        doubted: None,
        bars: false,
        survey: Survey::Done,
        scopes: 0,
        sum: 0,
    };
}

/// Whether a flush has looked which caches hold completed writes: done when it is first placed, after its queue has
/// taken over the latest snapshot, since another queue may have written to a path that is newer than that of before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Survey {
    Due,
    Done,
}

/// Whether a short transfer was continued already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continued {
    Never,
    Once,
}

/// Whether the device may have seen the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exposed {
    Never,
    Maybe,
}

impl RequestSlot {
    /// What is in a place that has had no tenant.
    pub(super) const fn empty() -> Self {
        Self {
            operation: Operation::Flush,
            origin: Origin::Caller,
            continued: Continued::Never,
            exposed: Exposed::Never,
            is_eventful: false,
            state: State::Done,
            attempts: NOBODY,
            done: 0,
            memory: None,
            extent: Extent::NONE,
            cookie: Cookie(0),
            deadline: Tick::MAX,
            history: History::NONE,
        }
    }

    /// Makes it another request, without memory, deadline and history.
    #[inline]
    pub(super) fn renew(&mut self, operation: Operation, extent: Extent, cookie: Cookie) {
        self.operation = operation;
        self.origin = Origin::Caller;
        self.continued = Continued::Never;
        self.exposed = Exposed::Never;
        self.is_eventful = false;
        self.state = State::Ready;
        (self.attempts, self.done) = (NOBODY, 0);
        self.memory = None;
        (self.extent, self.cookie) = (extent, cookie);
        self.deadline = Tick::MAX;
    }

    /// What befell it so far.
    pub(super) const fn history(&self) -> &History {
        if self.is_eventful { &self.history } else { &History::NONE }
    }

    /// The same, to add to it.
    pub(super) const fn history_mut(&mut self) -> &mut History {
        if !self.is_eventful {
            self.is_eventful = true;
            self.history = History::NONE;
        }
        &mut self.history
    }

    /// Whether it may not use every path that is best for others.
    #[inline]
    pub(super) const fn is_narrowed(&self) -> bool {
        self.is_flush() || self.is_eventful && self.history.tried | self.history.failed != 0
    }

    /// Whether it waits, or waited until now, for any path at all.
    #[inline]
    pub(super) const fn is_held(&self) -> bool {
        self.is_eventful && self.history.held_until.is_some()
    }

    /// Whether anything befell it that its end has to do with.
    #[inline]
    pub(super) const fn is_eventful(&self) -> bool {
        self.is_eventful
    }

    /// The cache that a flush is at.
    #[inline]
    pub(super) const fn scope(&self) -> Option<usize> {
        let scopes = if self.is_eventful { self.history.scopes } else { 0 };
        if scopes == 0 { None } else { Some(scopes.trailing_zeros() as usize) }
    }

    /// The cache that a flush is at is done with.
    pub(super) const fn next_scope(&mut self) {
        let history = self.history_mut();
        history.scopes &= history.scopes.wrapping_sub(1);
        (history.tried, history.condemned, history.failed) = (0, 0, 0);
        (history.failures, history.failing_since, history.not_before) = (0, None, Tick::ZERO);
    }

    /// It leaves a path that is too slow for it.
    pub(super) const fn moved(&mut self, path: u64) {
        let history = self.history_mut();
        history.tried |= path;
        history.moves = history.moves.saturating_add(1);
    }

    /// Doublings of the patience with its next attempt.
    pub(super) fn patience(&self) -> u8 {
        u8::try_from(self.history().moves.min(MOST_PATIENCE)).unwrap_or(0)
    }

    /// Notes that the path failed it: it is not used again before it was found good, and before a pause that grows.
    pub(super) fn blame(&mut self, now: Tick, path: u64) {
        let history = self.history_mut();
        history.failing_since.get_or_insert(now);
        history.not_before = now.after(FIRST_PAUSE.saturating_mul(1 << history.failures.min(PAUSES)));
        history.failures = history.failures.saturating_add(1);
        if history.failed & path != 0 && history.tried & path == 0 {
            history.condemned |= path;
        }
        history.failed |= path;
        history.tried |= path;
    }

    /// Whatever it holds against a path is void: another has its place.
    pub(super) const fn forget(&mut self, path: u64) {
        if self.is_eventful {
            self.history.tried &= !path;
            self.history.condemned &= !path;
            self.history.failed &= !path;
        }
    }

    pub(super) const fn is_flush(&self) -> bool {
        matches!(self.operation, Operation::Flush)
    }

    /// Bytes of data that it moves.
    pub(super) const fn bytes(&self, block_size: u32) -> u64 {
        if self.operation.has_data() { self.extent.blocks().get() as u64 * block_size as u64 } else { 0 }
    }
}

/// Between two tries of a request on a path that failed it: doubles so many times.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const PAUSES: u32 = 7;
/// Most doublings of the patience with a path.
const MOST_PATIENCE: u32 = 8;

/// In place of an index: there is none.
pub(super) const NOBODY: u32 = u32::MAX;

/// How an attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Its result decides its request.
    Live,
    /// Its request no longer waits for it; the path still has to hand it back.
    Abandoned,
}

/// An attempt that a path holds.
#[derive(Debug)]
pub(super) struct AttemptSlot {
    /// Index of its request; [`NOBODY`] once that has ended.
    pub(super) request: u32,
    /// The next of its request's attempts, or [`NOBODY`].
    pub(super) next: u32,
    pub(super) slot: u8,
    pub(super) progress: Progress,
    pub(super) incarnation: Incarnation,
    /// The cache that its path had when it was sent.
    pub(super) scope: Option<u8>,
    pub(super) started: Tick,
    /// When it is to be looked at (again).
    pub(super) due: Tick,
    /// Doublings of the time that it may take.
    pub(super) patience: u8,
    pub(super) stage: Stage,
    /// Whether it counts as one that takes room from others.
    pub(super) stale: bool,
    /// How often its path had been admitted when it was found late.
    pub(super) admission: u32,
    /// Whether its connection is to be fenced.
    pub(super) unfenced: bool,
    /// Whose memory it has.
    pub(super) memory: Holding,
}

/// How long an attempt has taken, compared with what its path is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    InTime,
    /// It takes longer than is usual there: the path is being asked.
    Late,
    /// The path counts as silent.
    Silent,
}

/// Whose memory an attempt has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holding {
    /// Its request's, or none.
    Request,
    /// What its request has left to it, in this place.
    Stray(u32),
}

impl AttemptSlot {
    /// What is in a place that has had no tenant.
    pub(super) const fn empty() -> Self {
        Self::new(NOBODY, NOBODY, 0, Incarnation::NONE, None, (Tick::ZERO, Tick::ZERO))
    }

    #[inline]
    pub(super) const fn new(
        request: u32,
        next: u32,
        slot: u8,
        incarnation: Incarnation,
        scope: Option<u8>,
        (started, due): (Tick, Tick),
    ) -> Self {
        Self {
            request,
            next,
            slot,
            progress: Progress::Live,
            incarnation,
            scope,
            started,
            due,
            patience: 0,
            stage: Stage::InTime,
            stale: false,
            admission: 0,
            unfenced: false,
            memory: Holding::Request,
        }
    }
}
