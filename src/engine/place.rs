//! Placing requests on paths.

use std::time::Duration;

use crate::buffer::Lent;
use crate::error::{Cause, Error, Fate};
use crate::io::Completion;
use crate::path::{Attempt, Incarnation};
use crate::policy::{Candidates, IoSummary, MAX_PATHS, Placement};
use crate::time::Tick;

use super::ghosts::Resent;
use super::request::{AttemptSlot, Exposed, History, Holding, NOBODY, RequestSlot, State, Survey};
use super::routes::{Standing, bit};
use super::strays::Heir;
use super::{Engine, Ghost, Lists, NoPath, PolicySeat, end_hold, id};

/// How long a path is left alone that has no room although it holds nothing.
const NO_ROOM_RETRY: Duration = Duration::from_millis(1);

/// Attempts that were placed and wait to be given to their paths, by slot.
pub(crate) struct Staged {
    batches: Box<[Vec<Attempt>; MAX_PATHS]>,
    touched: u64,
}

impl Staged {
    pub(crate) fn new() -> Self {
        Self { batches: Box::new([const { Vec::new() }; MAX_PATHS]), touched: 0 }
    }

    #[inline]
    fn push(&mut self, slot: usize, attempt: Attempt) {
        self.batches[slot].push(attempt);
        self.touched |= bit(slot);
    }

    /// The next slot that has attempts, and its batch, newest first.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(usize, &mut Vec<Attempt>)> {
        let slot = self.touched.trailing_zeros() as usize;
        let batch = self.batches.get_mut(slot)?;
        self.touched &= self.touched - 1;
        if batch.len() > 1 {
            batch.reverse();
        }
        Some((slot, batch))
    }
}

/// Where a request goes that paths may have failed.
enum Again {
    /// To one of these; nowhere, if there is none.
    Now(u64),
    /// To one that failed it before, after a pause.
    Later(Tick),
    /// It has tried for long enough.
    Never,
}

/// What became of the try to place a request.
enum Placed {
    /// An attempt is staged.
    Yes,
    /// Its paths have no room: so it is for every request that may use any path.
    NoRoom,
    /// It waits for something to change.
    Park,
    /// It is at its end.
    Ended,
}

impl Engine {
    /// Places what can be placed.
    pub(crate) fn dispatch(
        &mut self,
        now: Tick,
        seat: &mut PolicySeat,
        staged: &mut Staged,
        completions: &mut Vec<Completion>,
    ) {
        if self.lists == Lists::Untidy {
            self.tidy();
        }
        if self.parked.recheck && !self.parked.list.is_empty() {
            (self.parked.recheck, self.parked.wants_room) = (false, false);
            for position in 0..self.parked.list.len() {
                let index = self.parked.list[position];
                let placed = self.place(now, index, seat, staged, completions);
                self.parked.wants_room |= matches!(placed, Placed::NoRoom);
                if let Placed::Park | Placed::NoRoom = placed {
                    self.set_state(index, State::Parked);
                } else {
                    self.parked.list[position] = u32::MAX;
                }
            }
            self.parked.list.retain(|&index| index != u32::MAX);
        }
        (self.parked.recheck, self.returned) = (false, false);
        while let Some(index) = self.ready.pop_front() {
            match self.place(now, index, seat, staged, completions) {
                Placed::Yes | Placed::Ended => {}
                Placed::Park => {
                    self.set_state(index, State::Parked);
                    self.parked.list.push(index);
                }
                Placed::NoRoom => {
                    self.ready.push_front(index);
                    break;
                }
            }
        }
    }

    fn set_state(&mut self, index: u32, state: State) {
        if let Some(request) = self.requests.at_mut(index) {
            request.state = state;
        }
    }

    #[inline]
    fn place(
        &mut self,
        now: Tick,
        index: u32,
        seat: &mut PolicySeat,
        staged: &mut Staged,
        completions: &mut Vec<Completion>,
    ) -> Placed {
        let Some(request) = self.requests.at(index) else { return Placed::Ended };
        let operation = request.operation;
        let narrowed = request.is_narrowed();
        let held = request.is_held();
        let bytes = request.bytes(self.config.geometry.block_size());
        if operation.is_write() && self.is_haunted(index) {
            return Placed::Park;
        }
        let routes = if narrowed {
            if self.skip_clean_scopes(index, completions) {
                return Placed::Ended;
            }
            match self.routes_again(now, index) {
                Again::Now(routes) => routes,
                Again::Later(then) => {
                    self.scan_by(then);
                    return Placed::Park;
                }
                Again::Never => return self.fail_everywhere(index, completions),
            }
        } else {
            self.routes.best()
        };
        if routes == 0 {
            return self.stuck(now, index, completions);
        }
        if held && let Some(request) = self.requests.at_mut(index) {
            end_hold(&mut self.held, request, self.config.geometry.block_size());
        }
        let room = self.routes.with_room(routes);
        let offered = if seat.placement() == Placement::Strict { routes } else { room };
        if room == 0 {
            return self.without_room(narrowed);
        }
        let io = IoSummary::new(operation, u32::try_from(bytes).unwrap_or(u32::MAX), now);
        let slot = seat.select(&io, &Candidates::new(offered, &self.routes.table));
        if room & bit(slot) == 0 {
            return self.without_room(narrowed);
        }
        self.send(now, index, slot, staged, completions)
    }

    /// The paths that a request may use have no room.
    #[inline]
    const fn without_room(&mut self, narrowed: bool) -> Placed {
        if narrowed {
            self.parked.wants_room = true;
            Placed::Park
        } else {
            Placed::NoRoom
        }
    }

    /// Makes an attempt of a request on a path that has room.
    #[inline]
    fn send(
        &mut self,
        now: Tick,
        index: u32,
        slot: usize,
        staged: &mut Staged,
        completions: &mut Vec<Completion>,
    ) -> Placed {
        if !self.has_memory(index) {
            return self.without_memory(now, index, completions);
        }
        let Some(request) = self.requests.at_mut(index) else { return Placed::Ended };
        let mut extent = request.extent;
        if request.done > 0 {
            let blocks = crate::block::BlockCount::new(request.done / self.config.geometry.block_size());
            extent = extent.skip(blocks).unwrap_or(extent);
        }
        let lease = match request.memory.as_mut() {
            Some(memory) => match memory.lend(request.done) {
                None => {
                    self.parked.wants_room = true;
                    return Placed::Park;
                }
                lease => lease,
            },
            None => None,
        };
        if let Some(scope) = request.scope() {
            request.history_mut().sum = self.common.marks.sum(scope);
        }
        request.state = State::Out;
        let operation = request.operation;
        let Standing { incarnation, scope: cache, .. } = *self.routes.standing(slot);
        let lean = u8::try_from(slot).unwrap_or(u8::MAX);
        if self.attempts.is_full() {
            // Paths' depths bound it.
            self.attempts.grow(AttemptSlot::empty);
        }
        let Some((key, attempt)) = self.attempts.insert() else { return Placed::NoRoom };
        let mut allowance = self.patience;
        if operation.has_data() {
            allowance = allowance.min(self.routes.allowance(slot));
        }
        let mut due = now.after_nanos(allowance);
        *attempt = AttemptSlot::new(index, request.attempts, lean, incarnation, cache, (now, due));
        if request.is_eventful() {
            attempt.patience = request.patience();
            let late = now.after_nanos(allowance.saturating_mul(1 << attempt.patience));
            due = late.min(self.config.limit(now, attempt.patience));
            attempt.due = due;
        }
        request.attempts = key.index;
        self.scan_by(due);
        self.routes.placed(slot);
        staged.push(slot, Attempt::new(id(self.config.queue, key), operation, extent, lease));
        Placed::Yes
    }

    /// Whether an earlier write that was given up may still land on this extent, or one that is late has not ended. What was
    /// itself out before waits for no late write: none waits for one that waits for it.
    #[inline]
    fn is_haunted(&mut self, index: u32) -> bool {
        let list = self.ghosts.load();
        if list.is_empty() {
            return false;
        }
        let (Some(key), Some(request)) = (self.requests.key(index), self.requests.at(index)) else {
            return false;
        };
        let own = Resent { index: key.index, generation: key.generation };
        let is_own = |ghost: &Ghost| ghost.resent == Some(own) && ghost.queue == self.config.queue;
        let was_out =
            request.exposed == Exposed::Maybe || request.attempts != NOBODY || request.history().bars;
        list.ghosts.iter().any(|ghost| ghost.extent.overlaps(request.extent) && !is_own(ghost))
            || !was_out && list.late.iter().any(|late| late.extent.overlaps(request.extent))
    }

    /// Paths for a request that may not use all of them.
    pub(super) fn routes_of(&self, index: u32) -> u64 {
        self.routes_besides(index, 0)
    }

    /// The same without these.
    pub(super) fn routes_besides(&self, index: u32, excluded: u64) -> u64 {
        let Some(request) = self.requests.at(index) else { return 0 };
        let history = request.history();
        // Where requests do not wait for paths, one that failed it twice is not tried a third time.
        let condemned = if self.no_path == NoPath::Fail { history.condemned } else { 0 };
        self.routes_without(request, history.tried | condemned | excluded)
    }

    fn routes_without(&self, request: &RequestSlot, excluded: u64) -> u64 {
        match request.scope() {
            Some(scope) => self.routes.best_for_flush(self.routes.members(scope) & !excluded),
            None => self.routes.best_within(!excluded),
        }
    }

    /// Where a request goes that paths may have failed: to one that has not at once, to others after a pause, and only for
    /// as long as the no-path rule lets it wait.
    fn routes_again(&self, now: Tick, index: u32) -> Again {
        let Some(request) = self.requests.at(index) else { return Again::Now(0) };
        let history = request.history();
        if history.failures > self.config.max_retries {
            return Again::Never;
        }
        // What a path is only left for, since it was slow or another was to be asked, is void once nothing is held against it.
        let left = history.tried & !self.routes.believed();
        let fresh = match self.routes_without(request, history.tried | history.failed) {
            0 => self.routes_without(request, left | history.failed),
            fresh => fresh,
        };
        if fresh != 0 || history.failed == 0 {
            return Again::Now(fresh);
        }
        if self.hold_of(history.failing_since.unwrap_or(now)).is_some_and(|until| until <= now) {
            return Again::Never;
        }
        let routes = self.routes_of(index);
        if routes != 0 && history.not_before > now {
            Again::Later(history.not_before)
        } else {
            Again::Now(routes)
        }
    }

    /// Until when a request may wait that began to at `since`; `None` where the rule is another.
    fn hold_of(&self, since: Tick) -> Option<Tick> {
        match self.no_path {
            NoPath::Hold { time, .. } => Some(since.after(time)),
            NoPath::Fail => None,
        }
    }

    /// Moves a flush past the caches that hold nothing (any more); `true` if that completed it.
    #[cold]
    fn skip_clean_scopes(&mut self, index: u32, completions: &mut Vec<Completion>) -> bool {
        let Some(request) = self.requests.at(index) else { return true };
        if !request.is_flush() {
            return false;
        }
        let found = (request.history().survey == Survey::Due).then(|| self.dirty_scopes());
        let Some(request) = self.requests.at_mut(index) else { return true };
        if let Some(scopes) = found {
            let history = request.history_mut();
            (history.scopes, history.survey) = (scopes, Survey::Done);
        }
        while let Some(scope) = request.scope() {
            if self.common.marks.is_dirty(scope) {
                return false;
            }
            request.next_scope();
        }
        self.finish_flush(index, completions);
        true
    }

    /// No path for this request at present: it waits, or it ends.
    #[cold]
    fn stuck(&mut self, now: Tick, index: u32, completions: &mut Vec<Completion>) -> Placed {
        let Some(request) = self.requests.at(index) else { return Placed::Ended };
        let within = request.scope().map_or(u64::MAX, |scope| self.routes.members(scope));
        let History { tried, condemned, failing_since, .. } = *request.history();
        if within == 0 && self.no_path == NoPath::Fail {
            // Of a cache that only a queue which still uses its path can flush, and does before it lets go.
            let left = request.scope().map_or(0, |scope| self.routes.let_go_of(scope));
            if left != 0 {
                return Placed::Park;
            }
        }
        let condemned = if self.no_path == NoPath::Fail { condemned } else { 0 };
        let open_to_it = within & !condemned;
        // A path that failed it and is being looked into, or one whose connection is just being made.
        let left = tried & !self.routes.believed();
        if self.routes.hopeful() & open_to_it & (left | self.routes.opening()) != 0 {
            if let Some(until) = failing_since.and_then(|since| self.hold_of(since)) {
                self.scan_by(until);
            }
            if let Some(request) = self.requests.at_mut(index) {
                end_hold(&mut self.held, request, self.config.geometry.block_size());
            }
            return Placed::Park;
        }
        let anyone = self.routes.best_for_flush(within);
        if anyone != 0 && anyone & !condemned == 0 {
            return self.fail_everywhere(index, completions);
        }
        self.hold(now, index, completions)
    }

    /// Every path that could be used has failed the request, for as long as the rule lets it try.
    fn fail_everywhere(&mut self, index: u32, completions: &mut Vec<Completion>) -> Placed {
        let Some(request) = self.requests.at(index) else { return Placed::Ended };
        let (operation, extent) = (request.operation, request.extent);
        let last = request.history().last_failure;
        let (path, cause) = last.unwrap_or((self.routes.id(0), Cause::NotConnected));
        self.fail(index, Error::EveryPathFailed { operation, extent, path, cause }, completions);
        Placed::Ended
    }

    /// The no-path rule. A path that seemed to work in between, and sent nothing, does not make the time start anew.
    fn hold(&mut self, now: Tick, index: u32, completions: &mut Vec<Completion>) -> Placed {
        let block_size = self.config.geometry.block_size();
        let Some(request) = self.requests.at_mut(index) else { return Placed::Ended };
        if request.is_held() {
            return Placed::Park;
        }
        let since = *request.history_mut().waiting_since.get_or_insert(now);
        let bytes = request.bytes(block_size);
        // While there is no path for anyone, all wait until the same moment: what comes later does not wait anew.
        let since = if self.routes.best() == 0 { *self.no_path_since.get_or_insert(now) } else { since };
        if let NoPath::Hold { time, requests, bytes: most } = self.no_path
            && (since == now || since.after(time) > now)
            && self.held.0 < requests
            && self.held.1.saturating_add(bytes) <= most
            && let Some(request) = self.requests.at_mut(index)
        {
            request.history_mut().held_until = Some(since.after(time));
            self.held = (self.held.0 + 1, self.held.1 + bytes);
            self.scan_by(since.after(time));
            return Placed::Park;
        }
        self.fail_without_path(now, index, completions);
        Placed::Ended
    }

    /// Ends a request, in no list, that no path could take.
    pub(super) fn fail_without_path(&mut self, now: Tick, index: u32, completions: &mut Vec<Completion>) {
        let Some(request) = self.requests.at(index) else { return };
        if request.history().failures > 0 && request.scope().is_none() {
            self.fail_everywhere(index, completions);
            return;
        }
        let error = match request.scope() {
            Some(scope) => Error::FlushIncomplete { path: self.keeper(scope) },
            None => Error::NoPath {
                held: now.since(request.history().waiting_since.unwrap_or(now)),
                fate: if request.exposed == Exposed::Maybe { Fate::Unknown } else { Fate::NotSent },
            },
        };
        self.fail(index, error, completions);
    }

    /// Whether a request has memory for another attempt; a read whose memory a silent path still holds leaves it
    /// behind and takes some of the reserve.
    #[inline]
    pub(super) fn has_memory(&mut self, index: u32) -> bool {
        let Some(request) = self.requests.at(index) else { return false };
        let out = request.memory.as_ref().is_some_and(Lent::is_out);
        !out || request.operation.is_write() || self.leave_behind(index)
    }

    /// Leaves the memory of a request to the attempt that has it, and takes some of the reserve.
    #[cold]
    fn leave_behind(&mut self, index: u32) -> bool {
        let Some(request) = self.requests.at_mut(index) else { return false };
        let Some(spare) = request.memory.as_mut().and_then(Lent::spare) else { return false };
        let Some(request) = self.requests.at(index) else { return false };
        let holder = self.holders(request.attempts).next();
        let Some(request) = self.requests.at_mut(index) else { return false };
        let Some(memory) = request.memory.replace(spare) else { return false };
        request.done = 0;
        // Without an attempt that has it, the memory was lost with its path's code.
        if let Some(holder) = holder
            && let Some(attempt) = self.attempts.at_mut(holder)
        {
            let place = self.strays.leave(memory, Heir::Pool);
            self.strays.hold(place);
            attempt.memory = Holding::Stray(place);
        }
        true
    }

    /// A read has no memory that could be filled: it waits until a path hands some back, or for the reserve.
    #[cold]
    fn without_memory(&mut self, now: Tick, index: u32, completions: &mut Vec<Completion>) -> Placed {
        let Some(request) = self.requests.at(index) else { return Placed::Ended };
        if request.attempts != NOBODY {
            self.parked.wants_room = true;
            self.scan_by(now.after(self.config.suspect_after / 4));
            return Placed::Park;
        }
        self.fail_everywhere(index, completions)
    }

    /// A path did not take an attempt that was placed on it, for want of room: as if it had never been placed.
    pub(crate) fn not_taken(&mut self, now: Tick, slot: usize, attempt: Attempt) {
        let declined_since = self.routes.declined_since(slot);
        let Some(index) = self.take_back(slot, attempt) else { return };
        if !self.routes.fill(slot) {
            self.declined(now, slot, declined_since);
            if let Some(request) = self.requests.at_mut(index) {
                request.history_mut().waiting_since.get_or_insert(now);
            }
        }
        self.requeue(index);
    }

    /// A path has no room although it holds nothing: it is left alone for a moment, and looked into if that lasts.
    #[cold]
    fn declined(&mut self, now: Tick, slot: usize, since: Option<Tick>) {
        self.rest(now, slot, NO_ROOM_RETRY);
        let mut since = since.unwrap_or(now);
        if now.since(since) >= self.config.suspect_after && self.routes.out(slot) == 0 {
            self.broken(slot, "takes no attempts although it has none out");
            since = now;
        }
        self.routes.set_declined(slot, since);
    }

    /// The queue has, or has lost, its way to use a connection.
    pub(crate) fn opened(&mut self, slot: usize, incarnation: Incarnation) {
        self.routes.opened(slot, incarnation);
        self.parked.recheck = true;
    }
}
