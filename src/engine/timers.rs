//! What is due: attempts that have been out for too long, deadlines, holds, rests.
//!
//! Nothing is kept sorted. One scan of the tables does what is due and finds when the next scan must be: an attempt that
//! starts after a scan falls due after it by a whole allowance, so the chain of scans misses nothing, and the data path
//! pays nothing.

use std::time::Duration;

use crate::error::Error;
use crate::io::Completion;
use crate::time::Tick;

use super::request::{Progress, State};
use super::routes::bit;
use super::{Cancel, Engine, Evidence, NoPath, Phase, id};

/// Least time between two scans: deadlines are kept to about this.
const RESOLUTION: Duration = Duration::from_millis(1);

impl Engine {
    /// Asks for a scan at `due` at the latest.
    pub(super) fn scan_by(&mut self, due: Tick) {
        self.next_scan = Some(self.next_scan.map_or(due, |next| next.min(due)));
    }

    /// Does what is due. A caller's clock that went back makes everything due: what was to come is reckoned anew.
    #[inline]
    pub(crate) fn expire(&mut self, now: Tick, completions: &mut Vec<Completion>) {
        if self.next_scan.is_some_and(|due| due <= now || now < self.last_scan) {
            self.scan(now, completions);
        }
    }

    #[cold]
    fn scan(&mut self, now: Tick, completions: &mut Vec<Completion>) {
        self.next_scan = None;
        self.last_scan = now;
        if self.routes.is_resting()
            && let Some(next) = self.routes.wake(now)
        {
            self.scan_by(next);
        }
        self.recheck = true;
        self.scan_requests(now, completions);
        self.scan_attempts(now);
        let soonest = now.after(RESOLUTION);
        self.next_scan = self.next_scan.map(|due| due.max(soonest));
    }

    fn scan_requests(&mut self, now: Tick, completions: &mut Vec<Completion>) {
        if let Phase::Closing(end) = self.phase {
            if end <= now {
                return self.abandon_all(|fate| Error::Closed { fate }, completions);
            }
            self.scan_by(end);
        }
        let hold = match self.no_path {
            NoPath::Hold { time, .. } => time,
            NoPath::Fail => Duration::ZERO,
        };
        for index in 0..self.config.depth {
            let Some(request) = self.requests.at(index) else { continue };
            if request.state == State::Done {
                continue;
            }
            let held_until = request.history().held_since.map_or(Tick::MAX, |since| since.after(hold));
            let deadline = request.deadline;
            if deadline <= now {
                self.abandon(index, |fate| Error::DeadlineExceeded { fate }, completions);
            } else if held_until <= now {
                self.parked.retain(|&parked| parked != index);
                self.fail_without_path(now, index, completions);
            } else if deadline.min(held_until) < Tick::MAX {
                self.scan_by(deadline.min(held_until));
            }
        }
    }

    fn scan_attempts(&mut self, now: Tick) {
        let allowance = self.config.suspect_after;
        for index in 0..u32::try_from(self.attempts.capacity()).unwrap_or(u32::MAX) {
            let Some(attempt) = self.attempts.at_mut(index) else { continue };
            if attempt.progress == Progress::Abandoned {
                continue;
            }
            attempt.started = attempt.started.min(now);
            let due = attempt.started.after(allowance);
            if due > now {
                self.scan_by(due);
                continue;
            }
            self.overdue(now, index);
            self.scan_by(now.after(allowance / 4));
        }
    }

    /// An attempt has been out for longer than its path is allowed: the path is suspect, and what changes nothing on
    /// the medium goes another way if there is one. The late attempt keeps its memory.
    fn overdue(&mut self, now: Tick, index: u32) {
        let Some(attempt) = self.attempts.at_mut(index) else { return };
        let (slot, incarnation, request) = (usize::from(attempt.slot), attempt.incarnation, attempt.request);
        let age = now.since(attempt.started);
        let news = !std::mem::replace(&mut attempt.late, true);
        let (path, admission) = (self.routes.id(slot), self.routes.standing(slot).admission);
        let current = self.routes.standing(slot).incarnation == incarnation;
        if news && current {
            self.evidence.push(Evidence::Silent { path, admission, age });
            self.routes.distrust(slot);
        }
        let Some(waiting) = self.requests.at_mut(request) else { return };
        if waiting.operation.is_write() {
            if news {
                self.evidence.push(Evidence::Unfenced { path, incarnation });
            }
            return;
        }
        let before = waiting.history().tried;
        // A later connection of the same path is another way.
        let here = if current { bit(slot) } else { 0 };
        waiting.history_mut().tried |= here;
        let elsewhere = self.routes_of(request) & !here;
        if elsewhere == 0 || !self.has_memory(request) {
            if let Some(waiting) = self.requests.at_mut(request) {
                waiting.history_mut().tried = before;
            }
            return;
        }
        if let (Some(key), Some(attempt)) = (self.attempts.key(index), self.attempts.at_mut(index)) {
            attempt.progress = Progress::Abandoned;
            self.cancels.push(Cancel { slot, incarnation, attempt: id(self.config.queue, key) });
        }
        self.requeue(request);
    }
}
