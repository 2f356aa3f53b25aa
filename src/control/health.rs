//! Up, suspect, down: what evidence, probes and connections do to a path.

use crate::engine::Health;
use crate::error::{Cause, Error};
use crate::io::PathId;
use crate::path::{AccessState, Description, FenceGrade, Incarnation};
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
    pub(super) fn lost(&mut self, now: Tick, path: PathId, incarnation: Incarnation, cause: Cause) {
        let pause = self.config.probe_interval;
        let Some(member) = self.member(path) else { return };
        if member.incarnation != incarnation {
            return;
        }
        // One that connects and then takes nothing is not asked again without a pause.
        let at_once = now.since(member.up_since) >= pause;
        self.down(now, path, cause.to_string());
        if at_once {
            return self.reconnect(path);
        }
        self.start_over(now, path);
    }

    pub(super) fn broken(&mut self, now: Tick, path: PathId, admission: u32, what: &'static str) {
        let Some(member) = self.member(path) else { return };
        if member.admission != admission {
            return;
        }
        self.down(now, path, format!("its code {what}"));
        self.start_over(now, path);
    }

    /// A queue cannot use the present connection: the path takes a new one, after a pause.
    pub(super) fn unusable(&mut self, now: Tick, path: PathId, incarnation: Incarnation, reason: String) {
        let Some(member) = self.member(path) else { return };
        if member.incarnation != incarnation {
            return;
        }
        self.down(now, path, reason);
        self.start_over(now, path);
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
        let Some(member) = self.member(path) else { return };
        let expected = matches!(member.task, Task::Probing(_)) && member.incarnation == incarnation;
        if !expected {
            // Of an earlier connection, or not asked for.
            return;
        }
        member.task = Task::Idle;
        match result {
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
            self.check_unchanged(&name, terms, &description, path)?;
            Ok(description)
        });
        match checked {
            Ok(description) => {
                self.reconnected(now, path, description);
                true
            }
            Err(error) => {
                self.hindered(now, path, error);
                false
            }
        }
    }

    /// There is no connection. Each reason is told, also of a path that is down for another one: it is what to mend.
    fn hindered(&mut self, now: Tick, path: PathId, error: Error) {
        let Some(member) = self.member(path) else { return };
        let reason = match error {
            Error::Path { path, problem } if path == member.name => problem,
            error => error.to_string(),
        };
        let news = std::mem::replace(&mut member.hindrance, reason.clone()) != reason;
        if news && member.health == Health::Down {
            self.say(now, Some(path), EventKind::Down(reason));
        } else {
            self.down(now, path, reason);
        }
        self.failed_again(now, path);
    }

    fn reconnected(&mut self, now: Tick, path: PathId, description: Description) {
        let scope = self.scope_of(path, &description.cache);
        let Some(member) = self.member(path) else { return };
        member.linked = Linked::Yes;
        member.hindrance.clear();
        (member.access, member.access_inferred) = (description.access, Inferred::No);
        member.scope = scope;
        member.description = description;
        let (count, unfenced) = (member.incarnation.get(), member.unfenced);
        self.say(now, Some(path), EventKind::Reconnected(count));
        self.touch();
        // It may be able to fence now what it could not fence before.
        self.needs_fence(now, path, unfenced);
        // A connection that stands is not yet a path that works.
        self.probe(now, path);
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
        self.say(now, Some(path), EventKind::Capacity(blocks));
        if blocks < promised {
            self.down(now, path, too_small(blocks, promised));
            self.start_over(now, path);
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
            Task::Probing(_) | Task::Connecting(_) => None,
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

    /// The present connection is over, and a new one is sought at once.
    pub(super) fn reconnect(&mut self, path: PathId) {
        self.unlink(path);
        self.connect(path);
    }

    /// The present connection is over, and a new one is sought after a pause.
    fn start_over(&mut self, now: Tick, path: PathId) {
        self.unlink(path);
        self.failed_again(now, path);
    }

    /// The present connection is over: queues stop using it at once. A probe that is out is of no interest any more: its
    /// answer will be that of an earlier connection.
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

    pub(super) fn down(&mut self, now: Tick, path: PathId, reason: String) {
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
