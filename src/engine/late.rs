//! The ends of attempts that nobody waited for any more.

use crate::error::Fate;
use crate::io::{Completion, Operation};
use crate::path::{Attempt, Fault};
use crate::time::Tick;

use super::outcome::{BROKEN, End, Kept};
use super::request::{Holding, Progress, RequestSlot, State};
use super::strays::Heir;
use super::{Engine, Evidence, Ghost, Lists, Retired};

impl Engine {
    /// The end of an attempt that nobody waited for any more. The data of a read that goes on is welcome all the same.
    #[cold]
    pub(super) fn late_end(
        &mut self,
        now: Tick,
        from: usize,
        attempt: Attempt,
        result: Result<u32, Fault>,
        completions: &mut Vec<Completion>,
    ) {
        let asked = attempt.len();
        let Some((end, kept)) = self.take_memory(from, attempt) else { return };
        let result = if kept == Kept::Yes { result } else { Err(BROKEN) };
        let operation = self.requests.at(end.request).map(|request| request.operation);
        let is_write = operation.is_some_and(Operation::is_write) && !self.is_fencing(&end);
        let has_data = operation.is_some_and(Operation::has_data);
        let is_whole = result.is_ok_and(|bytes| !has_data || bytes as usize == asked);
        let serves = is_whole && (is_write || self.restore_memory(&end));
        self.drop_attempt(end.id.index);
        match operation {
            Some(operation) if serves => self.late_success(now, &end, operation, asked, completions),
            _ => self.other_end(now, &end, result, completions),
        }
    }

    /// A late attempt has done all that its request asks for. What else is out of a write may yet do it again.
    fn late_success(
        &mut self,
        now: Tick,
        end: &End,
        operation: Operation,
        bytes: usize,
        completions: &mut Vec<Completion>,
    ) {
        self.done(now, end, operation, u32::try_from(bytes).unwrap_or(u32::MAX));
        self.mark(end.scope, operation);
        self.lists = Lists::Untidy;
        if operation.is_write() {
            self.settled(end);
            if let Some(RequestSlot { state, extent, .. }) = self.requests.at(end.request) {
                self.haunt(end.request, *state, *extent);
            }
        }
        self.finish(end.request, Ok(()), completions);
    }

    /// Makes the memory that a late attempt of a read has filled its request's again; `false` if no read waits for it.
    fn restore_memory(&mut self, end: &End) -> bool {
        let Some(request) = self.requests.at(end.request) else { return false };
        if request.operation != Operation::Read {
            return false;
        }
        let under_way = self.holders(request.attempts).find(|&index| index != end.id.index);
        let Some(attempt) = self.attempts.at_mut(end.id.index) else { return false };
        let Holding::Stray(place) = std::mem::replace(&mut attempt.memory, Holding::Request) else {
            return true;
        };
        let filled = self.strays.take(place);
        let Some(request) = self.requests.at_mut(end.request) else { return false };
        let Some(other) = std::mem::replace(&mut request.memory, filled) else { return true };
        if let Some(attempt) = under_way.and_then(|index| self.attempts.at_mut(index)) {
            let place = self.strays.leave(other, Heir::Pool);
            self.strays.hold(place);
            attempt.memory = Holding::Stray(place);
        }
        true
    }

    /// What is not a success that its request waited for.
    #[cold]
    pub(super) fn other_end(
        &mut self,
        now: Tick,
        end: &End,
        result: Result<u32, Fault>,
        completions: &mut Vec<Completion>,
    ) {
        if end.progress == Progress::Live || self.is_fencing(end) {
            self.decide(now, end, result, completions);
        } else {
            self.late(now, end, result);
        }
    }

    /// Whether the request waits for just this attempt to be settled.
    pub(super) fn is_fencing(&self, end: &End) -> bool {
        let state = self.requests.at(end.request).map(|request| request.state);
        matches!(state, Some(State::Fencing { attempt, .. }) if attempt == end.id)
    }

    /// The answer to an attempt that nobody waited for any more: it tells of its path, and that a ghost cannot land.
    pub(super) fn late(&mut self, now: Tick, end: &End, result: Result<u32, Fault>) {
        // What is unknown of it may be so because nobody waited: the cancel is no fault of the path.
        if let Err(fault) = result
            && fault.fate() != Fate::Unknown
        {
            self.heard(now, end, fault);
        }
        if result.is_err_and(Fault::may_land) {
            return self.unsettled(end);
        }
        self.settled(end);
    }

    /// An attempt cannot land any more: its ghost is gone.
    fn settled(&mut self, end: &End) {
        let is_it = self.ghost_of(end);
        self.haunts.retain(|ghost| !is_it(ghost));
        if self.common.ghosts.retire(is_it) == Retired::Some {
            self.parked.recheck = true;
            self.evidence.push(Evidence::GhostGone);
        }
    }

    /// Tells the ghost of an attempt.
    fn ghost_of(&self, end: &End) -> impl Fn(&Ghost) -> bool + use<> {
        let (queue, path, id) = (self.config.queue, self.routes.id(end.slot), end.id);
        move |ghost| ghost.queue == queue && ghost.path == path && ghost.attempt == Some(id)
    }

    /// Nothing more will be heard of an attempt that nobody waited for and that may still land: only a fence helps.
    pub(super) fn unsettled(&mut self, end: &End) {
        let is_it = self.ghost_of(end);
        if self.haunts.iter().any(&is_it) || self.ghosts.load().ghosts.iter().any(&is_it) {
            let path = self.routes.id(end.slot);
            self.evidence.push(Evidence::Unfenced { path, incarnation: end.incarnation });
        }
    }
}
