//! Fences: making sure, or waiting until it can be assumed, that nothing sent over earlier connections of a path still
//! takes effect.

use crate::engine::{Ghost, Retired};
use crate::io::PathId;
use crate::path::{FenceGrade, FenceSupport, Incarnation, QueueIndex};
use crate::time::Tick;

use super::EventKind;
use super::supervisor::{Action, Supervisor};

impl Supervisor {
    /// A write waits until nothing of `incarnation` can land any more.
    pub(super) fn needs_fence(&mut self, now: Tick, path: PathId, incarnation: Incarnation) {
        let Some(member) = self.member(path) else {
            // The path is gone, and with it every connection: only its ghosts are left, and they stay.
            return;
        };
        if incarnation <= member.fenced {
            // Said by a queue that had not heard of the fence yet: its ghosts came too late to be laid by it.
            return self.lay_ghosts(path, incarnation);
        }
        let news = incarnation > member.unfenced;
        member.unfenced = member.unfenced.max(incarnation);
        if incarnation <= member.fencing {
            return;
        }
        match member.description.fence {
            FenceSupport::None => {
                if news {
                    self.say(now, Some(path), EventKind::Unfenced);
                }
            }
            FenceSupport::Proven => {
                member.fencing = incarnation;
                let current = incarnation == member.incarnation;
                self.actions.push_back(Action::Fence { path, through: incarnation });
                if current {
                    self.down(now, path, "writes of unknown fate are being fenced".to_owned());
                    self.reconnect(path);
                }
            }
            FenceSupport::Assumed(_) => {
                if incarnation == member.incarnation {
                    self.down(
                        now,
                        path,
                        "connects anew, so that earlier writes can be waited out".to_owned(),
                    );
                    self.reconnect(path);
                }
                self.start_quiet_time(now, path);
            }
        }
    }

    /// The path can be fenced otherwise than it said on connecting. What waits for a fence may have one now.
    pub(super) fn fence_support_changed(&mut self, now: Tick, path: PathId, support: FenceSupport) {
        let Some(member) = self.member(path) else { return };
        member.description.fence = support;
        let unfenced = member.unfenced;
        self.needs_fence(now, path, unfenced);
    }

    /// The path's code failed on a fence. It is asked again when the path works again.
    pub(super) fn fence_failed(&mut self, now: Tick, path: PathId, through: Incarnation) {
        let Some(member) = self.member(path) else { return };
        if member.fencing != through || member.fenced >= through {
            return;
        }
        member.fencing = member.fenced;
        let text = "its code panicked on fencing: writes of unknown fate wait until it is fenced";
        self.say(now, Some(path), EventKind::Warning(text.to_owned()));
    }

    /// Asks again for a fence that failed.
    pub(super) fn fence_again(&mut self, path: PathId) {
        let Some(member) = self.member(path) else { return };
        let through = member.unfenced;
        if through > member.fencing && member.description.fence == FenceSupport::Proven {
            member.fencing = through;
            self.actions.push_back(Action::Fence { path, through });
        }
    }

    /// A queue has everything back that it sent over the connections up to `through`.
    pub(super) fn drained(&mut self, now: Tick, path: PathId, queue: QueueIndex, through: Incarnation) {
        let Some(member) = self.member(path) else { return };
        if let Some(drained) = member.drained.get_mut(usize::from(queue.0)) {
            *drained = through.max(*drained);
        }
        self.start_quiet_time(now, path);
    }

    /// What waits for an assumed fence is assumed dead a quiet time after every queue has everything back: what a path
    /// still holds, it may still send.
    pub(super) fn start_quiet_time(&mut self, now: Tick, path: PathId) {
        let finished = self.queues_finished().to_vec();
        let Some(member) = self.member(path) else { return };
        let back = member.drained.iter().zip(finished).filter(|&(_, finished)| !finished);
        let through = back.map(|(&drained, _)| drained).min().unwrap_or(member.incarnation);
        if let FenceSupport::Assumed(quiet) = member.description.fence
            && member.unfenced > member.fencing
            && member.unfenced <= through
        {
            member.fencing = member.unfenced;
            member.quiet_at = Some(now.after(quiet));
        }
    }

    /// Nothing that was sent over the connections up to `through` can take effect any more.
    pub(super) fn fenced(&mut self, now: Tick, path: PathId, through: Incarnation, grade: FenceGrade) {
        let Some(member) = self.member(path) else { return };
        // Nothing can be said of a connection that is in use.
        let through = through.min(member.fencing);
        if through <= member.fenced {
            return;
        }
        member.fenced = through;
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
        };
        let make = Arc::new(RoundRobin::default());
        let mut supervisor = Supervisor::new(config, NoPath::Fail, make, Arc::new(Common::new(1)));
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
