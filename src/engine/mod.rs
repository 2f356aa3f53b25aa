//! One queue's state machine: what becomes of each request, without clock, thread or system call.
//!
//! Requests and outcomes come in with `now`; attempts, completions, evidence and the next deadline come out. The parts:
//! [`routes`] says which paths may be used, [`place`](Engine::dispatch) puts requests on them, [`outcome`] decides what an
//! attempt's end means, [`timers`] does what is due, [`apply`] takes over what the supervisor published.

#![allow(
    clippy::inline_always,
    reason = "one hot call among cold ones: a fifth of an I/O's time, see benches/queue.rs"
)]

mod apply;
mod counters;
mod evidence;
mod ghosts;
mod marks;
mod outcome;
mod place;
mod request;
mod routes;
mod seat;
mod slab;
mod snapshot;
mod timers;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use counters::{PathCounters, Totals};
pub(crate) use evidence::Evidence;
pub(crate) use ghosts::{Ghost, Ghosts, Retired};
pub(crate) use marks::{MAX_SCOPES, Marks};
pub(crate) use place::Staged;
pub(crate) use seat::PolicySeat;
pub use snapshot::{Health, NoPath};
pub(crate) use snapshot::{Phase, PolicyChoice, Route, Snapshot};

use crate::block::{Extent, Geometry, Limits};
use crate::buffer::{Buffer, Direction, Lent};
use crate::error::{Error, Fate};
use crate::io::{Completion, Cookie, Memory, Operation, PathId, Rejected, Request};
use crate::path::{AttemptId, Incarnation, QueueIndex};
use crate::policy::{Candidates, MAX_PATHS, Observation};
use crate::time::Tick;
use ghosts::GhostWatch;
use request::{AttemptSlot, Exposed, Origin, Progress, RequestSlot, State, Survey};
use routes::{Routes, bit, slots};
use slab::{Key, Slab};

/// What an engine is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) queue: QueueIndex,
    /// Most requests at once.
    pub(crate) depth: u32,
    /// Age at which an attempt makes its path suspect.
    pub(crate) suspect_after: Duration,
    pub(crate) geometry: Geometry,
    pub(crate) limits: Limits,
}

/// What the queues of a volume agree on by themselves.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) ghosts: Ghosts,
    pub(crate) marks: Marks,
}

impl Common {
    pub(crate) fn new(queues: u16) -> Self {
        Self { ghosts: Ghosts::default(), marks: Marks::new(queues) }
    }
}

/// An attempt that nobody waits for any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cancel {
    pub(crate) slot: usize,
    pub(crate) incarnation: Incarnation,
    pub(crate) attempt: AttemptId,
}

pub(crate) struct Engine {
    config: Config,
    common: Arc<Common>,
    ghosts: GhostWatch,
    routes: Routes,
    phase: Phase,
    no_path: NoPath,
    requests: Slab<RequestSlot>,
    attempts: Slab<AttemptSlot>,
    /// Memory that reads left behind, with the places of the attempts that have it.
    left_behind: Vec<(u32, Lent)>,
    /// To be placed, oldest first.
    ready: VecDeque<u32>,
    /// Whether one came back to them since the last try to place them.
    returned: bool,
    /// Cannot be placed; looked at again after something changed.
    parked: Vec<u32>,
    recheck: bool,
    /// Requests without any path, and their bytes.
    held: (u32, u64),
    next_scan: Option<Tick>,
    last_scan: Tick,
    evidence: Vec<Evidence>,
    cancels: Vec<Cancel>,
    released: VecDeque<(Cookie, Buffer)>,
    observations: Vec<Observation>,
    /// Whether anybody looks at them.
    is_observed: bool,
    counters: Box<[Option<Arc<[PathCounters]>>; MAX_PATHS]>,
}

impl Engine {
    pub(crate) fn new(config: Config, common: Arc<Common>) -> Self {
        let depth = config.depth as usize;
        Self {
            ghosts: common.ghosts.watch(),
            config,
            common,
            routes: Routes::new(),
            phase: Phase::Open,
            no_path: NoPath::Fail,
            requests: Slab::new(config.depth, RequestSlot::empty),
            // A request whose attempt is stuck on one path needs another one.
            attempts: Slab::new(config.depth.saturating_mul(2), AttemptSlot::empty),
            left_behind: Vec::new(),
            ready: VecDeque::with_capacity(depth),
            returned: false,
            parked: Vec::with_capacity(depth),
            recheck: false,
            held: (0, 0),
            next_scan: None,
            last_scan: Tick::ZERO,
            evidence: Vec::with_capacity(64),
            cancels: Vec::new(),
            released: VecDeque::new(),
            observations: Vec::with_capacity(depth),
            is_observed: true,
            counters: Box::new([const { None }; MAX_PATHS]),
        }
    }

    /// Takes a request in.
    #[allow(clippy::result_large_err, reason = "what could not be taken is given back")]
    #[inline]
    pub(crate) fn accept(&mut self, request: Request) -> Result<(), Rejected> {
        if let Err(error) = self.check(&request) {
            return Err(Rejected { request, error });
        }
        let Request { operation, extent, buffer, deadline, cookie } = request;
        if let Some(deadline) = deadline {
            self.scan_by(deadline);
        }
        let direction = if operation == Operation::Read { Direction::Sink } else { Direction::Source };
        if let Some((key, slot)) = self.requests.insert() {
            slot.renew(operation, extent, cookie);
            slot.memory = buffer.map(|buffer| Lent::new(buffer, direction));
            slot.deadline = deadline.unwrap_or(Tick::MAX);
            if operation == Operation::Flush {
                slot.extent = Extent::NONE;
                slot.history_mut().survey = Survey::Due;
            }
            self.ready.push_back(key.index);
        }
        Ok(())
    }

    #[inline]
    fn check(&self, request: &Request) -> Result<(), Error> {
        if self.phase != Phase::Open {
            return Err(Error::Closed { fate: Fate::NotSent });
        }
        if self.requests.is_full() {
            return Err(Error::QueueFull { depth: self.config.depth });
        }
        request.check(self.config.geometry, &self.config.limits)
    }

    // What comes out beside completions.

    /// When something is due, if nothing else happens before.
    pub(crate) fn next_deadline(&self) -> Option<Tick> {
        self.next_scan
    }

    /// What the supervisor should know; empty it.
    pub(crate) fn evidence(&mut self) -> &mut Vec<Evidence> {
        &mut self.evidence
    }

    /// Attempts that nobody waits for; empty it.
    pub(crate) fn cancels(&mut self) -> &mut Vec<Cancel> {
        &mut self.cancels
    }

    /// Collects successes from now on only if the policy wants to hear of them.
    pub(crate) fn serve(&mut self, seat: &PolicySeat) {
        self.is_observed = seat.observes();
    }

    /// Successes for the policy; empty it.
    pub(crate) fn observations(&mut self) -> &mut Vec<Observation> {
        &mut self.observations
    }

    /// A buffer whose completion said that it was quarantined.
    pub(crate) fn poll_released(&mut self) -> Option<(Cookie, Buffer)> {
        self.released.pop_front()
    }

    /// Requests that were accepted and have not been completed, and completed ones whose memory is still out.
    pub(crate) fn requests(&self) -> usize {
        self.requests.len()
    }

    /// Whether there is no room for a request.
    pub(crate) fn is_full(&self) -> bool {
        self.requests.is_full()
    }

    /// Attempts that paths hold.
    pub(crate) fn attempts(&self) -> usize {
        self.attempts.len()
    }

    /// Whether something waits to be placed that could be by now. What the last try left stays until there is news: a
    /// policy may want a path that has no room while others have.
    pub(crate) fn has_work(&self) -> bool {
        (self.returned && self.routes.with_room(self.routes.best()) != 0)
            || self.recheck && !self.parked.is_empty()
    }

    /// The usable paths, for a policy.
    pub(crate) fn candidates(&self) -> Candidates<'_> {
        Candidates::new(self.routes.best(), &self.routes.table)
    }

    // Ends of requests.

    /// Delivers the completion of a request that is in no list. Its slot lives on while a path holds its memory.
    #[allow(clippy::inline_always, reason = "measured: it is worth several ns on each I/O")]
    #[inline(always)]
    fn finish(&mut self, index: u32, result: Result<(), Error>, completions: &mut Vec<Completion>) {
        let Some(request) = self.requests.at_mut(index) else { return };
        if request.is_held() {
            end_hold(&mut self.held, request, self.config.geometry.block_size());
        }
        let (cookie, origin, scope) = (request.cookie, request.origin, request.scope());
        request.state = State::Done;
        let request = if request.attempts == 0 {
            self.requests.remove(index)
        } else {
            self.disown(index);
            self.requests.at_mut(index)
        };
        if origin == Origin::Engine {
            return self.finish_own(scope, result);
        }
        let memory = match request.and_then(|request| request.memory.as_mut()) {
            None => Memory::None,
            Some(lent) => lent.reclaim().map_or(Memory::Quarantined, Memory::Returned),
        };
        deliver(cookie, result, memory, completions);
    }

    /// A flush of the engine's own has ended: what only a departing path's cache held is durable, or that it cannot be
    /// is said once, and then it is let go of.
    #[cold]
    fn finish_own(&mut self, scope: Option<usize>, result: Result<(), Error>) {
        let (Some(scope), Err(error)) = (scope, result) else { return };
        let text =
            format!("{} leaves with completed writes that are not durable: {error}", self.keeper(scope));
        self.evidence.push(Evidence::Warning { text });
        self.common.marks.flushed(scope, self.common.marks.sum(scope));
    }

    /// The same for a request that failed.
    #[cold]
    fn fail(&mut self, index: u32, error: Error, completions: &mut Vec<Completion>) {
        self.finish(index, Err(error), completions);
    }

    /// The same for a flush that has nothing left to do.
    #[cold]
    fn finish_flush(&mut self, index: u32, completions: &mut Vec<Completion>) {
        self.finish(index, Ok(()), completions);
    }

    /// Nobody waits for what is still out of this request.
    #[cold]
    fn disown(&mut self, request: u32) {
        for index in self.attempts_of(request) {
            let Some(key) = self.attempts.key(index) else { continue };
            let Some(attempt) = self.attempts.at_mut(index) else { continue };
            attempt.progress = Progress::Abandoned;
            self.cancels.push(Cancel {
                slot: attempt.slot.into(),
                incarnation: attempt.incarnation,
                attempt: id(self.config.queue, key),
            });
        }
    }

    /// Places of the attempts that are out of a request. Walks the table: for rare turns only.
    fn attempts_of(&self, request: u32) -> Vec<u32> {
        (0..u32::try_from(self.attempts.capacity()).unwrap_or(u32::MAX))
            .filter(|&index| self.attempts.at(index).is_some_and(|attempt| attempt.request == request))
            .collect()
    }

    /// Ends a request from outside, whatever state it is in. Attempts that may still land become ghosts, which every
    /// queue can see before the completion is delivered.
    fn abandon(&mut self, index: u32, error: fn(Fate) -> Error, completions: &mut Vec<Completion>) {
        let Some(request) = self.requests.at(index) else { return };
        let (state, extent, is_write) = (request.state, request.extent, request.operation.is_write());
        if state == State::Done {
            return;
        }
        let exposed = request.exposed == Exposed::Maybe
            || request.attempts > 0
            || matches!(state, State::Fencing { .. });
        if is_write {
            self.haunt(index, state, extent);
        }
        match state {
            State::Ready => self.ready.retain(|&ready| ready != index),
            State::Parked => self.parked.retain(|&parked| parked != index),
            State::Out | State::Fencing { .. } | State::Done => {}
        }
        let fate = if exposed { Fate::Unknown } else { Fate::NotSent };
        self.fail(index, error(fate), completions);
    }

    /// Publishes a ghost for each way in which a write may still land.
    fn haunt(&mut self, index: u32, state: State, extent: Extent) {
        let queue = self.config.queue;
        let mut ghosts: Vec<Ghost> = Vec::new();
        for attempt in self.attempts_of(index) {
            let (Some(key), Some(slot)) = (self.attempts.key(attempt), self.attempts.at(attempt)) else {
                continue;
            };
            if slot.incarnation <= self.routes.standing(slot.slot.into()).fenced {
                continue;
            }
            let path = self.routes.id(slot.slot.into());
            ghosts.push(Ghost {
                extent,
                path,
                incarnation: slot.incarnation,
                queue,
                attempt: Some(id(queue, key)),
            });
        }
        if let State::Fencing { slot, incarnation, .. } = state
            && !ghosts
                .iter()
                .any(|ghost| ghost.path.slot() == usize::from(slot) && ghost.incarnation == incarnation)
        {
            let path = self.routes.id(slot.into());
            ghosts.push(Ghost { extent, path, incarnation, queue, attempt: None });
        }
        for ghost in ghosts {
            self.common.ghosts.publish(ghost);
            self.evidence.push(Evidence::Unfenced { path: ghost.path, incarnation: ghost.incarnation });
        }
    }

    /// Ends every request that the caller still waits for.
    pub(crate) fn abandon_all(&mut self, error: fn(Fate) -> Error, completions: &mut Vec<Completion>) {
        for index in 0..self.config.depth {
            self.abandon(index, error, completions);
        }
    }

    /// Ends the requests that bear this cookie.
    pub(crate) fn cancel(&mut self, cookie: Cookie, completions: &mut Vec<Completion>) -> usize {
        let before = completions.len();
        for index in 0..self.config.depth {
            let bears_it =
                |request: &RequestSlot| request.origin == Origin::Caller && request.cookie == cookie;
            if self.requests.at(index).is_some_and(bears_it) {
                self.abandon(index, |fate| Error::Cancelled { fate }, completions);
            }
        }
        completions.len() - before
    }

    /// Where this queue counts what it does on the path of a slot.
    #[inline]
    fn counters(&self, slot: usize) -> Option<&PathCounters> {
        self.counters[slot].as_ref()?.get(usize::from(self.config.queue.0))
    }

    /// Caches that hold completed writes.
    fn dirty_scopes(&self) -> u64 {
        let mut scopes = 0;
        for scope in slots(self.routes.scopes()) {
            if self.common.marks.is_dirty(scope) {
                scopes |= bit(scope);
            }
        }
        scopes
    }

    #[cold]
    fn broken(&mut self, slot: usize, what: &'static str) {
        let (path, admission) = (self.routes.id(slot), self.routes.standing(slot).admission);
        self.evidence.push(Evidence::Broken { path, admission, what });
    }

    /// The path whose cache a flush is at.
    fn keeper(&self, scope: usize) -> PathId {
        let paths = self.routes.members(scope) | self.routes.let_go_of(scope);
        self.routes.id(paths.trailing_zeros() as usize % MAX_PATHS)
    }
}

/// There is a path for the request again, or it is at its end.
#[cold]
fn end_hold(held: &mut (u32, u64), request: &mut RequestSlot, block_size: u32) {
    if request.history_mut().held_since.take().is_some() {
        *held = (held.0.saturating_sub(1), held.1.saturating_sub(request.bytes(block_size)));
    }
}

/// Appends a completion. It is made where it stays, which spares copying it, unless the list has to grow.
#[inline]
fn deliver(cookie: Cookie, result: Result<(), Error>, memory: Memory, completions: &mut Vec<Completion>) {
    if completions.len() < completions.capacity() {
        completions.push(Completion::new(cookie, result, memory));
    } else {
        deliver_and_grow(Completion::new(cookie, result, memory), completions);
    }
}

#[cold]
fn deliver_and_grow(completion: Completion, completions: &mut Vec<Completion>) {
    completions.push(completion);
}

const fn id(queue: QueueIndex, key: Key) -> AttemptId {
    AttemptId::new(queue, key.index, key.generation)
}
