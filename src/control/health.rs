//! Up, suspect, down: what evidence, probes and connections do to a path.

use crate::block::Geometry;
use crate::engine::Health;
use crate::error::{Cause, Error};
use crate::io::PathId;
use crate::path::{AccessState, Description, Incarnation};
use crate::time::Tick;

use super::EventKind;
use super::member::{EverConnected, Former, Inferred, Leaving, Linked, Member, Task};
use super::supervisor::{Action, Supervisor};

/// Times [`Config::probe_timeout`](super::Config) that the last path may take to answer a probe before it counts as down.
const LAST_PATH_PATIENCE: u32 = 8;

impl Supervisor {
    // Evidence.

    /// An attempt failed or is late. The path is looked into; until then it is the last resort.
    pub(super) fn doubt(&mut self, now: Tick, path: PathId, admission: u32, why: EventKind) {
        let base = self.config.probe_interval;
        let Some(member) = self.member(path) else { return };
        if member.admission != admission || member.health != Health::Up {
            return;
        }
        member.health = Health::Suspect;
        member.fall(now, base);
        self.say(now, Some(path), why);
        self.touch();
        self.probe(now, path);
        self.look_at_others(now, path);
    }

    /// An attempt takes longer than is usual: the path is asked whether it works, and that it does ends what queues hold against
    /// it.
    pub(super) fn ask(&mut self, now: Tick, path: PathId, admission: u32) {
        let Some(member) = self.member(path) else { return };
        if member.admission == admission && member.health == Health::Up {
            member.asked = true;
            self.probe(now, path);
        }
    }

    /// The path did not take an attempt: it connects anew.
    pub(super) fn lost(&mut self, now: Tick, path: PathId, incarnation: Incarnation, cause: Cause) {
        let Some(member) = self.member(path) else { return };
        if member.incarnation != incarnation {
            return;
        }
        self.down(now, path, cause.to_string());
        self.reconnect(now, path);
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
            if !state.is_active() {
                self.look_at_others(now, path);
            }
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
        let expected = member.task == Task::Probing && member.incarnation == incarnation;
        if !expected {
            // Of an earlier connection, or not asked for.
            return;
        }
        member.task = Task::Idle;
        match result {
            Ok(()) => self.admit(now, path),
            Err(Cause::NotConnected) => {
                self.down(now, path, Cause::NotConnected.to_string());
                self.reconnect(now, path);
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
            let scope = self.scope_of(path, &name, &description.cache)?;
            Ok((description, scope))
        });
        match checked {
            Ok((description, scope)) => {
                self.reconnected(now, path, description, scope);
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
            Error::Path { path, problem } | Error::Unreachable { path, problem } if path == member.name => {
                problem
            }
            error => error.to_string(),
        };
        let news = std::mem::replace(&mut member.why_down, reason.clone()) != reason;
        if news && member.health == Health::Down {
            self.say(now, Some(path), EventKind::Down(reason));
        } else {
            self.down(now, path, reason);
        }
        self.failed_again(now, path);
    }

    fn reconnected(&mut self, now: Tick, path: PathId, description: Description, scope: Option<u8>) {
        let Some(member) = self.member(path) else { return };
        (member.linked, member.ever_connected) = (Linked::Yes, EverConnected::Yes);
        (member.access, member.access_inferred) = (description.access, Inferred::No);
        if let Some(before) = member.scope.filter(|_| member.scope != scope) {
            // It is the same device: a flush over this path reaches what was written before it called its cache so.
            let through = member.incarnation.previous();
            member.former.retain(|cache| cache.scope != before);
            member.former.push(Former { scope: before, through });
        }
        member.scope = scope;
        let through = member.incarnation.previous();
        member.fences.change_rule(through, member.description.fence, description.fence);
        member.description = description;
        let (count, unfenced) = (member.incarnation.get(), member.fences.wanted);
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
        // What a good probe goes back to after a refusal.
        member.description.access = state;
        if member.access != state {
            member.access = state;
            self.say(now, Some(path), EventKind::Access(state));
            self.touch();
            if !state.is_active() {
                self.look_at_others(now, path);
            }
        }
    }

    pub(super) fn capacity_changed(&mut self, now: Tick, path: PathId, blocks: u64) {
        let promised = self.config.promise.geometry.capacity();
        self.say(now, Some(path), EventKind::Capacity(blocks));
        if let Some(member) = self.member(path)
            && let Ok(geometry) = Geometry::new(member.description.geometry.block_size(), blocks)
        {
            member.description.geometry = geometry;
        }
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
            if member.due().is_some_and(|due| due <= now) {
                self.act(now, member.id);
            }
        }
    }

    /// Somebody knows that a path may work again: it is looked at without a pause.
    ///
    /// # Errors
    /// If there is no such path (any more).
    pub(crate) fn retry(&mut self, now: Tick, path: PathId) -> Result<(), Error> {
        let member = self.known(path)?;
        // What it has done before is held against it no more.
        (member.falls, member.fell_at) = (0, None);
        (member.failures, member.next_try) = (0, member.next_try.min(now));
        Ok(())
    }

    /// Something has happened to a path's device, if there still is such a path: it is looked at.
    pub(crate) fn look(&mut self, now: Tick, path: PathId) {
        if let Some(member) = self.member(path) {
            member.next_try = member.next_try.min(now);
        }
    }

    fn act(&mut self, now: Tick, path: PathId) {
        let Some(member) = self.member(path) else { return };
        if member.fences.due().is_some_and(|due| due <= now) {
            self.advance_fences(now, path);
        }
        let Some(member) = self.member(path) else { return };
        match member.task {
            Task::Idle if member.next_try <= now => self.look_again(now, path),
            Task::Probing if member.probe_due <= now => self.unanswered(now, path),
            _ => {}
        }
    }

    /// A probe has had its time: of a path that was up it is given as much again, and several times as much where no other is up:
    /// there is nothing better than a slow path then.
    fn unanswered(&mut self, now: Tick, path: PathId) {
        let timeout = self.config.probe_timeout;
        let is_last = !self.has_other(path);
        let Some(member) = self.member(path) else { return };
        let has_time = is_last && now < member.probed_at.after(timeout.saturating_mul(LAST_PATH_PATIENCE));
        match member.health {
            Health::Up => {
                member.probe_due = now.after(timeout);
                let admission = member.admission;
                self.doubt(now, path, admission, EventKind::Silent(timeout));
            }
            Health::Suspect if has_time => member.probe_due = now.after(timeout),
            Health::Suspect => {
                let timeout = now.since(member.probed_at);
                self.down(now, path, format!("no answer to a probe within {} ms", timeout.as_millis()));
            }
            Health::Down => {}
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
        let timeout = self.config.probe_timeout;
        let Some(member) = self.member(path) else { return };
        if member.task == Task::Idle {
            member.task = Task::Probing;
            member.next_try = Tick::MAX;
            member.probed_at = now;
            member.probe_due = now.after(timeout);
            let incarnation = member.incarnation;
            self.actions.push_back(Action::Probe { path, incarnation });
        }
    }

    /// The present connection is over, and a new one is sought at once; after a pause if the last was sought a moment ago: a
    /// path that connects and then fails, again and again, is not asked without end.
    pub(super) fn reconnect(&mut self, now: Tick, path: PathId) {
        let pause = self.config.probe_interval;
        let Some(member) = self.member(path) else { return };
        if member.reconnected_at.is_some_and(|before| now.since(before) < pause) {
            return self.start_over(now, path);
        }
        member.reconnected_at = Some(now);
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
        if member.task == Task::Probing {
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

    /// The path answers: whatever was held against it is over, unless it has answered before and failed again.
    fn admit(&mut self, now: Tick, path: PathId) {
        let (base, check) = (self.config.probe_interval, self.config.check_interval);
        let is_needed = !self.has_other(path);
        let Some(member) = self.member(path) else { return };
        member.failures = 0;
        // One that takes no I/O at present is looked at more often.
        let next = now.after(if member.access.is_active() { check } else { base });
        // Somebody may have asked for one more look since it was sent.
        member.next_try = member.next_try.min(next);
        let was_asked = std::mem::take(&mut member.asked);
        let is_news = member.health != Health::Up || member.access_inferred == Inferred::Yes || was_asked;
        if !is_news {
            return;
        }
        if let Some(until) = member.damped_until(base)
            && member.health != Health::Up
        {
            // The only path is used meanwhile all the same: it is not to go up and down at each turn.
            let until = if is_needed { until.min(member.last_up.after(base / 8)) } else { until };
            if now < until {
                return self.hold_back(now, path, until);
            }
        }
        if member.access_inferred == Inferred::Yes {
            (member.access, member.access_inferred) = (member.description.access, Inferred::No);
        }
        member.admission += 1;
        member.held_back_until = None;
        let was = std::mem::replace(&mut member.health, Health::Up);
        let away = now.since(member.last_up);
        if was != Health::Up {
            member.up_since = now;
            member.why_down.clear();
            self.say(now, Some(path), EventKind::Up(away));
        }
        self.touch();
        self.ask_fence_again(now, path);
    }

    /// A path that flaps stays the last resort for a while, though it answers.
    fn hold_back(&mut self, now: Tick, path: PathId, until: Tick) {
        let Some(member) = self.member(path) else { return };
        let is_news = member.held_back_until.replace(until) != Some(until);
        member.next_try = until;
        member.health = Health::Suspect;
        let falls = member.falls;
        if is_news {
            self.say(now, Some(path), EventKind::HeldBack(falls, until.since(now)));
        }
        self.touch();
    }

    /// Whether another path can be used.
    fn has_other(&self, path: PathId) -> bool {
        let usable = |other: &Member| {
            other.id != path
                && other.health == Health::Up
                && other.access.is_active()
                && other.leaving == Leaving::No
        };
        self.members.iter().flatten().any(usable)
    }

    /// Where no path is up any more, those that were held back are looked at again at once.
    pub(super) fn look_at_others(&mut self, now: Tick, path: PathId) {
        if self.has_other(path) {
            return;
        }
        let soon = now.after(self.config.probe_interval);
        for other in self.members.iter_mut().flatten().filter(|other| other.id != path) {
            match other.health {
                Health::Suspect => other.next_try = other.next_try.min(now),
                Health::Down => other.next_try = other.next_try.min(soon),
                Health::Up => {}
            }
        }
    }

    pub(super) fn down(&mut self, now: Tick, path: PathId, reason: String) {
        let base = self.config.probe_interval;
        let Some(member) = self.member(path) else { return };
        if member.health == Health::Down {
            return;
        }
        if member.health == Health::Up {
            member.fall(now, base);
        }
        member.health = Health::Down;
        member.why_down.clone_from(&reason);
        self.say(now, Some(path), EventKind::Down(reason));
        self.touch();
        self.look_at_others(now, path);
    }

    /// One more failure in a row: looks again after a pause.
    fn failed_again(&mut self, now: Tick, path: PathId) {
        let base = self.config.probe_interval;
        let is_last = !self.has_other(path);
        let Some(member) = self.member(path) else { return };
        member.failures = member.failures.saturating_add(1);
        if member.health != Health::Up {
            // While nothing else works the pause does not grow: all I/O waits for it.
            let pause = if is_last { base } else { member.pause(base) };
            let due = now.after(pause);
            member.next_try = member.next_try.min(due);
        }
    }
}

fn too_small(blocks: u64, promised: u64) -> String {
    format!(
        "has {blocks} blocks left, the volume has {promised}: give the device its size back, or remove the path"
    )
}
