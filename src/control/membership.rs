//! Paths that join and leave.

use crate::block::Geometry;
use crate::engine::{Health, MAX_SCOPES};
use crate::error::{Error, Fate};
use crate::io::PathId;
use crate::path::{Description, FenceSupport, Identity, QueueIndex};
use crate::policy::MAX_PATHS;
use crate::time::Tick;

use super::admission::{Promise, Voucher, fits, kin, sane, unchanged};
use super::member::{EverConnected, Leaving, Linked, Member, Over};
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
        let id = self.place(&name)?;
        let scope = self.scope_of(id, &name, &description.cache)?;
        let mut member = Member::new(id, name, terms, description, now);
        member.scope = scope;
        // It is asked at once, which is also how it comes to know whom to tell its news.
        member.next_try = now;
        self.admit_member(now, member);
        Ok(id)
    }

    /// Takes in a path that has yet to connect: it is down, and is checked when it does. Its first incarnation is 2.
    ///
    /// # Errors
    /// Why it does not belong here.
    pub(crate) fn expect(&mut self, now: Tick, name: String, terms: Terms) -> Result<PathId, Error> {
        check_weight(&name, terms)?;
        let id = self.place(&name)?;
        let Promise { geometry, limits } = self.config.promise;
        let unknown = Description::new(Identity::none(), geometry, limits);
        let mut member = Member::new(id, name, terms, unknown, now);
        (member.ever_connected, member.health, member.linked) = (EverConnected::No, Health::Down, Linked::No);
        member.incarnation = member.incarnation.next();
        member.next_try = now.after(self.config.probe_interval);
        self.admit_member(now, member);
        Ok(id)
    }

    fn place(&mut self, name: &str) -> Result<PathId, Error> {
        let Some(slot) = self.members.iter().position(Option::is_none) else {
            let problem = format!("a volume has at most {MAX_PATHS} paths: remove one first");
            return Err(Error::path(name, problem));
        };
        let id = PathId::new(u8::try_from(slot).unwrap_or(u8::MAX), self.serial);
        self.serial += 1;
        Ok(id)
    }

    fn admit_member(&mut self, now: Tick, mut member: Member) {
        let id = member.id;
        member.over = vec![Over::NOTHING; self.config.queues.into()];
        self.members[id.slot()] = Some(member);
        self.say(now, Some(id), EventKind::Joined);
        self.touch();
    }

    /// Checks a path against the volume's promise and against every other path.
    pub(super) fn check(
        &self,
        name: &str,
        terms: Terms,
        description: &Description,
        except: Option<PathId>,
    ) -> Result<(), Error> {
        check_weight(name, terms)?;
        sane(name, description)?;
        fits(name, description, &self.config.promise)?;
        let mut alone = true;
        let is_another =
            |other: &&Member| Some(other.id) != except && other.ever_connected == EverConnected::Yes;
        for other in self.members.iter().flatten().filter(is_another) {
            alone = false;
            // Whoever vouches for the one path vouches for both.
            let voucher =
                if other.terms.voucher == Voucher::Caller { Voucher::Caller } else { terms.voucher };
            // The node of one that is not connected may be another's by now.
            let node = if other.linked == Linked::Yes { other.description.identity.node() } else { None };
            kin(name, description, &other.name, (&other.description, node), voucher)?;
        }
        let is_known =
            |member: &Member| Some(member.id) == except && member.ever_connected == EverConnected::Yes;
        let is_new = !self.members.iter().flatten().any(is_known);
        match &self.last_to_leave {
            Some((former, left)) if alone && is_new => {
                kin(name, description, former, (left, left.identity.node()), terms.voucher)
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
        let idle = self.idle_queues();
        let member = self.known(path)?;
        if member.leaving == Leaving::Yes {
            return Ok(());
        }
        member.leaving = Leaving::Yes;
        member.let_go = idle;
        self.say(now, Some(path), EventKind::Leaving);
        self.touch();
        self.look_at_others(now, path);
        self.close_if_free(now, path);
        Ok(())
    }

    /// Takes over the size that every path has by now, if that is larger than the volume's.
    ///
    /// # Errors
    /// The path that stands in the way.
    pub(crate) fn grow(&mut self, now: Tick) -> Result<Geometry, Error> {
        let present = self.config.promise.geometry;
        let staying = || self.members.iter().flatten().filter(|member| member.leaving == Leaving::No);
        if let Some(unseen) = staying().find(|member| member.ever_connected == EverConnected::No) {
            let problem =
                "has not connected so far, and may be smaller than the others: wait for it, or remove it";
            return Err(Error::path(&unseen.name, problem));
        }
        let blocks = |member: &&Member| member.description.geometry.capacity();
        let most = staying().map(|member| blocks(&member)).max().unwrap_or(0);
        let Some(least) = staying().min_by_key(blocks) else { return Ok(present) };
        let capacity = blocks(&least);
        if capacity <= present.capacity() && most > present.capacity() {
            let problem = format!(
                "still has {capacity} blocks, another path has {most}: make it as large, or remove it"
            );
            return Err(Error::path(&least.name, problem));
        }
        if capacity <= present.capacity() {
            return Ok(present);
        }
        let grown = Geometry::new(present.block_size(), capacity)?;
        self.config.promise.geometry = grown;
        self.common.geometry.set(grown);
        self.say(now, None, EventKind::Grown(capacity));
        Ok(grown)
    }

    /// The member that the caller names.
    pub(super) fn known(&mut self, path: PathId) -> Result<&mut Member, Error> {
        let unknown = || Error::path(path.to_string(), "is not a path of this volume (any more)");
        self.member(path).ok_or_else(unknown)
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
        let (done, support) = (member.fences.done, member.description.fence);
        let free = member.leaving == Leaving::Yes && member.let_go.iter().all(|&let_go| let_go);
        // Queues have let go: of what is not fenced only ghosts are left.
        let owes = self.ghosts().through(path) > done && support != FenceSupport::None;
        if !free || owes {
            return;
        }
        self.forsake_caches(path);
        self.actions.push_back(Action::Close { path });
        self.say(now, Some(path), EventKind::Removed);
        if let Some(Member { name, mut description, ever_connected: EverConnected::Yes, .. }) =
            self.members[path.slot()].take()
        {
            // It may come back the same way.
            description.identity = description.identity.without_node();
            self.last_to_leave = Some((name, description));
        }
        self.touch();
    }

    /// What only the caches of this path hold, which goes, is lost: no queue was left that would have flushed it.
    fn forsake_caches(&mut self, path: PathId) {
        let covers = |member: &Member| member.covers();
        let others = self.members.iter().flatten().filter(|other| other.id != path).map(covers);
        let others = others.fold(0, |all, covers| all | covers);
        let Some(member) = self.member(path) else { return };
        let alone = member.covers() & !others;
        for scope in (0..MAX_SCOPES).filter(|scope| alone & 1 << scope != 0) {
            if self.marks().is_dirty(scope) {
                self.marks().forsake(scope, path);
            }
        }
    }

    /// Health, access state and description of each member, for reports.
    pub(crate) fn roster(&self) -> impl Iterator<Item = Standing<'_>> {
        self.members.iter().flatten().map(|member| Standing {
            id: member.id,
            name: &member.name,
            health: member.health,
            why_down: (member.health == Health::Down).then_some(&member.why_down),
            leaving: member.leaving == Leaving::Yes,
            held_back_until: member.held_back_until.filter(|_| member.health == Health::Suspect),
            incarnation: member.incarnation,
            access: member.access,
            unfenced_since: member.fences.waiting_since(),
            description: &member.description,
        })
    }
}

fn check_weight(name: &str, terms: Terms) -> Result<(), Error> {
    if terms.weight == 0 {
        return Err(Error::path(name, "a weight of 0 would never be used: give 1 or more"));
    }
    Ok(())
}

/// How a member stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing<'a> {
    pub(crate) id: PathId,
    pub(crate) name: &'a str,
    pub(crate) health: Health,
    pub(crate) why_down: Option<&'a str>,
    pub(crate) leaving: bool,
    pub(crate) held_back_until: Option<Tick>,
    pub(crate) incarnation: crate::path::Incarnation,
    pub(crate) access: crate::path::AccessState,
    pub(crate) unfenced_since: Option<Tick>,
    pub(crate) description: &'a Description,
}
