//! Up, suspect, down: what evidence, probes and connections do to a path; and its fences.

use crate::engine::{Ghost, Health};
use crate::error::{Cause, Error};
use crate::io::PathId;
use crate::path::{AccessState, Description, FenceGrade, FenceSupport, Incarnation, QueueIndex};
use crate::time::Tick;

use super::EventKind;
use super::member::{Inferred, Linked, Member, Task};
use super::supervisor::{Action, Supervisor};

impl Supervisor {
    // Evidence.

    /// An attempt failed or is late. The path is looked into; until then it is the last resort.
    pub(super) fn doubt(&mut self, now: Tick, path: PathId, admission: u32, why: EventKind) {
        let Some(member) = self.member(path) else { return };
        if member.admission != admission || member.health != Health::Up {
            return;
        }
        member.health = Health::Suspect;
        member.last_up = now;
        self.say(now, Some(path), why);
        self.touch();
        self.probe(now, path);
    }

    /// The path did not take an attempt: it connects anew.
    pub(super) fn lost(
        &mut self,
        now: Tick,
        path: PathId,
        admission: u32,
        incarnation: Incarnation,
        cause: Cause,
    ) {
        let pause = self.config.probe_interval;
        let Some(member) = self.member(path) else { return };
        if member.admission != admission || member.incarnation != incarnation {
            return;
        }
        // One that connects and then takes nothing is not asked again without a pause.
        let at_once = now.since(member.up_since) >= pause;
        self.down(now, path, cause.to_string());
        if at_once {
            return self.reconnect(path);
        }
        self.unlink(path);
        self.failed_again(now, path);
    }

    pub(super) fn broken(&mut self, now: Tick, path: PathId, admission: u32, what: &'static str) {
        let Some(member) = self.member(path) else { return };
        if member.admission != admission {
            return;
        }
        self.down(now, path, format!("its code {what}"));
        self.failed_again(now, path);
    }

    /// A queue cannot use the present connection: the path takes a new one, after a pause.
    pub(super) fn unusable(&mut self, now: Tick, path: PathId, incarnation: Incarnation, reason: String) {
        let Some(member) = self.member(path) else { return };
        if member.incarnation != incarnation {
            return;
        }
        self.down(now, path, reason);
        self.unlink(path);
        self.failed_again(now, path);
    }

    pub(super) fn refused(&mut self, now: Tick, path: PathId, state: AccessState) {
        let pause = self.config.probe_interval;
        let Some(member) = self.member(path) else { return };
        member.access_inferred = Inferred::Yes;
        member.next_try = member.next_try.min(now.after(pause));
        if member.access != state {
            member.access = state;
            self.say(now, Some(path), EventKind::Access(state));
            self.touch();
        }
    }

    // Reports.

    pub(super) fn probed(
        &mut self,
        now: Tick,
        path: PathId,
        incarnation: Incarnation,
        result: Result<(), Cause>,
    ) {
        let promised = self.config.promise.geometry.capacity();
        let Some(member) = self.member(path) else { return };
        let expected = matches!(member.task, Task::Probing(_)) && member.incarnation == incarnation;
        if !expected {
            // Of an earlier connection, or not asked for.
            return;
        }
        member.task = Task::Idle;
        match result {
            Ok(()) if member.capacity < promised => {
                let reason = too_small(member.capacity, promised);
                self.down(now, path, reason);
                self.failed_again(now, path);
            }
            Ok(()) => self.admit(now, path),
            Err(Cause::NotConnected) => {
                self.down(now, path, Cause::NotConnected.to_string());
                self.reconnect(path);
            }
            Err(cause) => {
                self.down(now, path, cause.to_string());
                self.failed_again(now, path);
            }
        }
    }

    /// The helper has tried to connect. Whether the connection is the path's present one now.
    pub(crate) fn connected(
        &mut self,
        now: Tick,
        path: PathId,
        incarnation: Incarnation,
        result: Result<Description, Error>,
    ) -> bool {
        let Some(member) = self.member(path) else { return false };
        if member.task != Task::Connecting(incarnation) {
            return false;
        }
        member.task = Task::Idle;
        let (name, terms) = (member.name.clone(), member.terms);
        let checked = result.and_then(|description| {
            self.check(&name, terms, &description, Some(path))?;
            Ok(description)
        });
        match checked {
            Ok(description) => {
                self.reconnected(now, path, description);
                true
            }
            Err(error) => {
                self.down(now, path, error.to_string());
                self.failed_again(now, path);
                false
            }
        }
    }

    fn reconnected(&mut self, now: Tick, path: PathId, description: Description) {
        let scope = self.scope_of(path, &description.cache);
        let Some(member) = self.member(path) else { return };
        member.linked = Linked::Yes;
        (member.access, member.access_inferred) = (description.access, Inferred::No);
        member.scope = scope;
        member.capacity = description.geometry.capacity();
        member.description = description;
        let count = member.incarnation.get();
        self.say(now, Some(path), EventKind::Reconnected(count));
        self.touch();
        // A connection that stands is not yet a path that works.
        self.probe(now, path);
    }

    pub(super) fn fenced(&mut self, now: Tick, path: PathId, through: Incarnation, grade: FenceGrade) {
        let Some(member) = self.member(path) else { return };
        // Nothing can be said of a connection that is in use.
        let through = through.min(member.fencing);
        if through <= member.fenced {
            return;
        }
        member.fenced = through;
        self.ghosts().retire(|ghost: &Ghost| ghost.path == path && ghost.incarnation <= through);
        self.say(now, Some(path), EventKind::Fenced(grade));
        self.touch();
        self.close_if_free(now, path);
    }

    pub(super) fn access_changed(&mut self, now: Tick, path: PathId, state: AccessState) {
        let Some(member) = self.member(path) else { return };
        member.access_inferred = Inferred::No;
        if member.access != state {
            member.access = state;
            self.say(now, Some(path), EventKind::Access(state));
            self.touch();
        }
    }

    pub(super) fn capacity_changed(&mut self, now: Tick, path: PathId, blocks: u64) {
        let promised = self.config.promise.geometry.capacity();
        let Some(member) = self.member(path) else { return };
        member.capacity = blocks;
        self.say(now, Some(path), EventKind::Capacity(blocks));
        if blocks < promised {
            self.down(now, path, too_small(blocks, promised));
            self.failed_again(now, path);
        }
    }

    // Fences.

    /// A write waits until nothing of `incarnation` can land any more.
    pub(super) fn needs_fence(&mut self, now: Tick, path: PathId, incarnation: Incarnation) {
        let Some(member) = self.member(path) else {
            // The path is gone, and with it every connection: only its ghosts are left, and they stay.
            return;
        };
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
    fn fence_again(&mut self, path: PathId) {
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
    fn start_quiet_time(&mut self, now: Tick, path: PathId) {
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

    // What is due.

    /// Does what is due by the clock.
    pub(crate) fn advance(&mut self, now: Tick) {
        for slot in 0..self.members.len() {
            let Some(member) = &self.members[slot] else { continue };
            if self.due(member).is_some_and(|due| due <= now) {
                self.act(now, member.id);
            }
        }
    }

    pub(super) fn due(&self, member: &Member) -> Option<Tick> {
        let task = match member.task {
            Task::Idle => (member.next_try < Tick::MAX).then_some(member.next_try),
            Task::Probing(since) if member.health == Health::Suspect => {
                Some(since.after(self.config.probe_timeout))
            }
            Task::Probing(_) | Task::Connecting(_) | Task::Closing => None,
        };
        [task, member.quiet_at].into_iter().flatten().min()
    }

    fn act(&mut self, now: Tick, path: PathId) {
        let timeout = self.config.probe_timeout;
        let Some(member) = self.member(path) else { return };
        if member.quiet_at.is_some_and(|quiet| quiet <= now) {
            member.quiet_at = None;
            let through = member.fencing;
            self.fenced(now, path, through, FenceGrade::Assumed);
        }
        let Some(member) = self.member(path) else { return };
        match member.task {
            Task::Idle if member.next_try <= now => self.look_again(now, path),
            Task::Probing(since) if member.health == Health::Suspect && since.after(timeout) <= now => {
                self.down(now, path, format!("no answer to a probe within {} ms", timeout.as_millis()));
            }
            _ => {}
        }
    }

    /// Tries whether a path works again.
    fn look_again(&mut self, now: Tick, path: PathId) {
        let Some(member) = self.member(path) else { return };
        match member.linked {
            Linked::Yes => self.probe(now, path),
            Linked::No => self.connect(path),
        }
    }

    fn probe(&mut self, now: Tick, path: PathId) {
        let Some(member) = self.member(path) else { return };
        if member.task == Task::Idle {
            member.task = Task::Probing(now);
            member.next_try = Tick::MAX;
            let incarnation = member.incarnation;
            self.actions.push_back(Action::Probe { path, incarnation });
        }
    }

    /// The present connection is over: queues stop using it at once, and a new one is sought. A probe that is out is of
    /// no interest any more: its answer will be that of an earlier connection.
    fn reconnect(&mut self, path: PathId) {
        self.unlink(path);
        self.connect(path);
    }

    fn unlink(&mut self, path: PathId) {
        let Some(member) = self.member(path) else { return };
        if let Task::Probing(_) = member.task {
            member.task = Task::Idle;
        }
        if member.linked == Linked::Yes {
            member.incarnation = member.incarnation.next();
            member.linked = Linked::No;
            self.touch();
        }
    }

    fn connect(&mut self, path: PathId) {
        let Some(member) = self.member(path) else { return };
        if member.task == Task::Idle {
            let incarnation = member.incarnation;
            member.task = Task::Connecting(incarnation);
            member.next_try = Tick::MAX;
            self.actions.push_back(Action::Connect { path, incarnation });
        }
    }

    /// The path works: whatever was held against it is over.
    fn admit(&mut self, now: Tick, path: PathId) {
        let Some(member) = self.member(path) else { return };
        member.failures = 0;
        member.next_try = Tick::MAX;
        if member.access_inferred == Inferred::Yes {
            (member.access, member.access_inferred) = (member.description.access, Inferred::No);
        }
        member.admission += 1;
        let was = member.health;
        member.health = Health::Up;
        let away = now.since(member.last_up);
        if was != Health::Up {
            member.up_since = now;
            self.say(now, Some(path), EventKind::Up(away));
        }
        self.touch();
        self.fence_again(path);
    }

    fn down(&mut self, now: Tick, path: PathId, reason: String) {
        let Some(member) = self.member(path) else { return };
        if member.health == Health::Down {
            return;
        }
        if member.health == Health::Up {
            member.last_up = now;
        }
        member.health = Health::Down;
        self.say(now, Some(path), EventKind::Down(reason));
        self.touch();
    }

    /// One more failure in a row: looks again after a pause.
    fn failed_again(&mut self, now: Tick, path: PathId) {
        let base = self.config.probe_interval;
        let Some(member) = self.member(path) else { return };
        member.failures = member.failures.saturating_add(1);
        if member.health != Health::Up {
            let due = now.after(member.pause(base));
            member.next_try = member.next_try.min(due);
        }
    }
}

fn too_small(blocks: u64, promised: u64) -> String {
    format!(
        "has {blocks} blocks left, the volume has {promised}: give the device its size back, or remove the path"
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::block::{Geometry, Limits};
    use crate::control::{Config, Promise, Terms, Voucher};
    use crate::engine::{Common, Evidence, NoPath};
    use crate::path::Identity;
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
        let lost =
            Evidence::NotConnected { path, admission: 1, incarnation: first, cause: Cause::NotConnected };
        supervisor.evidence(NOW, QUEUE, lost);
        assert_eq!(actions(&mut supervisor), [Action::Connect { path, incarnation: second }]);
        supervisor.evidence(NOW, QUEUE, Evidence::Unfenced { path, incarnation: first });
        assert_eq!(actions(&mut supervisor), [Action::Fence { path, through: first }]);
    }

    #[test]
    fn a_path_may_come_back_that_another_was_vouched_to_be_the_same_as() {
        let (mut supervisor, path) = supervisor();
        let description = supervisor.member(path).unwrap().description.clone();
        let mut vouched = Terms::default();
        vouched.voucher = Voucher::Caller;
        supervisor.join(NOW, "other".to_owned(), vouched, description.clone()).unwrap();
        let first = Incarnation::NONE.next();
        let lost =
            Evidence::NotConnected { path, admission: 1, incarnation: first, cause: Cause::NotConnected };
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
