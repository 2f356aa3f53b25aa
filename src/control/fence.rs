//! Fences: making sure, or waiting until it can be assumed, that nothing sent over earlier connections of a path still
//! takes effect.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::{Ghost, Health, Retired};
use crate::error::Cause;
use crate::io::PathId;
use crate::path::{FenceGrade, FenceSupport, Incarnation, QueueIndex};
use crate::time::Tick;

use super::EventKind;
use super::member::{Linked, Over};
use super::supervisor::{Action, Supervisor};

/// What the fences of a path's connections are at.
#[derive(Debug, Default)]
pub(super) struct Fences {
    /// Nothing of connections up to this one can take effect any more.
    pub(super) done: Incarnation,
    /// Something of connections up to this one may still take effect.
    pub(super) wanted: Incarnation,
    /// A fence was begun through this one.
    begun: Incarnation,
    /// Somebody says that nothing of connections up to this one can take effect once the queues have left them.
    vouched: Incarnation,
    /// Since when something waits, and when that is told (again).
    waiting: Option<Waiting>,
    /// Whether the path was asked for its own fence and has not answered.
    asked: bool,
    /// When a fence that failed is asked for again.
    again: Option<Tick>,
    /// Times that it failed in a row.
    failures: u32,
    /// Connections up to this one have to be waited out for so long at least, whatever a later one would need.
    slowest: (Incarnation, Duration),
    /// Assumed fences that are being waited out, oldest first: each from its own connection's end, however many follow.
    quiet: VecDeque<Quiet>,
}

/// A fence that comes by itself.
#[derive(Clone, Copy, Debug)]
struct Quiet {
    through: Incarnation,
    end: Tick,
    grade: FenceGrade,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    since: Tick,
    overdue: Tick,
}

impl Fences {
    /// Since when something waits for a fence.
    pub(super) fn waiting_since(&self) -> Option<Tick> {
        self.waiting.map(|waiting| waiting.since)
    }

    /// The path is fenced otherwise from now on. What was sent over the connections up to `through` is not for that.
    pub(super) fn change_rule(&mut self, through: Incarnation, before: FenceSupport, after: FenceSupport) {
        if let FenceSupport::Assumed(time) = before
            && before != after
        {
            self.slowest = (through, self.slowest.1.max(time));
        }
    }

    /// When there is something to do next.
    pub(super) fn due(&self) -> Option<Tick> {
        let quiet = self.quiet.front().map(|quiet| quiet.end);
        [quiet, self.again, self.waiting.map(|waiting| waiting.overdue)].into_iter().flatten().min()
    }
}

impl Supervisor {
    /// A write waits until nothing of `incarnation` can land any more.
    pub(super) fn needs_fence(&mut self, now: Tick, path: PathId, incarnation: Incarnation) {
        let patience = self.config.probe_timeout;
        let Some(member) = self.member(path) else {
            // The path is gone, and with it every connection: only its ghosts are left, and they stay.
            return;
        };
        let fences = &mut member.fences;
        if incarnation <= fences.done {
            // Said by a queue that had not heard of the fence yet: its ghosts came too late to be laid by it.
            return self.lay_ghosts(path, incarnation);
        }
        let news = incarnation > fences.wanted;
        fences.wanted = fences.wanted.max(incarnation);
        fences.waiting.get_or_insert(Waiting { since: now, overdue: now.after(patience) });
        // All that is wanted at once: a fence that failed for a later connection is not forgotten over an earlier one.
        let incarnation = fences.wanted;
        if incarnation <= fences.begun {
            return;
        }
        match member.description.fence {
            FenceSupport::None => {
                if news {
                    self.say(now, Some(path), EventKind::Unfenced);
                }
            }
            FenceSupport::Proven => {
                self.ask_fence(path, incarnation);
                self.end_connection(now, path, incarnation, "writes of unknown fate are being fenced");
            }
            FenceSupport::Resend => {
                let reason = "connects anew: writes of unknown fate are sent again at the user's risk";
                fences.begun = incarnation;
                self.end_connection(now, path, incarnation, reason);
                self.fenced(now, path, incarnation, FenceGrade::None);
            }
            FenceSupport::Answered | FenceSupport::Assumed(_) => {
                let reason = "connects anew, so that earlier writes can be waited out";
                self.end_connection(now, path, incarnation, reason);
                self.start_quiet_time(now, path);
            }
        }
    }

    /// Somebody says that nothing sent through this path, which may be gone, can take effect any more. Where it is in use and works,
    /// that is said of its earlier connections.
    pub(crate) fn vouch(&mut self, now: Tick, path: PathId) {
        let ghosts = self.ghosts().through(path);
        let Some(member) = self.member(path) else { return self.lay_ghosts(path, Incarnation::LAST) };
        let waits = ghosts.max(member.fences.wanted);
        let is_spared =
            member.linked == Linked::No || member.health == Health::Up && waits < member.incarnation;
        let through = if is_spared { member.incarnation.previous() } else { member.incarnation };
        member.fences.vouched = member.fences.vouched.max(through);
        self.end_connection(now, path, through, "connects anew: earlier writes are vouched for");
        self.settle_fences(now, path);
    }

    /// What was vouched for holds once every queue has left those connections.
    fn settle_vouched(&mut self, now: Tick, path: PathId) {
        let idle = self.idle_queues();
        let Some(member) = self.member(path) else { return };
        let left = member.over_in(&idle).map_or(Incarnation::LAST, |over| over.left);
        let through = member.fences.vouched;
        if through <= member.fences.done {
            // Ghosts may have come after it.
            self.lay_ghosts(path, through);
        } else if through <= left {
            member.fences.begun = member.fences.begun.max(through);
            self.fenced(now, path, through, FenceGrade::Vouched);
        }
    }

    /// Nothing is sent over `through` any more: if it is the present connection, another takes its place.
    fn end_connection(&mut self, now: Tick, path: PathId, through: Incarnation, reason: &str) {
        if self.member(path).is_some_and(|member| member.incarnation == through) {
            self.down(now, path, reason.to_owned());
            self.reconnect(now, path);
        }
    }

    fn ask_fence(&mut self, path: PathId, through: Incarnation) {
        let Some(member) = self.member(path) else { return };
        let fences = &mut member.fences;
        (fences.begun, fences.asked, fences.again) = (through, true, None);
        self.actions.push_back(Action::Fence { path, through });
    }

    /// The path can be fenced otherwise than it said on connecting. What waits for a fence may have one now.
    pub(super) fn fence_support_changed(&mut self, now: Tick, path: PathId, support: FenceSupport) {
        let Some(member) = self.member(path) else { return };
        member.fences.change_rule(member.incarnation, member.description.fence, support);
        member.description.fence = support;
        // It was of the other.
        member.description.fence_derivation.clear();
        let wanted = member.fences.wanted;
        self.needs_fence(now, path, wanted);
    }

    /// The path could not make the fence that it was asked for. It is asked again, after a pause that grows.
    pub(super) fn fence_failed(&mut self, now: Tick, path: PathId, through: Incarnation, cause: Cause) {
        let base = self.config.probe_interval;
        let Some(member) = self.member(path) else { return };
        let fences = &mut member.fences;
        if fences.begun != through || fences.done >= through || !fences.asked {
            return;
        }
        let is_first = fences.failures == 0;
        fences.failures = fences.failures.saturating_add(1);
        (fences.begun, fences.asked) = (fences.done, false);
        fences.again = Some(now.after(base.saturating_mul(1 << (fences.failures - 1).min(4))));
        if is_first {
            self.say(now, Some(path), EventKind::FenceFailed(cause));
        }
    }

    /// Does what the clock says of a path's fences.
    pub(super) fn advance_fences(&mut self, now: Tick, path: PathId) {
        while let Some(member) = self.member(path)
            && let Some(quiet) = member.fences.quiet.pop_front_if(|quiet| quiet.end <= now)
        {
            self.fenced(now, path, quiet.through, quiet.grade);
        }
        let Some(member) = self.member(path) else { return };
        if member.fences.again.is_some_and(|again| again <= now) {
            self.ask_fence_again(now, path);
        }
        self.remind_of_fence(now, path);
    }

    /// Says for how long something has waited for a fence, each time that it has waited twice as long. A path that was asked is
    /// asked once more: the question may have been lost.
    fn remind_of_fence(&mut self, now: Tick, path: PathId) {
        let Some(member) = self.member(path) else { return };
        let Fences { begun, asked, .. } = member.fences;
        let Some(waiting) = member.fences.waiting.as_mut().filter(|waiting| waiting.overdue <= now) else {
            return;
        };
        let age = now.since(waiting.since);
        waiting.overdue = now.after(age);
        self.say(now, Some(path), EventKind::FenceOverdue(age));
        if asked {
            self.actions.push_back(Action::Fence { path, through: begun });
        }
    }

    /// Asks again for a fence that failed, without waiting for the pause to end.
    pub(super) fn ask_fence_again(&mut self, now: Tick, path: PathId) {
        let Some(member) = self.member(path) else { return };
        let Fences { wanted, done, .. } = member.fences;
        member.fences.again = None;
        if wanted > done {
            self.needs_fence(now, path, wanted);
        }
    }

    /// A queue tells how far it is done with the connections of a path.
    pub(super) fn over(&mut self, now: Tick, path: PathId, queue: QueueIndex, news: Over) {
        let Some(member) = self.member(path) else { return };
        if let Some(over) = member.over.get_mut(usize::from(queue.0)) {
            *over = news;
        }
        let had_another_cache = !member.former.is_empty();
        self.settle_fences(now, path);
        if had_another_cache {
            self.touch();
        }
    }

    /// Queues are done with connections, or with everything: what waited for that goes on.
    pub(super) fn settle_fences(&mut self, now: Tick, path: PathId) {
        self.settle_vouched(now, path);
        self.start_quiet_time(now, path);
    }

    /// What waits for an assumed fence is assumed dead a quiet time after every queue has everything back: what a path
    /// still holds, it may still send.
    fn start_quiet_time(&mut self, now: Tick, path: PathId) {
        let idle = self.idle_queues();
        let Some(member) = self.member(path) else { return };
        let back = member.over_in(&idle).map_or(member.incarnation, |over| over.drained);
        let through = back.min(member.fences.wanted);
        let (mut time, mut grade) = match member.description.fence {
            FenceSupport::Answered => (Duration::ZERO, FenceGrade::Proven),
            FenceSupport::Assumed(time) => (time, FenceGrade::Assumed),
            FenceSupport::Proven | FenceSupport::Resend | FenceSupport::None => return,
        };
        let (slowest, longest) = member.fences.slowest;
        if member.fences.done < slowest {
            (time, grade) = (time.max(longest), FenceGrade::Assumed);
        }
        if through > member.fences.begun {
            member.fences.begun = through;
            member.fences.quiet.push_back(Quiet { through, end: now.after(time), grade });
        }
    }

    /// Nothing that was sent over the connections up to `through` can take effect any more.
    pub(super) fn fenced(&mut self, now: Tick, path: PathId, through: Incarnation, grade: FenceGrade) {
        let Some(member) = self.member(path) else { return };
        let fences = &mut member.fences;
        // Nothing can be said of a connection that is in use.
        let through = through.min(fences.begun);
        if through <= fences.done {
            return;
        }
        fences.done = through;
        if through >= fences.begun {
            (fences.asked, fences.failures) = (false, 0);
        }
        if through >= fences.wanted {
            fences.waiting = None;
        }
        self.lay_ghosts(path, through);
        self.say(now, Some(path), EventKind::Fenced(grade));
        self.touch();
        self.close_if_free(now, path);
    }

    /// Nothing that was sent over these connections of a path can land any more.
    fn lay_ghosts(&mut self, path: PathId, through: Incarnation) {
        if self.ghosts().retire(|ghost: &Ghost| ghost.path == path && ghost.incarnation <= through)
            == Retired::Some
        {
            self.touch();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::block::{Geometry, Limits};
    use crate::control::{Config, Promise, Terms, Voucher};
    use crate::engine::{Common, Evidence, NoPath};
    use crate::error::Cause;
    use crate::path::{ControlReport, Description, Identity, News};
    use crate::policy::RoundRobin;

    const JOINED: Tick = Tick::from_nanos(1);
    /// Long enough after, so that a lost connection is made anew at once.
    const NOW: Tick = Tick::from_nanos(1_000_000_000);
    const QUEUE: QueueIndex = QueueIndex(0);

    /// A supervisor with one path that has a proven fence.
    fn supervisor() -> (Supervisor, PathId) {
        let (geometry, limits) = (Geometry::new(512, 64).unwrap(), Limits::new(4096));
        let config = Config {
            queues: 1,
            promise: Promise { geometry, limits },
            probe_interval: Duration::from_millis(10),
            probe_timeout: Duration::from_millis(10),
            check_interval: Duration::from_secs(1),
        };
        let make = Arc::new(RoundRobin::default());
        let mut supervisor = Supervisor::new(config, NoPath::Fail, make, Arc::new(Common::new(1, geometry)));
        let mut description = Description::new(Identity::none(), geometry, limits);
        description.fence = FenceSupport::Proven;
        let path = supervisor.join(JOINED, "path".to_owned(), Terms::default(), description).unwrap();
        (supervisor, path)
    }

    fn actions(supervisor: &mut Supervisor) -> Vec<Action> {
        std::iter::from_fn(|| supervisor.take_action()).collect()
    }

    #[test]
    fn a_connection_that_is_being_made_is_not_fenced() {
        let (mut supervisor, path) = supervisor();
        let first = Incarnation::NONE.next();
        let second = first.next();
        let lost = Evidence::NotConnected { path, incarnation: first, cause: Cause::NotConnected };
        supervisor.evidence(NOW, QUEUE, lost);
        assert_eq!(actions(&mut supervisor), [Action::Connect { path, incarnation: second }]);
        supervisor.evidence(NOW, QUEUE, Evidence::Unfenced { path, incarnation: first });
        assert_eq!(actions(&mut supervisor), [Action::Fence { path, through: first }]);
    }

    #[test]
    fn a_write_that_waits_gets_the_fence_that_the_path_has_since_found() {
        let (mut supervisor, path) = supervisor();
        supervisor.member(path).unwrap().description.fence = FenceSupport::None;
        let first = Incarnation::NONE.next();
        supervisor.evidence(NOW, QUEUE, Evidence::Unfenced { path, incarnation: first });
        assert_eq!(actions(&mut supervisor), []);
        let news = News::FenceSupport(FenceSupport::Proven);
        supervisor.report(NOW, &ControlReport { path, incarnation: first, news });
        let fence = Action::Fence { path, through: first };
        let connect = Action::Connect { path, incarnation: first.next() };
        assert_eq!(actions(&mut supervisor), [fence, connect]);
    }

    #[test]
    fn a_path_may_come_back_that_another_was_vouched_to_be_the_same_as() {
        let (mut supervisor, path) = supervisor();
        let description = supervisor.member(path).unwrap().description.clone();
        let vouched = Terms { voucher: Voucher::Caller, ..Terms::default() };
        supervisor.join(NOW, "other".to_owned(), vouched, description.clone()).unwrap();
        let first = Incarnation::NONE.next();
        let lost = Evidence::NotConnected { path, incarnation: first, cause: Cause::NotConnected };
        supervisor.evidence(NOW, QUEUE, lost);
        assert!(supervisor.connected(NOW, path, first.next(), Ok(description)));
    }

    #[test]
    fn a_fence_that_failed_is_not_forgotten_over_one_of_an_earlier_connection() {
        let (mut supervisor, path) = supervisor();
        let first = Incarnation::NONE.next();
        let second = first.next();
        let lost = Evidence::NotConnected { path, incarnation: first, cause: Cause::NotConnected };
        supervisor.evidence(NOW, QUEUE, lost);
        let description = supervisor.member(path).unwrap().description.clone();
        assert!(supervisor.connected(NOW, path, second, Ok(description)));
        supervisor.evidence(NOW, QUEUE, Evidence::Unfenced { path, incarnation: second });
        let news = News::FenceFailed { through: second, cause: Cause::NotConnected };
        supervisor.report(NOW, &ControlReport { path, incarnation: second, news });
        let _ = actions(&mut supervisor);
        supervisor.evidence(NOW, QUEUE, Evidence::Unfenced { path, incarnation: first });
        assert_eq!(actions(&mut supervisor), [Action::Fence { path, through: second }]);
    }

    #[test]
    fn a_connection_in_use_is_fenced_and_made_anew() {
        let (mut supervisor, path) = supervisor();
        let first = Incarnation::NONE.next();
        supervisor.evidence(NOW, QUEUE, Evidence::Unfenced { path, incarnation: first });
        let fence = Action::Fence { path, through: first };
        let connect = Action::Connect { path, incarnation: first.next() };
        assert_eq!(actions(&mut supervisor), [fence, connect]);
        supervisor.evidence(NOW, QUEUE, Evidence::Unfenced { path, incarnation: first });
        assert_eq!(actions(&mut supervisor), [], "once is enough");
    }
}
