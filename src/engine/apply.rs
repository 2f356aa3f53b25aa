//! Taking over what the supervisor published.

use std::sync::Arc;

use crate::block::Extent;
use crate::error::Cause;
use crate::io::{Completion, Cookie, Operation, PathId};
use crate::path::{Fault, FenceGrade, Incarnation};
use crate::policy::MAX_PATHS;
use crate::time::Tick;

use super::request::{Origin, Progress, State};
use super::routes::{Settled, bit, slots};
use super::{Engine, Evidence, PathCounters, Phase, Snapshot, id};

impl Engine {
    /// Takes over a new snapshot.
    pub(crate) fn apply(&mut self, now: Tick, snapshot: &Snapshot, completions: &mut Vec<Completion>) {
        (self.phase, self.no_path) = (snapshot.phase, snapshot.no_path);
        self.end_outage_if_idle();
        for slot in 0..MAX_PATHS {
            match &snapshot.routes[slot] {
                Some(route) => {
                    let settled = self.routes.update(slot, route);
                    self.forgive(slot, settled);
                    self.settle(now, slot, route.fenced, completions);
                }
                None => self.routes.forget(slot),
            }
        }
        self.end_outage_if_idle();
        (self.parked.recheck, self.rerouted) = (true, true);
        // Attempts on a path that is down now may have another way; requests that are held may be due.
        self.scan_by(now);
    }

    /// Where there is a path and nothing waits for one, a time without any is over.
    fn end_outage_if_idle(&mut self) {
        if self.routes.best() != 0 && self.requests.len() == 0 {
            self.no_path_since = None;
        }
    }

    /// Whatever requests held against the path is over.
    fn forgive(&mut self, slot: usize, settled: Settled) {
        if settled == Settled::No {
            return;
        }
        for index in self.requests.indices() {
            match self.requests.at_mut(index) {
                Some(request) if settled == Settled::Newcomer => request.forget(bit(slot)),
                Some(request) if request.history().tried & bit(slot) != 0 => {
                    request.history_mut().tried &= !bit(slot);
                }
                Some(_) | None => {}
            }
        }
    }

    /// Nothing that was sent over connections up to `fenced` can land any more: what waited for that goes on.
    fn settle(&mut self, now: Tick, slot: usize, fenced: Incarnation, completions: &mut Vec<Completion>) {
        if fenced == Incarnation::NONE {
            return;
        }
        for index in self.requests.indices() {
            let state = self.requests.at(index).map(|request| request.state);
            if let Some(State::Fencing { slot: at, incarnation, .. }) = state
                && usize::from(at) == slot
                && incarnation <= fenced
            {
                self.requeue(index);
            }
        }
        for index in self.attempts.indices() {
            let (Some(key), Some(attempt)) = (self.attempts.key(index), self.attempts.at(index)) else {
                continue;
            };
            let covered = usize::from(attempt.slot) == slot && attempt.incarnation <= fenced;
            if covered && attempt.progress == Progress::Live {
                let fault = Fault::Unknown { cause: Cause::Aborted, fence: Some(FenceGrade::Proven) };
                self.gave_up(now, id(self.config.queue, key), fault, completions);
            }
        }
    }

    /// Where to count what is done on the path of a slot: one for each queue.
    pub(crate) fn set_counters(&mut self, slot: usize, counters: Arc<[PathCounters]>) {
        self.counters[slot] = Some(counters);
    }

    /// The slots that have a path.
    pub(crate) fn known(&self) -> impl Iterator<Item = usize> + use<> {
        slots(self.routes.known())
    }

    /// Publishes how many attempts are out on each path, and how many requests are on none.
    pub(crate) fn publish_load(&self) {
        let waiting = self.ready.len() + self.parked.list.len() + self.fencing;
        self.common.set_waiting(self.config.queue, waiting);
        for slot in slots(self.routes.known()) {
            if let Some(counters) = self.counters(slot) {
                counters.set_in_flight(self.routes.out(slot));
            }
        }
    }

    /// Takes note of how many attempts the other queues have out on the path of a slot.
    pub(crate) fn set_elsewhere(&mut self, slot: usize, in_flight: u32) {
        self.routes.table[slot].in_flight_elsewhere = in_flight;
    }

    /// The next path that is being removed and of which nothing is left here: the queue lets go of it.
    pub(crate) fn let_go(&mut self) -> Option<PathId> {
        let slot = slots(self.routes.leaving()).find(|&slot| !self.is_used(slot))?;
        if self.saves_cache(slot) {
            return None;
        }
        let path = self.routes.id(slot);
        self.evidence.push(Evidence::LetGo { path });
        self.routes.let_go(slot);
        self.counters[slot] = None;
        Some(path)
    }

    /// Whether this queue has let go of a path, for good.
    pub(crate) fn has_let_go(&self, path: PathId) -> bool {
        self.routes.is_gone(path)
    }

    /// Whether a flush is due, on its way as soon as there is room, that saves what only the caches of leaving paths hold.
    fn saves_cache(&mut self, slot: usize) -> bool {
        let is_alone = |&scope: &usize| {
            let stay = self.routes.members(scope) & !self.routes.leaving();
            stay == 0 && self.common.marks.is_dirty(scope)
        };
        let Some(scope) = slots(self.routes.standing(slot).covers).find(is_alone) else { return false };
        if let Some((key, flush)) = self.insert_request() {
            flush.renew(Operation::Flush, Extent::NONE, Cookie::default());
            flush.origin = Origin::Engine;
            flush.history_mut().scopes = bit(scope);
            self.ready.push_back(key.index);
            self.returned = true;
        }
        true
    }

    /// Whether a path still holds an attempt, or a write waits for its fence.
    fn is_used(&self, slot: usize) -> bool {
        let covers = self.routes.standing(slot).covers;
        let mut requests = self.requests.indices().filter_map(|index| self.requests.at(index));
        self.routes.out(slot) > 0
            || requests.any(|request| match request.state {
                State::Fencing { slot: at, .. } => usize::from(at) == slot,
                _ => {
                    request.origin == Origin::Engine
                        && request.scope().is_some_and(|scope| covers & bit(scope) != 0)
                }
            })
    }

    /// The code of a path failed: nothing that it held over this connection comes back, nor does the memory.
    pub(crate) fn forfeit(
        &mut self,
        now: Tick,
        path: PathId,
        incarnation: Incarnation,
        completions: &mut Vec<Completion>,
    ) {
        let slot = path.slot();
        if self.routes.id(slot) == path && self.routes.standing(slot).incarnation == incarnation {
            self.unusable(slot, incarnation, "its code panicked".to_owned());
        }
        for index in self.attempts.indices() {
            let (Some(key), Some(attempt)) = (self.attempts.key(index), self.attempts.at(index)) else {
                continue;
            };
            if usize::from(attempt.slot) != slot || attempt.incarnation != incarnation {
                continue;
            }
            if attempt.progress == Progress::Abandoned {
                self.evidence.push(Evidence::Unfenced { path, incarnation });
            }
            let fault = Fault::Unknown { cause: Cause::Broken, fence: None };
            self.gave_up(now, id(self.config.queue, key), fault, completions);
            self.drop_attempt(index);
        }
    }

    /// Whether the volume takes no more requests.
    pub(crate) fn is_closing(&self) -> bool {
        self.phase != Phase::Open
    }

    /// The queue cannot use the present connection, or not any more.
    pub(crate) fn unusable(&mut self, slot: usize, incarnation: Incarnation, reason: String) {
        self.routes.closed(slot);
        self.routes.mark_broken(slot);
        let path = self.routes.id(slot);
        self.evidence.push(Evidence::Unusable { path, incarnation, reason });
    }
}
