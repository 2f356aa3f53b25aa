//! What the end of an attempt means for its request: the fate table.

use std::time::Duration;

use crate::block::BlockCount;
use crate::buffer::Lent;
use crate::error::{Cause, DeviceError, Error, Fate};
use crate::io::{Completion, Durability, Operation};
use crate::path::{Attempt, AttemptId, Fault, FenceGrade, Incarnation, Outcome};
use crate::policy::Observation;
use crate::time::Tick;

use super::request::{AttemptSlot, Continued, Exposed, Holding, Progress, RequestSlot, State};
use super::routes::bit;
use super::slab::Key;
use super::{Engine, Evidence, Ghost, Retired};

/// Longest time for which a path is left alone because it said that it was busy.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// How a path ended an attempt: over which connection, begun when, and whether its request still waited for it.
#[derive(Clone, Copy)]
struct End {
    id: AttemptId,
    request: u32,
    slot: usize,
    incarnation: Incarnation,
    started: Tick,
    progress: Progress,
}

/// Whether a path has kept to its contract in handing an attempt back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    No,
    Yes,
}

/// All that is known of an attempt that was handed back without a result.
const ABORTED: Fault = Fault::Unknown { cause: Cause::Aborted, fence: None };
/// All that is known of an attempt of a path that broke its contract.
const BROKEN: Fault = Fault::Unknown { cause: Cause::Broken, fence: None };

impl Engine {
    /// Takes in what became of an attempt.
    pub(crate) fn outcome(
        &mut self,
        now: Tick,
        slot: usize,
        outcome: Outcome,
        completions: &mut Vec<Completion>,
    ) {
        self.recheck |= !self.parked.is_empty();
        match outcome {
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
                if let Some((end, _)) = self.end(slot, attempt)
                    && end.progress == Progress::Live
                {
                    self.decide(now, &end, Err(ABORTED), completions);
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

    /// Takes back the attempt's memory and frees its place. `None` if the path never had it. If it comes with memory of
    /// another, its own is lost, and nothing that is said of it counts.
    #[allow(clippy::inline_always, reason = "measured: it is worth several ns on each I/O")]
    #[inline(always)]
    fn end(&mut self, from: usize, attempt: Attempt) -> Option<(End, Kept)> {
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
            started: slot.started,
            progress: slot.progress,
        };
        let mut kept = Kept::Yes;
        if let Some(lease) = attempt.into_memory() {
            let memory = match slot.memory {
                Holding::Shared => self.requests.at_mut(end.request)?.memory.as_mut(),
                Holding::Own => self.left_behind_with(key.index),
            };
            if memory.is_none_or(|memory| memory.give_back(lease).is_err()) {
                kept = Kept::No;
                self.broken(end.slot, "handed back memory of another attempt");
            }
        }
        self.drop_attempt(key.index);
        Some((end, kept))
    }

    /// Frees an attempt's place; its memory is back or given up for lost.
    #[allow(clippy::inline_always, reason = "measured: it is worth several ns on each I/O")]
    #[inline(always)]
    pub(super) fn drop_attempt(&mut self, index: u32) {
        let Some(attempt) = self.attempts.remove(index) else { return };
        let AttemptSlot { slot, request: of, memory, .. } = *attempt;
        if memory == Holding::Own {
            self.left_behind.retain(|&(holder, _)| holder != index);
        }
        self.routes.released(slot.into());
        let Some(request) = self.requests.at_mut(of) else { return };
        request.attempts = request.attempts.saturating_sub(1);
        if request.state == State::Done && request.attempts == 0 {
            self.release(of);
        }
    }

    /// What a read left behind with an attempt.
    #[cold]
    fn left_behind_with(&mut self, index: u32) -> Option<&mut Lent> {
        self.left_behind.iter_mut().find(|(holder, _)| *holder == index).map(|(_, memory)| memory)
    }

    /// The last attempt of a completed request has come back: so does its quarantined memory.
    #[cold]
    fn release(&mut self, index: u32) {
        let Some(request) = self.requests.remove(index) else { return };
        if let Some(buffer) = request.memory.as_mut().and_then(Lent::reclaim) {
            self.released.push_back((request.cookie, buffer));
        }
    }

    /// What is not a success that its request waited for.
    #[cold]
    fn other_end(
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
    fn is_fencing(&self, end: &End) -> bool {
        let state = self.requests.at(end.request).map(|request| request.state);
        matches!(state, Some(State::Fencing { attempt, .. }) if attempt == end.id)
    }

    /// The answer to an attempt that nobody waited for any more: it tells of its path, and that a ghost cannot land.
    fn late(&mut self, now: Tick, end: &End, result: Result<u32, Fault>) {
        // What is unknown of it may be so because nobody waited: the cancel is no fault of the path.
        if let Err(fault) = result
            && fault.fate() != Fate::Unknown
        {
            self.heard(now, end, fault);
        }
        if result.is_err_and(Fault::may_land) {
            return;
        }
        let (queue, path, id) = (self.config.queue, self.routes.id(end.slot), end.id);
        let is_it = |ghost: &Ghost| ghost.queue == queue && ghost.path == path && ghost.attempt == Some(id);
        if self.common.ghosts.retire(is_it) == Retired::Some {
            self.evidence.push(Evidence::GhostGone);
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
            started: attempt.started,
            progress: Progress::Live,
        };
        self.decide(now, &end, Err(fault), completions);
    }

    fn decide(
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
        let nanos = now.nanos_since(end.started);
        if let Some(counters) = self.counters(end.slot) {
            counters.success(bytes, nanos);
        }
        if self.is_observed {
            let latency = Duration::from_nanos(nanos);
            self.observations.push(Observation::new(end.slot, operation, bytes, latency));
        }
        if operation == Operation::Flush {
            return self.flushed(end.request, completions);
        }
        self.mark(end.slot, operation);
        self.finish(end.request, Ok(()), completions);
    }

    /// Notes that a path's cache, if it has one, holds what a write has done.
    #[inline]
    fn mark(&self, slot: usize, operation: Operation) {
        if let Some(scope) = self.routes.standing(slot).scope
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
        self.mark(end.slot, operation);
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
                self.hold_against(end, Cause::Refused);
                self.requeue(end.request);
            }
            Fault::Unknown { cause, fence } => {
                self.hold_against(end, cause);
                self.unknown(end, fence);
            }
        }
    }

    /// What a failure says of its path, whoever still waits for the attempt. Until the supervisor has looked, the queue
    /// itself holds it against the path.
    fn heard(&mut self, now: Tick, end: &End, fault: Fault) {
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

    /// The device answered with an error.
    fn answered(&mut self, end: &End, error: DeviceError, completions: &mut Vec<Completion>) {
        let path = self.routes.id(end.slot);
        let Some(RequestSlot { operation, extent, .. }) = self.requests.at(end.request) else { return };
        let error = Error::Device { operation: *operation, extent: *extent, path, error };
        self.fail(end.request, error, completions);
    }

    /// Holds a failure against the path for this request.
    fn hold_against(&mut self, end: &End, cause: Cause) {
        let (path, current) = (self.routes.id(end.slot), self.is_current(end));
        let Some(request) = self.requests.at_mut(end.request) else { return };
        if current {
            request.blame(bit(end.slot));
        } else {
            request.remember(bit(end.slot));
        }
        request.history_mut().last_failure = Some((path, cause));
    }

    /// It may have been done. Whatever cannot land any more, or changes nothing, is sent again; the rest waits.
    fn unknown(&mut self, end: &End, fence: Option<FenceGrade>) {
        let fenced = fence.is_some() || end.incarnation <= self.routes.standing(end.slot).fenced;
        let Some(request) = self.requests.at_mut(end.request) else { return };
        request.exposed = Exposed::Maybe;
        request.history_mut().waiting_since = None;
        if fenced || !request.operation.is_write() {
            return self.requeue(end.request);
        }
        let slot = u8::try_from(end.slot).unwrap_or(u8::MAX);
        request.state = State::Fencing { slot, incarnation: end.incarnation, attempt: end.id };
        let path = self.routes.id(end.slot);
        self.evidence.push(Evidence::Unfenced { path, incarnation: end.incarnation });
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
