//! What is due: attempts that have been out for too long, deadlines, holds, rests.
//!
//! Nothing is kept sorted. One scan of the tables does what is due and finds when the next scan must be: an attempt that
//! starts after a scan falls due after it by a whole allowance, so the chain of scans misses nothing, and the data path
//! pays nothing.

use std::time::Duration;

use crate::error::Error;
use crate::io::Completion;
use crate::time::Tick;

use super::request::{AttemptSlot, Progress, RequestSlot, Stage, State};
use super::routes::{Standing, bit};
use super::{Engine, Evidence, LOST_AFTER, Lists, Phase, Sharing, id};

/// Requests that may wait for paths in trouble without taking room from others, in depths of the queue.
const MOST_STUCK: usize = 3;

/// Least time that a path has to say that it works when an attempt is late.
const LEAST_VERDICT: Duration = Duration::from_millis(15);

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
        self.parked.recheck = true;
        self.scan_requests(now, completions);
        self.scan_attempts(now);
        if !self.unasked.is_empty() {
            self.ask_put_off(now);
            self.scan_by(now.after(self.config.suspect_after / 4));
        }
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
        let (mut stuck, mut fencing) = (0, 0);
        for index in self.requests.indices() {
            let Some(request) = self.requests.at(index) else { continue };
            stuck += usize::from(self.is_stuck(request));
            fencing += usize::from(matches!(request.state, State::Fencing { .. }));
            let held_until = request.history().held_until.unwrap_or(Tick::MAX);
            let deadline = request.deadline;
            if deadline <= now {
                self.abandon(index, |fate| Error::DeadlineExceeded { fate }, completions);
            } else if held_until <= now {
                self.lists = Lists::Untidy;
                self.fail_without_path(now, index, completions);
            } else if deadline.min(held_until) < Tick::MAX {
                self.scan_by(deadline.min(held_until));
            }
        }
        self.fencing = fencing;
        self.stuck = stuck.min(self.config.depth as usize * MOST_STUCK);
        if stuck > 0 {
            self.scan_by(now.after(self.config.suspect_after / 4));
        }
        if self.lists == Lists::Untidy {
            self.tidy();
        }
    }

    /// Whether a request waits for what only one path can say: a write that may have been done there, or whose attempt is
    /// late, or what comes after such a write.
    fn is_stuck(&self, request: &RequestSlot) -> bool {
        match request.state {
            State::Fencing { .. } => true,
            State::Out => {
                let is_late = |attempt: &AttemptSlot| attempt.stage != Stage::InTime;
                self.attempts.at(request.attempts).is_some_and(is_late)
            }
            State::Parked => !request.is_held(),
            State::Ready | State::Done => false,
        }
    }

    fn scan_attempts(&mut self, now: Tick) {
        self.routes.turn(now);
        for index in self.attempts.indices() {
            let Some(attempt) = self.attempts.at_mut(index) else { continue };
            // The answer to one that was left behind for another still tells of its path.
            if attempt.progress == Progress::Abandoned && attempt.stage != Stage::Late {
                self.see_whether_lost(now, index);
                continue;
            }
            attempt.started = attempt.started.min(now);
            attempt.due = attempt.due.min(self.config.limit(now, attempt.patience));
            if attempt.due <= now {
                self.overdue(now, index);
            } else if self.rerouted && attempt.stage != Stage::InTime {
                self.go_elsewhere(now, index);
            }
            if let Some(attempt) = self.attempts.at(index) {
                let due = attempt.due;
                self.scan_by(due);
            }
        }
        self.rerouted = false;
    }

    /// An attempt for which nobody waits is lost when it has no answer for long enough: its connection, which may be over already,
    /// is fenced, since its memory and its place on the path would be lost otherwise.
    fn see_whether_lost(&mut self, now: Tick, index: u32) {
        let Some(attempt) = self.attempts.at_mut(index) else { return };
        let (slot, incarnation) = (usize::from(attempt.slot), attempt.incarnation);
        if attempt.unfenced || incarnation <= self.routes.standing(slot).fenced {
            return;
        }
        let due = attempt.started.after(self.config.suspect_after * LOST_AFTER);
        if now < due {
            return self.scan_by(due);
        }
        attempt.unfenced = true;
        self.evidence.push(Evidence::Unfenced { path: self.routes.id(slot), incarnation });
    }

    /// An attempt takes longer than is usual, or than it may.
    fn overdue(&mut self, now: Tick, index: u32) {
        let Some(attempt) = self.attempts.at(index) else { return };
        let limit = self.config.limit(attempt.started, attempt.patience);
        let standing = self.routes.standing(attempt.slot.into());
        let has_answered = standing.admission != attempt.admission;
        match attempt.stage {
            Stage::InTime if now < limit => self.is_late(now, index),
            // It has answered since: it is slow at the most.
            Stage::Late if now < limit && has_answered => self.look_again_by(index, limit),
            Stage::InTime | Stage::Late => self.is_silent(now, index),
            Stage::Silent => self.go_elsewhere(now, index),
        }
    }

    fn look_again_by(&mut self, index: u32, due: Tick) {
        if let Some(attempt) = self.attempts.at_mut(index) {
            attempt.due = due;
        }
    }

    /// An attempt takes longer than is usual there: the path is asked, and new requests go elsewhere until it has answered.
    fn is_late(&mut self, now: Tick, index: u32) {
        let Some(attempt) = self.attempts.at_mut(index) else { return };
        let slot = usize::from(attempt.slot);
        let Standing { admission, incarnation, .. } = *self.routes.standing(slot);
        let age = now.since(attempt.started);
        (attempt.stage, attempt.admission) = (Stage::Late, admission);
        attempt.due = now.after(age.max(LEAST_VERDICT));
        self.routes.mark_stale(attempt);
        if incarnation == attempt.incarnation && self.routes.believed() & bit(slot) != 0 {
            self.evidence.push(Evidence::Late { path: self.routes.id(slot), admission });
            self.routes.distrust(slot);
        }
        self.go_elsewhere(now, index);
    }

    /// An attempt has been out for longer than its path is allowed: the path is suspect.
    fn is_silent(&mut self, now: Tick, index: u32) {
        let Some(attempt) = self.attempts.at_mut(index) else { return };
        let (slot, age) = (usize::from(attempt.slot), now.since(attempt.started));
        attempt.stage = Stage::Silent;
        self.routes.mark_stale(attempt);
        let Standing { admission, incarnation, .. } = *self.routes.standing(slot);
        if incarnation == attempt.incarnation {
            self.evidence.push(Evidence::Silent { path: self.routes.id(slot), admission, age });
            self.routes.distrust(slot);
        }
        self.go_elsewhere(now, index);
    }

    /// What changes nothing on the medium goes another way if there is a better one, and so does what may be done twice; a write
    /// that is silent is to be fenced. The late attempt keeps its memory. It is not cancelled: its answer is welcome, if it comes
    /// first.
    fn go_elsewhere(&mut self, now: Tick, index: u32) {
        let (Some(key), Some(attempt)) = (self.attempts.key(index), self.attempts.at_mut(index)) else {
            return;
        };
        let (slot, incarnation, request) = (usize::from(attempt.slot), attempt.incarnation, attempt.request);
        let (stage, age) = (attempt.stage, now.since(attempt.started));
        if stage == Stage::Silent {
            attempt.due = now.after(self.config.suspect_after / 4);
        }
        if attempt.progress == Progress::Abandoned {
            return;
        }
        let (path, is_lost) = (self.routes.id(slot), age >= self.config.suspect_after * LOST_AFTER);
        // To leave a way that is slow for one that is as slow, or for none, gains nothing.
        let here = self.way(path, incarnation);
        let better = self.routes.trusted() & !here;
        let Some(waiting) = self.requests.at(request) else { return };
        let is_write = waiting.operation.is_write();
        // What is lost ends its connection, a read too: otherwise its place on the path would be lost for good.
        if stage == Stage::Silent
            && (is_write && better != 0 || is_lost)
            && let Some(attempt) = self.attempts.at_mut(index)
            && !std::mem::replace(&mut attempt.unfenced, true)
        {
            self.evidence.push(Evidence::Unfenced { path, incarnation });
        }
        if is_write && self.config.sharing == Sharing::Shared {
            return self.bar_later(request);
        }
        // What is lost is asked for once more, also on the only path.
        let (left, ways) = if is_lost && !is_write { (0, self.routes.best()) } else { (here, better) };
        if self.routes_besides(request, left) & ways == 0 || !self.has_memory(request) {
            return;
        }
        if let Some(waiting) = self.requests.at_mut(request) {
            waiting.moved(left);
        }
        if let Some(attempt) = self.attempts.at_mut(index) {
            attempt.progress = Progress::Abandoned;
        }
        if is_write {
            self.resend(request, path, incarnation, Some(id(self.config.queue, key)));
            self.put_off(path, incarnation);
        }
        self.requeue(request);
    }
}
