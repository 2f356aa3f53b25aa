//! Paths that join and leave.

use crate::engine::Health;
use crate::error::{Error, Fate};
use crate::io::PathId;
use crate::path::{Description, FenceSupport, Incarnation, QueueIndex};
use crate::policy::MAX_PATHS;
use crate::time::Tick;

use super::admission::{Voucher, fits, kin, sane, unchanged};
use super::member::{Leaving, Member};
use super::supervisor::{Action, Supervisor};
use super::{EventKind, Terms};

impl Supervisor {
    /// Takes in a path that has connected for the first time; its first incarnation is 1.
    ///
    /// # Errors
    /// Why it does not belong here.
    pub(crate) fn join(
        &mut self,
        now: Tick,
        name: String,
        terms: Terms,
        description: Description,
    ) -> Result<PathId, Error> {
        if self.is_closing() {
            return Err(Error::Closed { fate: Fate::NotSent });
        }
        self.check(&name, terms, &description, None)?;
        let Some(slot) = self.members.iter().position(Option::is_none) else {
            return Err(Error::path(
                name,
                format!("a volume has at most {MAX_PATHS} paths: remove one first"),
            ));
        };
        let id = PathId::new(u8::try_from(slot).unwrap_or(u8::MAX), self.serial);
        self.serial += 1;
        let scope = self.scope_of(id, &description.cache);
        let mut member = Member::new(id, name, terms, description, now);
        member.drained = vec![Incarnation::NONE; self.config.queues.into()];
        member.scope = scope;
        self.members[slot] = Some(member);
        self.say(now, Some(id), EventKind::Joined);
        self.touch();
        Ok(id)
    }

    /// Checks a path against the volume's promise and against every other path.
    pub(super) fn check(
        &self,
        name: &str,
        terms: Terms,
        description: &Description,
        except: Option<PathId>,
    ) -> Result<(), Error> {
        if terms.weight == 0 {
            return Err(Error::path(name, "a weight of 0 would never be used: give 1 or more"));
        }
        sane(name, description)?;
        fits(name, description, &self.config.promise)?;
        let mut alone = true;
        for other in self.members.iter().flatten().filter(|other| Some(other.id) != except) {
            alone = false;
            // Whoever vouches for the one path vouches for both.
            let voucher =
                if other.terms.voucher == Voucher::Caller { Voucher::Caller } else { terms.voucher };
            kin(name, description, &other.name, &other.description, voucher)?;
        }
        match &self.last_to_leave {
            Some((former, left)) if alone && except.is_none() => {
                kin(name, description, former, left, terms.voucher)
            }
            _ => Ok(()),
        }
    }

    /// Checks that a path which has connected anew leads to the device that it led to before.
    pub(super) fn check_unchanged(
        &self,
        name: &str,
        terms: Terms,
        description: &Description,
        path: PathId,
    ) -> Result<(), Error> {
        let member = self.members.get(path.slot()).and_then(Option::as_ref);
        match member.filter(|member| member.id == path) {
            Some(member) => unchanged(name, description, &member.description, terms.voucher),
            None => Ok(()),
        }
    }

    /// Removes a path: no new attempts, and when every queue has let go of it, it is closed.
    ///
    /// # Errors
    /// If there is no such path (any more).
    pub(crate) fn remove(&mut self, now: Tick, path: PathId) -> Result<(), Error> {
        let finished = self.queues_finished().to_vec();
        let Some(member) = self.member(path) else {
            return Err(Error::path(path.to_string(), "is not a path of this volume (any more)"));
        };
        if member.leaving == Leaving::Yes {
            return Ok(());
        }
        member.leaving = Leaving::Yes;
        member.let_go = finished;
        self.say(now, Some(path), EventKind::Leaving);
        self.touch();
        self.close_if_free(now, path);
        Ok(())
    }

    /// A queue will never touch the path again.
    pub(super) fn let_go(&mut self, now: Tick, path: PathId, queue: QueueIndex) {
        if let Some(member) = self.member(path)
            && let Some(let_go) = member.let_go.get_mut(usize::from(queue.0))
        {
            *let_go = true;
        }
        self.close_if_free(now, path);
    }

    /// Closes a leaving path that no queue uses and that owes no fence.
    pub(super) fn close_if_free(&mut self, now: Tick, path: PathId) {
        let Some(member) = self.member(path) else { return };
        let owes = member.unfenced > member.fenced && member.description.fence != FenceSupport::None;
        let free = member.leaving == Leaving::Yes && member.let_go.iter().all(|&let_go| let_go);
        if !free || owes {
            return;
        }
        self.actions.push_back(Action::Close { path });
        self.say(now, Some(path), EventKind::Removed);
        if let Some(Member { name, mut description, .. }) = self.members[path.slot()].take() {
            // It may come back the same way.
            description.identity = description.identity.without_node();
            self.last_to_leave = Some((name, description));
        }
        self.touch();
    }

    /// Health, access state and description of each member, for reports.
    pub(crate) fn roster(&self) -> impl Iterator<Item = Standing<'_>> {
        self.members.iter().flatten().map(|member| Standing {
            id: member.id,
            name: &member.name,
            health: member.health,
            leaving: member.leaving == Leaving::Yes,
            incarnation: member.incarnation,
            access: member.access,
            description: &member.description,
        })
    }
}

/// How a member stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing<'a> {
    pub(crate) id: PathId,
    pub(crate) name: &'a str,
    pub(crate) health: Health,
    pub(crate) leaving: bool,
    pub(crate) incarnation: crate::path::Incarnation,
    pub(crate) access: crate::path::AccessState,
    pub(crate) description: &'a Description,
}
