//! What the end of an attempt means for its request: the fate table.

use std::time::Duration;

use crate::block::BlockCount;
use crate::error::{Cause, DeviceError, Error};
use crate::io::{Completion, Durability, Operation, PathId};
use crate::path::{Attempt, AttemptId, Fault, FenceGrade, Incarnation, Outcome};
use crate::policy::Observation;
use crate::time::Tick;

use super::ghosts::{LateWrite, Resent};
use super::request::{AttemptSlot, Continued, Exposed, Holding, Origin, Progress, RequestSlot, Stage, State};
use super::routes::bit;
use super::slab::Key;
use super::{Engine, Evidence, Ghost, Lists, Sharing};

/// Longest time for which a path is left alone because it said that it was busy.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// How a path ended an attempt: over which connection, begun when, and whether its request still waited for it.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) id: AttemptId,
    pub(super) request: u32,
    pub(super) slot: usize,
    pub(super) incarnation: Incarnation,
    /// The cache that its path had when it was sent.
    pub(super) scope: Option<u8>,
    pub(super) started: Tick,
    pub(super) progress: Progress,
    pub(super) late: bool,
}

/// Whether a path has kept to its contract in handing an attempt back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    No,
    Yes,
}

/// All that is known of an attempt that was handed back without a result.
const ABORTED: Fault = Fault::Unknown { cause: Cause::Aborted, fence: None };
/// All that is known of an attempt of a path that broke its contract.
pub(super) const BROKEN: Fault = Fault::Unknown { cause: Cause::Broken, fence: None };

impl Engine {
    /// Takes in what became of an attempt.
    pub(crate) fn outcome(
        &mut self,
        now: Tick,
        slot: usize,
        outcome: Outcome,
        completions: &mut Vec<Completion>,
    ) {
        self.parked.recheck |= self.parked.wants_room;
        match outcome {
            Outcome::Complete(attempt, result) if self.is_abandoned(attempt.id()) => {
                self.late_end(now, slot, attempt, result, completions);
            }
            Outcome::Complete(attempt, result) => {
                let Some((end, kept)) = self.end(slot, attempt) else { return };
                let result = if kept == Kept::Yes { result } else { Err(BROKEN) };
                match result {
                    Ok(bytes) if end.progress == Progress::Live => {
                        self.succeeded(now, &end, bytes, completions);
                    }
                    _ => self.other_end(now, &end, result, completions),
                }
            }
            Outcome::GaveUp(id, fault) if self.holds(slot, id) => self.gave_up(now, id, fault, completions),
            Outcome::GaveUp(..) => self.broken(slot, "gave up an attempt that it does not have"),
            Outcome::Released(attempt) => {
                let Some((end, _)) = self.end(slot, attempt) else { return };
                match end.progress {
                    Progress::Live => self.decide(now, &end, Err(ABORTED), completions),
                    Progress::Abandoned => self.unsettled(&end),
                }
            }
        }
    }

    /// Takes back an attempt that was never sent: its request and its path's slot.
    pub(super) fn take_back(&mut self, slot: usize, attempt: Attempt) -> Option<u32> {
        let (end, _) = self.end(slot, attempt)?;
        (end.progress == Progress::Live).then_some(end.request)
    }

    /// Whether the path of this slot has this attempt of this queue.
    fn holds(&self, slot: usize, id: AttemptId) -> bool {
        let key = Key { index: id.index, generation: id.generation };
        id.queue == self.config.queue
            && self.attempts.get(key).is_some_and(|attempt| usize::from(attempt.slot) == slot)
    }

    /// Whether nobody waits for this attempt any more.
    #[inline]
    fn is_abandoned(&self, id: AttemptId) -> bool {
        let key = Key { index: id.index, generation: id.generation };
        self.attempts.get(key).is_some_and(|attempt| attempt.progress == Progress::Abandoned)
    }

    /// Takes back the attempt's memory and frees its place. `None` if the path never had it.
    #[allow(clippy::inline_always, reason = "measured: it is worth several ns on each I/O")]
    #[inline(always)]
    fn end(&mut self, from: usize, attempt: Attempt) -> Option<(End, Kept)> {
        let index = attempt.id().index;
        let ended = self.take_memory(from, attempt)?;
        self.drop_attempt(index);
        Some(ended)
    }

    /// Takes back the attempt's memory. `None` if the path never had it. If it comes with memory of another, its own is
    /// lost, and nothing that is said of it counts.
    #[allow(clippy::inline_always, reason = "measured: it is worth several ns on each I/O")]
    #[inline(always)]
    pub(super) fn take_memory(&mut self, from: usize, attempt: Attempt) -> Option<(End, Kept)> {
        let id = attempt.id();
        let key = Key { index: id.index, generation: id.generation };
        let Some(slot) = self.attempts.get(key).filter(|slot| usize::from(slot.slot) == from) else {
            self.broken(from, "handed back an attempt that it does not have");
            return None;
        };
        let end = End {
            id,
            request: slot.request,
            slot: from,
            incarnation: slot.incarnation,
            scope: slot.scope,
            started: slot.started,
            progress: slot.progress,
            late: slot.stage == Stage::Silent,
        };
        let mut kept = Kept::Yes;
        if let Some(lease) = attempt.into_memory() {
            let memory = match slot.memory {
                Holding::Request => self.requests.at_mut(end.request)?.memory.as_mut(),
                Holding::Stray(place) => self.strays.memory(place),
            };
            if memory.is_none_or(|memory| memory.give_back(lease).is_err()) {
                kept = Kept::No;
                self.broken(end.slot, "handed back memory of another attempt");
            }
        }
        Some((end, kept))
    }

    /// Frees an attempt's place; its memory is back or given up for lost.
    #[allow(clippy::inline_always, reason = "measured: it is worth several ns on each I/O")]
    #[inline(always)]
    pub(super) fn drop_attempt(&mut self, index: u32) {
        let Some(attempt) = self.attempts.remove(index) else { return };
        let AttemptSlot { slot, request: of, next, memory, incarnation, stale, .. } = *attempt;
        self.routes.released(slot.into(), incarnation, stale);
        if let Holding::Stray(place) = memory {
            self.release(place);
        }
        let Some(request) = self.requests.at_mut(of) else { return };
        if request.attempts == index {
            request.attempts = next;
        } else {
            self.unlink(of, index, next);
        }
    }

    /// Takes an attempt that is not the latest out of its request's list.
    #[cold]
    fn unlink(&mut self, request: u32, index: u32, next: u32) {
        let before =
            self.attempts_of(request).find(|&at| self.attempts.at(at).is_some_and(|slot| slot.next == index));
        if let Some(slot) = before.and_then(|before| self.attempts.at_mut(before)) {
            slot.next = next;
        }
    }

    /// One attempt less has memory that was left to it; a caller's goes back to it with the last.
    #[cold]
    fn release(&mut self, place: u32) {
        if let Some(released) = self.strays.let_go(place) {
            self.released.push_back(released);
        }
    }

    /// The path has given an attempt up but still holds its memory.
    #[cold]
    pub(super) fn gave_up(
        &mut self,
        now: Tick,
        id: AttemptId,
        fault: Fault,
        completions: &mut Vec<Completion>,
    ) {
        let key = Key { index: id.index, generation: id.generation };
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        if attempt.progress == Progress::Abandoned {
            return;
        }
        attempt.progress = Progress::Abandoned;
        let end = End {
            id,
            request: attempt.request,
            slot: attempt.slot.into(),
            incarnation: attempt.incarnation,
            scope: attempt.scope,
            started: attempt.started,
            progress: Progress::Live,
            late: attempt.stage == Stage::Silent,
        };
        self.routes.mark_stale(attempt);
        self.decide(now, &end, Err(fault), completions);
    }

    pub(super) fn decide(
        &mut self,
        now: Tick,
        end: &End,
        result: Result<u32, Fault>,
        completions: &mut Vec<Completion>,
    ) {
        match result {
            Ok(bytes) => self.succeeded(now, end, bytes, completions),
            Err(fault) => self.failed(now, end, fault, completions),
        }
    }

    #[allow(clippy::inline_always, reason = "measured: it is worth several ns on each I/O")]
    #[inline(always)]
    fn succeeded(&mut self, now: Tick, end: &End, bytes: u32, completions: &mut Vec<Completion>) {
        let block_size = self.config.geometry.block_size();
        let Some(request) = self.requests.at_mut(end.request) else { return };
        let operation = request.operation;
        let left = request.bytes(block_size).saturating_sub(request.done.into());
        let bytes = if operation.has_data() { bytes } else { 0 };
        match u64::from(bytes).cmp(&left) {
            std::cmp::Ordering::Less => return self.short(now, end, bytes, completions),
            std::cmp::Ordering::Greater => {
                self.broken(end.slot, "transferred more than it was asked to");
                let fault = Fault::Unknown { cause: Cause::Broken, fence: Some(FenceGrade::Proven) };
                return self.failed(now, end, fault, completions);
            }
            std::cmp::Ordering::Equal => {}
        }
        self.done(now, end, operation, bytes);
        if operation == Operation::Flush {
            return self.flushed(end.request, completions);
        }
        self.mark(end.scope, operation);
        self.finish(end.request, Ok(()), completions);
    }

    /// Counts a success.
    #[inline]
    pub(super) fn done(&mut self, now: Tick, end: &End, operation: Operation, bytes: u32) {
        if self.no_path_since.is_some() {
            self.no_path_since = None;
        }
        self.routes.passed(end.slot);
        let nanos = now.nanos_since(end.started);
        if operation.has_data() {
            self.routes.note(end.slot, nanos);
        }
        if let Some(counters) = self.counters(end.slot) {
            counters.success(bytes, nanos);
        }
        if self.is_observed {
            let latency = Duration::from_nanos(nanos);
            self.observations.push(Observation::new(end.slot, operation, bytes, latency));
        }
    }

    /// Notes that a path's cache, if it has one, holds what a write has done.
    #[inline]
    pub(super) fn mark(&self, scope: Option<u8>, operation: Operation) {
        if let Some(scope) = scope
            && operation.is_write()
            && operation != Operation::Write(Durability::Fua)
        {
            self.common.marks.wrote(self.config.queue, scope.into());
        }
    }

    /// One cache is flushed; on to the next.
    #[cold]
    fn flushed(&mut self, index: u32, completions: &mut Vec<Completion>) {
        let Some(request) = self.requests.at_mut(index) else { return };
        if let Some(scope) = request.scope() {
            self.common.marks.flushed(scope, request.history().sum);
            request.next_scope();
        }
        if request.scope().is_none() {
            return self.finish_flush(index, completions);
        }
        self.requeue(index);
    }

    /// Part of a transfer was done: the rest is sent once; then, or if nothing was done, the path has failed.
    #[cold]
    fn short(&mut self, now: Tick, end: &End, bytes: u32, completions: &mut Vec<Completion>) {
        let block_size = self.config.geometry.block_size();
        let Some(request) = self.requests.at_mut(end.request) else { return };
        request.exposed = Exposed::Maybe;
        let whole = BlockCount::new(bytes / block_size);
        if whole == BlockCount::new(0) || request.continued == Continued::Once {
            let fault = Fault::Unknown { cause: Cause::Short, fence: Some(FenceGrade::Proven) };
            (request.done, request.continued) = (0, Continued::Never);
            return self.failed(now, end, fault, completions);
        }
        request.continued = Continued::Once;
        // What follows begins where a buffer may.
        let unit = block_size.max(self.config.limits.memory_alignment);
        request.done += bytes / unit * unit;
        let operation = request.operation;
        // The rest may go to another cache.
        self.mark(end.scope, operation);
        self.requeue(end.request);
    }

    /// The fate table.
    #[cold]
    fn failed(&mut self, now: Tick, end: &End, fault: Fault, completions: &mut Vec<Completion>) {
        self.heard(now, end, fault);
        match fault {
            Fault::NotSent(_) => self.not_sent(now, end.request),
            Fault::Refused(state) if !state.is_active() => self.not_sent(now, end.request),
            Fault::Congested { .. } => self.requeue(end.request),
            Fault::Final(error) => self.answered(end, error, completions),
            Fault::Refused(_) => {
                self.hold_against(now, end, Cause::Refused);
                self.requeue(end.request);
            }
            Fault::Unknown { cause, fence } if self.is_over(end, cause) => {
                self.given_up(end);
                self.unknown(now, end, fence);
            }
            Fault::Unknown { cause, fence } => {
                self.hold_against(now, end, cause);
                self.unknown(now, end, fence);
            }
        }
    }

    /// What a failure says of its path, whoever still waits for the attempt. Until the supervisor has looked, the queue
    /// itself holds it against the path.
    pub(super) fn heard(&mut self, now: Tick, end: &End, fault: Fault) {
        let (slot, incarnation) = (end.slot, end.incarnation);
        if let Some(counters) = self.counters(slot) {
            counters.failure(fault.fate());
        }
        let (path, admission) = (self.routes.id(slot), self.routes.standing(slot).admission);
        let current = self.is_current(end);
        match fault {
            Fault::NotSent(cause) if current => {
                self.evidence.push(Evidence::NotConnected { path, incarnation, cause });
                self.routes.mark_broken(slot);
            }
            Fault::Refused(state) if !state.is_active() => {
                self.evidence.push(Evidence::Refused { path, state });
                self.routes.set_access(slot, state);
            }
            Fault::Congested { retry_after } => self.rest(now, slot, retry_after.min(LONGEST_REST)),
            Fault::Unknown { cause, .. } if current => {
                self.evidence.push(Evidence::Failed { path, admission, cause });
                self.routes.distrust(slot);
            }
            Fault::Refused(_) if current => {
                self.evidence.push(Evidence::Failed { path, admission, cause: Cause::Refused });
                self.routes.distrust(slot);
            }
            _ => {}
        }
    }

    /// Whether an attempt was sent over its path's present connection.
    fn is_current(&self, end: &End) -> bool {
        self.routes.standing(end.slot).incarnation == end.incarnation
    }

    /// A path that seemed to work did not send it: it goes on waiting for one that does.
    fn not_sent(&mut self, now: Tick, index: u32) {
        if let Some(request) = self.requests.at_mut(index) {
            request.history_mut().waiting_since.get_or_insert(now);
        }
        self.requeue(index);
    }

    /// The device answered with an error, or its path's end of this machine did: that shows on another path.
    fn answered(&mut self, end: &End, error: DeviceError, completions: &mut Vec<Completion>) {
        if error.may_be_the_path_s() && self.asks_another(end) {
            return self.requeue(end.request);
        }
        // The path works.
        self.no_path_since = None;
        let path = self.routes.id(end.slot);
        let is_callers = |request: &RequestSlot| request.is_flush() && request.origin == Origin::Caller;
        if self.requests.at(end.request).is_some_and(is_callers) {
            // Another flush could succeed without what this one has lost. Here it is told now, elsewhere with the next flush.
            self.common.marks.lose(path);
            self.loss = self.common.marks.loss();
        }
        let Some(RequestSlot { operation, extent, .. }) = self.requests.at(end.request) else { return };
        let error = Error::Device { operation: *operation, extent: *extent, path, error };
        self.fail(end.request, error, completions);
    }

    /// Whether another path is asked before a path's final error is believed: once. A flush is not, since what was lost
    /// before the first error would not be missed by the second.
    fn asks_another(&mut self, end: &End) -> bool {
        let here = bit(end.slot);
        let elsewhere = self.routes_of(end.request) & self.routes.trusted() & !here;
        let (path, admission) = (self.routes.id(end.slot), self.routes.standing(end.slot).admission);
        let Some(request) = self.requests.at_mut(end.request) else { return false };
        if elsewhere == 0 || request.is_flush() || request.history().doubted.is_some() {
            return false;
        }
        let history = request.history_mut();
        history.doubted = Some((path, admission));
        history.tried |= here;
        true
    }

    /// Whether an attempt ended because its connection was over, or because the volume itself had it aborted.
    fn is_over(&self, end: &End, cause: Cause) -> bool {
        let is_fenced = end.late || end.incarnation <= self.routes.standing(end.slot).fenced;
        !self.is_current(end) || cause == Cause::Aborted && is_fenced
    }

    /// That is no failure of the path. It may be slow, as the next may be, which is given more time.
    fn given_up(&mut self, end: &End) {
        let here = if self.is_current(end) { bit(end.slot) } else { 0 };
        let Some(request) = self.requests.at_mut(end.request) else { return };
        if end.late {
            request.moved(here);
        } else {
            request.history_mut().tried |= here;
        }
    }

    /// Holds a failure against the path for this request.
    fn hold_against(&mut self, now: Tick, end: &End, cause: Cause) {
        let path = self.routes.id(end.slot);
        let Some(request) = self.requests.at_mut(end.request) else { return };
        request.blame(now, bit(end.slot));
        request.history_mut().last_failure = Some((path, cause));
    }

    /// It may have been done. Whatever cannot land any more, or changes nothing, is sent again; the rest waits.
    fn unknown(&mut self, now: Tick, end: &End, fence: Option<FenceGrade>) {
        let fenced = fence.is_some() || end.incarnation <= self.routes.standing(end.slot).fenced;
        let Some(request) = self.requests.at_mut(end.request) else { return };
        request.exposed = Exposed::Maybe;
        request.history_mut().waiting_since = None;
        if fenced || !request.operation.is_write() {
            return self.requeue(end.request);
        }
        let path = self.routes.id(end.slot);
        if self.config.sharing == Sharing::Exclusive {
            self.evidence.push(Evidence::Unfenced { path, incarnation: end.incarnation });
            self.resend(end.request, path, end.incarnation, Some(end.id));
            return self.requeue(end.request);
        }
        self.bar_later(end.request);
        let Some(request) = self.requests.at_mut(end.request) else { return };
        let slot = u8::try_from(end.slot).unwrap_or(u8::MAX);
        request.state = State::Fencing { slot, incarnation: end.incarnation, attempt: end.id };
        self.scan_by(now);
        self.evidence.push(Evidence::Unfenced { path, incarnation: end.incarnation });
    }

    /// A write is sent again before its attempt is fenced: nobody but this host writes, so that only what this volume sends
    /// later could be overwritten, and that waits for the ghost.
    pub(super) fn resend(
        &mut self,
        request: u32,
        path: PathId,
        incarnation: Incarnation,
        attempt: Option<AttemptId>,
    ) {
        let (Some(key), Some(slot)) = (self.requests.key(request), self.requests.at_mut(request)) else {
            return;
        };
        if !slot.operation.is_write() {
            return;
        }
        slot.exposed = Exposed::Maybe;
        let (extent, queue) = (slot.extent, self.config.queue);
        let resent = Some(Resent { index: key.index, generation: key.generation });
        self.haunts.push(Ghost { extent, path, incarnation, queue, attempt, resent });
        // Before anything else is placed.
        self.lists = Lists::Untidy;
        self.bar_later(request);
    }

    /// What is submitted later and overlaps this write, on any queue, waits for its end.
    pub(super) fn bar_later(&mut self, index: u32) {
        let (Some(key), Some(request)) = (self.requests.key(index), self.requests.at_mut(index)) else {
            return;
        };
        let extent = request.extent;
        if !std::mem::replace(&mut request.history_mut().bars, true) {
            let request = Resent { index: key.index, generation: key.generation };
            self.late_writes.push(LateWrite { extent, queue: self.config.queue, request });
            self.lists = Lists::Untidy;
        }
    }

    /// A request that was out goes back to the front of those to be placed.
    pub(super) fn requeue(&mut self, index: u32) {
        let Some(request) = self.requests.at_mut(index) else { return };
        if request.state == State::Done {
            return;
        }
        request.state = State::Ready;
        self.ready.push_front(index);
        self.returned = true;
    }

    /// Leaves a path alone for a while.
    pub(super) fn rest(&mut self, now: Tick, slot: usize, time: Duration) {
        let until = now.after(time);
        self.routes.rest(slot, until);
        self.scan_by(until);
    }
}
