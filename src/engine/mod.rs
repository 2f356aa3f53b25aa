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
mod late;
mod marks;
mod outcome;
mod pace;
mod place;
mod put_off;
mod request;
mod routes;
mod seat;
mod slab;
mod snapshot;
mod strays;
mod timers;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use counters::{PathCounters, Totals};
pub(crate) use evidence::Evidence;
pub(crate) use ghosts::{Ghost, Ghosts, Retired};
pub(crate) use marks::{Loss, MAX_SCOPES, Marks};
pub(crate) use place::Staged;
pub(crate) use seat::PolicySeat;
pub use snapshot::Sharing;
pub use snapshot::{Health, NoPath};
pub(crate) use snapshot::{Phase, PolicyChoice, Route, Snapshot};

use crate::block::{Extent, Geometry, Limits, LiveGeometry};
use crate::buffer::{Buffer, Direction, Lent};
use crate::error::{Cause, Error, Fate};
use crate::io::{Completion, Cookie, Memory, Operation, PathId, Rejected, Request};
use crate::path::{AttemptId, Incarnation, QueueIndex};
use crate::policy::{Candidates, MAX_PATHS, Observation};
use crate::sync::{AtomicU32, Ordering};
use crate::time::{Tick, nanos};
use ghosts::{GhostWatch, LateWrite, Resent};
use put_off::Unasked;
use request::{AttemptSlot, Exposed, Holding, NOBODY, Origin, Progress, RequestSlot, State, Survey};
use routes::{Routes, bit, slots};
use slab::{Key, Slab};
use strays::{Heir, Strays};

/// After so many times [`Config::suspect_after`] a write that has no answer counts as lost also on the only path: its connection
/// is fenced, which ends it.
const LOST_AFTER: u32 = 8;

/// What an engine is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) queue: QueueIndex,
    /// Most requests at once.
    pub(crate) depth: u32,
    /// Least age at which a read or a write can be late.
    pub(crate) late_after: Duration,
    /// Age at which an attempt makes its path suspect.
    pub(crate) suspect_after: Duration,
    /// Most times that a request is tried again which paths have failed.
    pub(crate) max_retries: u32,
    pub(crate) sharing: Sharing,
    pub(crate) geometry: Geometry,
    pub(crate) limits: Limits,
}

impl Config {
    /// When an attempt that began at `started` has been out for longer than its path is allowed.
    fn limit(&self, started: Tick, patience: u8) -> Tick {
        started.after(self.suspect_after * (1 << patience).min(LOST_AFTER))
    }
}

/// What the queues of a volume agree on by themselves.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) ghosts: Ghosts,
    pub(crate) marks: Marks,
    pub(crate) geometry: LiveGeometry,
    /// By queue, requests that are on no path. Each number stands for itself: accesses are relaxed.
    waiting: Box<[AtomicU32]>,
}

impl Common {
    pub(crate) fn new(queues: u16, geometry: Geometry) -> Self {
        let waiting = (0..queues).map(|_| AtomicU32::new(0)).collect();
        Self {
            ghosts: Ghosts::default(),
            marks: Marks::new(queues),
            geometry: LiveGeometry::new(geometry),
            waiting,
        }
    }

    /// Requests that are on no path, over all queues, as those last said.
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.iter().map(|queue| queue.load(Ordering::Relaxed)).sum()
    }

    fn set_waiting(&self, queue: QueueIndex, requests: usize) {
        if let Some(waiting) = self.waiting.get(usize::from(queue.0)) {
            waiting.store(u32::try_from(requests).unwrap_or(u32::MAX), Ordering::Relaxed);
        }
    }
}

/// An attempt that nobody waits for any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cancel {
    pub(crate) slot: usize,
    pub(crate) incarnation: Incarnation,
    pub(crate) attempt: AttemptId,
}

/// Whether the lists of requests hold some that have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lists {
    Tidy,
    Untidy,
}

/// Requests that cannot be placed.
struct Parked {
    list: Vec<u32>,
    /// Whether something changed, so that they are to be looked at again.
    recheck: bool,
    /// Whether some of them wait only for an attempt to end: for room on a path, or for memory.
    wants_room: bool,
}

pub(crate) struct Engine {
    config: Config,
    /// [`Config::suspect_after`] in ns.
    patience: u64,
    common: Arc<Common>,
    ghosts: GhostWatch,
    routes: Routes,
    phase: Phase,
    no_path: NoPath,
    requests: Slab<RequestSlot>,
    attempts: Slab<AttemptSlot>,
    /// Memory that requests have left to attempts.
    strays: Strays,
    /// To be placed, oldest first.
    ready: VecDeque<u32>,
    /// Whether one came back to them since the last try to place them.
    returned: bool,
    parked: Parked,
    /// Whether the paths may be other ones than when late attempts were last looked at.
    rerouted: bool,
    /// Requests without any path, and their bytes.
    held: (u32, u64),
    /// Since when no path at all could be used, `None` again when something has succeeded.
    no_path_since: Option<Tick>,
    next_scan: Option<Tick>,
    last_scan: Tick,
    evidence: Vec<Evidence>,
    cancels: Vec<Cancel>,
    /// Ghosts that have yet to be published, before any completion is delivered.
    haunts: Vec<Ghost>,
    /// Late writes that have yet to be published, and those that have ended since.
    late_writes: Vec<LateWrite>,
    ended: Vec<Resent>,
    /// Connections whose fence was not asked for yet.
    unasked: Vec<Unasked>,
    /// What was lost when a flush last told of it.
    loss: Loss,
    /// Whether requests were ended that are still in a list.
    lists: Lists,
    /// Requests that wait for a path in trouble, as the last scan found: they take no room from others.
    stuck: usize,
    /// Of these, writes that wait for a fence.
    fencing: usize,
    released: VecDeque<(Cookie, Buffer)>,
    observations: Vec<Observation>,
    /// Whether anybody looks at them.
    is_observed: bool,
    counters: Box<[Option<Arc<[PathCounters]>>; MAX_PATHS]>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.common.set_waiting(self.config.queue, 0);
    }
}

impl Engine {
    pub(crate) fn new(config: Config, common: Arc<Common>) -> Self {
        let depth = config.depth as usize;
        let loss = common.marks.loss();
        Self {
            ghosts: common.ghosts.watch(),
            config,
            patience: nanos(config.suspect_after),
            common,
            routes: Routes::new(config.late_after),
            phase: Phase::Open,
            no_path: NoPath::Fail,
            requests: Slab::new(config.depth, RequestSlot::empty),
            // They grow with what silent paths hold.
            attempts: Slab::new(config.depth, AttemptSlot::empty),
            strays: Strays::default(),
            ready: VecDeque::with_capacity(depth),
            returned: false,
            parked: Parked { list: Vec::with_capacity(depth), recheck: false, wants_room: false },
            rerouted: false,
            held: (0, 0),
            no_path_since: None,
            next_scan: None,
            last_scan: Tick::ZERO,
            evidence: Vec::with_capacity(64),
            cancels: Vec::new(),
            haunts: Vec::new(),
            late_writes: Vec::new(),
            ended: Vec::new(),
            unasked: Vec::new(),
            loss,
            lists: Lists::Tidy,
            stuck: 0,
            fencing: 0,
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
        if let Some((key, slot)) = self.insert_request() {
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

    /// A place for a request.
    #[inline]
    fn insert_request(&mut self) -> Option<(Key, &mut RequestSlot)> {
        if self.lists == Lists::Untidy {
            self.tidy();
        }
        if self.requests.is_full() {
            self.requests.grow(RequestSlot::empty);
        }
        self.requests.insert()
    }

    #[inline]
    fn check(&self, request: &Request) -> Result<(), Error> {
        if self.phase != Phase::Open {
            return Err(Error::Closed { fate: Fate::NotSent });
        }
        if self.is_full() {
            return Err(Error::QueueFull { depth: self.config.depth });
        }
        request.check(self.common.geometry.get(), &self.config.limits)
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
        self.requests.len() + self.strays.awaited()
    }

    /// Whether there is no room for a request. Those that wait for a path in trouble do not count, within bounds: others can
    /// go another way.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.requests.len() >= self.config.depth as usize + self.stuck
    }

    /// Attempts that paths hold.
    pub(crate) fn attempts(&self) -> usize {
        self.attempts.len()
    }

    /// Whether something waits to be placed that could be by now. What the last try left stays until there is news: a
    /// policy may want a path that has no room while others have.
    pub(crate) fn has_work(&self) -> bool {
        (self.returned && self.routes.with_room(self.routes.best()) != 0)
            || self.parked.recheck && !self.parked.list.is_empty()
    }

    /// The usable paths, for a policy.
    pub(crate) fn candidates(&self) -> Candidates<'_> {
        Candidates::new(self.routes.best(), &self.routes.table)
    }

    // Ends of requests.

    /// Delivers the completion of a request and frees its place. Memory that paths still have is left to their attempts.
    #[allow(clippy::inline_always, reason = "measured: it is worth several ns on each I/O")]
    #[inline(always)]
    fn finish(&mut self, index: u32, result: Result<(), Error>, completions: &mut Vec<Completion>) {
        let Some(request) = self.requests.at_mut(index) else { return };
        if request.is_eventful() {
            self.finish_eventful(index, result.is_ok());
        }
        let Some(request) = self.requests.at_mut(index) else { return };
        let (cookie, origin, scope) = (request.cookie, request.origin, request.scope());
        let is_left = request.attempts != NOBODY && self.disown(index);
        let request = self.requests.remove(index);
        if origin == Origin::Engine {
            return self.finish_own(scope, result);
        }
        let memory = match request.and_then(|request| request.memory.as_mut()) {
            None if is_left => Memory::Quarantined,
            None => Memory::None,
            Some(lent) => lent.reclaim().map_or(Memory::Quarantined, Memory::Returned),
        };
        deliver(cookie, result, memory, completions);
    }

    /// What befell a request is over: nothing waits for its end any more.
    #[cold]
    fn finish_eventful(&mut self, index: u32, is_ok: bool) {
        let (Some(key), Some(request)) = (self.requests.key(index), self.requests.at_mut(index)) else {
            return;
        };
        end_hold(&mut self.held, request, self.config.geometry.block_size());
        if request.history().bars {
            self.ended.push(Resent { index: key.index, generation: key.generation });
            self.lists = Lists::Untidy;
        }
        if is_ok {
            self.blame_alone(index);
        }
    }

    /// Another path did what one had said that the device cannot do: that one is looked into.
    #[cold]
    fn blame_alone(&mut self, index: u32) {
        let doubted = self.requests.at(index).and_then(|request| request.history().doubted);
        if let Some((path, admission)) = doubted {
            self.evidence.push(Evidence::Failed { path, admission, cause: Cause::Alone });
            let slot = path.slot();
            if self.routes.id(slot) == path && self.routes.standing(slot).admission == admission {
                self.routes.distrust(slot);
            }
        }
    }

    /// A flush of the engine's own has ended: what only a departing path's cache held is durable, or that it cannot be
    /// is said once, and then it is let go of.
    #[cold]
    fn finish_own(&mut self, scope: Option<usize>, result: Result<(), Error>) {
        let (Some(scope), Err(error)) = (scope, result) else { return };
        let keeper = self.keeper(scope);
        let text = format!("{keeper} leaves with completed writes that are not durable: {error}");
        self.evidence.push(Evidence::Warning { text });
        // Unless another queue has just done so.
        if self.common.marks.is_dirty(scope) {
            self.common.marks.forsake(scope, keeper);
        }
    }

    /// The same for a request that failed.
    #[cold]
    fn fail(&mut self, index: u32, error: Error, completions: &mut Vec<Completion>) {
        self.finish(index, Err(error), completions);
    }

    /// The same for a flush that has nothing left to do: it fails once for what was lost before.
    #[cold]
    fn finish_flush(&mut self, index: u32, completions: &mut Vec<Completion>) {
        let loss = self.common.marks.loss();
        let is_callers = self.requests.at(index).is_some_and(|request| request.origin == Origin::Caller);
        if is_callers && std::mem::replace(&mut self.loss, loss) != loss {
            return self.fail(index, Error::FlushIncomplete { path: loss.path() }, completions);
        }
        self.finish(index, Ok(()), completions);
    }

    /// Nobody waits for what is still out of this request. Whether its memory was left to that.
    #[cold]
    fn disown(&mut self, index: u32) -> bool {
        let Some(request) = self.requests.at_mut(index) else { return false };
        let heir = Heir::Caller(request.cookie);
        let mut cursor = std::mem::replace(&mut request.attempts, NOBODY);
        let is_held = self.holders(cursor).next().is_some();
        let Some(request) = self.requests.at_mut(index) else { return false };
        let memory = request.memory.take_if(|memory| is_held && memory.is_out());
        let place = memory.map(|memory| self.strays.leave(memory, heir));
        while let (Some(key), Some(attempt)) = (self.attempts.key(cursor), self.attempts.at_mut(cursor)) {
            if let Some(place) = place
                && attempt.memory == Holding::Request
            {
                attempt.memory = Holding::Stray(place);
                self.strays.hold(place);
            }
            attempt.progress = Progress::Abandoned;
            self.routes.mark_stale(attempt);
            attempt.request = NOBODY;
            self.cancels.push(Cancel {
                slot: attempt.slot.into(),
                incarnation: attempt.incarnation,
                attempt: id(self.config.queue, key),
            });
            cursor = attempt.next;
        }
        place.is_some()
    }

    /// Places of the attempts that follow from `first`.
    fn attempts_from(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        let next = |&index: &u32| self.attempts.at(index).map(|attempt| attempt.next);
        std::iter::successors(Some(first), next).filter(|&index| index != NOBODY)
    }

    /// Those of them that have their request's memory.
    fn holders(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        let holds = |attempt: &AttemptSlot| attempt.memory == Holding::Request;
        self.attempts_from(first).filter(move |&index| self.attempts.at(index).is_some_and(holds))
    }

    /// Places of the attempts that are out of a request.
    fn attempts_of(&self, request: u32) -> impl Iterator<Item = u32> + '_ {
        let first = self.requests.at(request).map_or(NOBODY, |request| request.attempts);
        self.attempts_from(first)
    }

    /// Makes known what has yet to be: to be called before the supervisor is told anything.
    pub(crate) fn publish(&mut self) {
        if self.lists == Lists::Untidy {
            self.tidy();
        }
    }

    /// Publishes the ghosts, and takes what has ended out of the lists.
    #[cold]
    fn tidy(&mut self) {
        self.lists = Lists::Tidy;
        self.common.ghosts.publish(&mut self.haunts, &mut self.late_writes);
        if !self.ended.is_empty() {
            self.common.ghosts.ended(self.config.queue, &self.ended);
            self.ended.clear();
            self.parked.recheck = true;
            self.evidence.push(Evidence::GhostGone);
        }
        let requests = &self.requests;
        let is = |index: u32, state: State| requests.at(index).is_some_and(|request| request.state == state);
        self.ready.retain(|&index| is(index, State::Ready));
        self.parked.list.retain(|&index| is(index, State::Parked));
    }

    /// Ends a request from outside, whatever state it is in. Attempts that may still land become ghosts. To be followed by
    /// [`tidy`](Self::tidy) before anything else is taken in and before the completion is delivered.
    fn abandon(&mut self, index: u32, error: fn(Fate) -> Error, completions: &mut Vec<Completion>) {
        let Some(request) = self.requests.at(index) else { return };
        let (state, extent, is_write) = (request.state, request.extent, request.operation.is_write());
        let exposed = request.exposed == Exposed::Maybe
            || request.attempts != NOBODY
            || matches!(state, State::Fencing { .. });
        if is_write {
            self.haunt(index, state, extent);
        }
        self.lists = Lists::Untidy;
        let fate = if exposed { Fate::Unknown } else { Fate::NotSent };
        self.fail(index, error(fate), completions);
    }

    /// Makes a ghost for each way in which a write may still land.
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
                resent: None,
            });
        }
        if let State::Fencing { slot, incarnation, attempt } = state
            && !ghosts.iter().any(|ghost| ghost.attempt == Some(attempt))
        {
            let path = self.routes.id(slot.into());
            ghosts.push(Ghost { extent, path, incarnation, queue, attempt: None, resent: None });
        }
        for ghost in &ghosts {
            self.ask_fence(ghost.path, ghost.incarnation, ghost.attempt);
        }
        self.haunts.append(&mut ghosts);
    }

    /// Ends every request that the caller still waits for.
    pub(crate) fn abandon_all(&mut self, error: fn(Fate) -> Error, completions: &mut Vec<Completion>) {
        for index in self.requests.indices() {
            let is_own = |request: &RequestSlot| request.origin == Origin::Engine;
            // What a leaving path must still give up is seen to after its queue was dropped.
            if self.phase == Phase::Open && self.requests.at(index).is_some_and(is_own) {
                continue;
            }
            self.abandon(index, error, completions);
        }
        self.tidy();
    }

    /// Ends the requests that bear this cookie.
    pub(crate) fn cancel(&mut self, cookie: Cookie, completions: &mut Vec<Completion>) -> usize {
        let before = completions.len();
        for index in self.requests.indices() {
            let bears_it =
                |request: &RequestSlot| request.origin == Origin::Caller && request.cookie == cookie;
            if self.requests.at(index).is_some_and(bears_it) {
                self.abandon(index, |fate| Error::Cancelled { fate }, completions);
            }
        }
        self.tidy();
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
    if request.history_mut().held_until.take().is_some() {
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
