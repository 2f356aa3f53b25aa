//! The supervisor: what comes in, what goes out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Evidence, Ghosts, MAX_SCOPES, Marks, NoPath, Phase, PolicyChoice, Snapshot};
use crate::error::Error;
use crate::io::PathId;
use crate::path::{Cache, CacheScope, ControlReport, Description, Incarnation, News, QueueIndex};
use crate::policy::{MAX_PATHS, MakePolicy};
use crate::time::Tick;

use super::member::{Former, Leaving, Member, Over};
use super::{Event, EventKind, Promise};

/// How a volume looks after its paths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) queues: u16,
    pub(crate) promise: Promise,
    /// Between two probes of a path that is down; doubles up to 16 times that.
    pub(crate) probe_interval: Duration,
    /// How long a suspect path's probe may take before the path counts as down.
    pub(crate) probe_timeout: Duration,
    /// Between two looks at a path that is up.
    pub(crate) check_interval: Duration,
}

/// Something for the paths' helpers to do. Results come back as calls of the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Connect and open a path queue for each queue; then [`Supervisor::connected`].
    Connect { path: PathId, incarnation: Incarnation },
    /// Probe; the path reports.
    Probe { path: PathId, incarnation: Incarnation },
    /// Fence; the path reports.
    Fence { path: PathId, through: Incarnation },
    /// Drop the path; nothing comes back.
    Close { path: PathId },
}

/// Who a cache belongs to.
#[derive(Debug, PartialEq, Eq)]
enum ScopeOwner {
    Shared(CacheScope),
    Private(PathId),
}

pub(crate) struct Supervisor {
    pub(super) config: Config,
    pub(super) snapshot: Snapshot,
    pub(super) members: Box<[Option<Member>]>,
    /// What the volume's device is while it has no path: what the last one to leave was.
    pub(super) last_to_leave: Option<(String, Description)>,
    pub(super) serial: u32,
    pub(super) actions: VecDeque<Action>,
    events: Vec<Event>,
    scopes: Vec<Option<ScopeOwner>>,
    /// The one that was given last.
    last_scope: usize,
    /// Queues that nobody took hold nothing, and nothing waits for them.
    taken: Vec<bool>,
    finished: Vec<bool>,
    changed: Changed,
    end: End,
    pub(super) common: Arc<crate::engine::Common>,
}

/// Whether queues have yet to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changed {
    No,
    Yes,
}

/// How far the volume's end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NotYet,
    /// Closes once every queue is finished.
    Detached,
    Closed,
}

impl Supervisor {
    pub(crate) fn new(
        config: Config,
        no_path: NoPath,
        make: Arc<dyn MakePolicy>,
        common: Arc<crate::engine::Common>,
    ) -> Self {
        Self {
            config,
            snapshot: Snapshot::new(no_path, make),
            members: (0..MAX_PATHS).map(|_| None).collect(),
            last_to_leave: None,
            serial: 0,
            actions: VecDeque::new(),
            events: Vec::new(),
            scopes: (0..MAX_SCOPES).map(|_| None).collect(),
            last_scope: MAX_SCOPES - 1,
            taken: vec![false; config.queues.into()],
            finished: vec![false; config.queues.into()],
            changed: Changed::Yes,
            end: End::NotYet,
            common,
        }
    }

    // What goes out.

    /// A snapshot to publish, if something changed since the last.
    pub(crate) fn take_snapshot(&mut self) -> Option<Arc<Snapshot>> {
        if self.changed == Changed::No {
            return None;
        }
        self.changed = Changed::No;
        self.snapshot.epoch += 1;
        self.snapshot.joined = self.serial;
        let (idle, marks) = (self.idle_queues(), &self.common.marks);
        for member in self.members.iter_mut().flatten() {
            let drained = member.over_in(&idle).map_or(Incarnation::LAST, |over| over.drained);
            // Whose writes have all ended, and are durable.
            let is_done = |cache: &Former| cache.through <= drained && !marks.is_dirty(cache.scope.into());
            member.former.retain(|cache| !is_done(cache));
        }
        for (route, member) in self.snapshot.routes.iter_mut().zip(&self.members) {
            *route = member.as_ref().map(|member| member.route(self.config.queues));
        }
        Some(Arc::new(self.snapshot.clone()))
    }

    /// The next thing for a path's helper to do.
    pub(crate) fn take_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What happened since the last call.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// When to call [`advance`](Self::advance), if nothing else happens before.
    pub(crate) fn next_deadline(&self) -> Option<Tick> {
        self.members.iter().flatten().filter_map(Member::due).min()
    }

    /// Whether it takes no more requests, nor paths.
    pub(super) fn is_closing(&self) -> bool {
        self.snapshot.phase != Phase::Open
    }

    /// Whether every request has ended and every path is gone, for good.
    pub(crate) fn is_closed(&self) -> bool {
        self.end == End::Closed
    }

    // What comes in from the owner.

    /// Replaces the policy between two batches of each queue.
    pub(crate) fn set_policy(&mut self, make: Arc<dyn MakePolicy>) {
        let generation = self.snapshot.policy.generation + 1;
        self.snapshot.policy = PolicyChoice { generation, make };
        self.touch();
    }

    /// Takes no more requests; those left at `end` are ended.
    pub(crate) fn close(&mut self, now: Tick, end: Tick) {
        if self.snapshot.phase == Phase::Open {
            self.say(now, None, EventKind::Closing);
        }
        let end = match self.snapshot.phase {
            Phase::Closing(earlier) => earlier.min(end),
            Phase::Open => end,
        };
        self.snapshot.phase = Phase::Closing(end);
        self.touch();
        self.finish_if_done(now);
    }

    /// Nobody holds the volume any more: it ends with its last queue.
    pub(crate) fn detach(&mut self, now: Tick) {
        if self.end == End::NotYet {
            self.end = End::Detached;
        }
        self.finish_if_done(now);
    }

    // What comes in from queues and paths.

    /// Somebody takes a queue: it must not use a snapshot older than the next that is published.
    pub(crate) fn take(&mut self, queue: QueueIndex) {
        if let Some(taken) = self.taken.get_mut(usize::from(queue.0)) {
            *taken = true;
        }
        for member in self.members.iter_mut().flatten() {
            if let Some(let_go) = member.let_go.get_mut(usize::from(queue.0)) {
                *let_go = false;
            }
        }
        self.touch();
    }

    /// Takes in what a queue saw.
    pub(crate) fn evidence(&mut self, now: Tick, queue: QueueIndex, evidence: Evidence) {
        match evidence {
            Evidence::Failed { path, admission, cause } => {
                self.doubt(now, path, admission, EventKind::Suspect(cause));
            }
            Evidence::Silent { path, admission, age } => {
                self.doubt(now, path, admission, EventKind::Silent(age));
            }
            Evidence::Late { path, admission } => self.ask(now, path, admission),
            Evidence::NotConnected { path, incarnation, cause } => self.lost(now, path, incarnation, cause),
            Evidence::Refused { path, state } => self.refused(now, path, state),
            Evidence::Unfenced { path, incarnation } => self.needs_fence(now, path, incarnation),
            Evidence::Broken { path, admission, what } => self.broken(now, path, admission, what),
            Evidence::Unusable { path, incarnation, reason } => self.unusable(now, path, incarnation, reason),
            // The queues look again with the next snapshot.
            Evidence::GhostGone => self.touch(),
            Evidence::Over { path, left, drained } => self.over(now, path, queue, Over { left, drained }),
            Evidence::LetGo { path } => self.let_go(now, path, queue),
            Evidence::PolicyReplaced { reason } => {
                self.say(now, None, EventKind::PolicyReplaced(queue, reason));
            }
            Evidence::Warning { text } => self.say(now, None, EventKind::Warning(text)),
            Evidence::Finished => self.finished(now, queue),
        }
    }

    /// Takes in what a path reported.
    pub(crate) fn report(&mut self, now: Tick, report: &ControlReport) {
        let ControlReport { path, incarnation, news } = *report;
        if self.member(path).is_none() {
            return;
        }
        match news {
            News::Probed(result) => self.probed(now, path, incarnation, result),
            News::Fenced { through, grade } => self.fenced(now, path, through, grade),
            News::FenceFailed { through, cause } => self.fence_failed(now, path, through, cause),
            News::FenceSupport(support) => self.fence_support_changed(now, path, support),
            News::AccessState(state) => self.access_changed(now, path, state),
            News::Capacity(blocks) => self.capacity_changed(now, path, blocks),
        }
    }

    // Pieces for the other files of this machine.

    pub(super) fn member(&mut self, path: PathId) -> Option<&mut Member> {
        self.members.get_mut(path.slot())?.as_mut().filter(|member| member.id == path)
    }

    /// Queues need to be told.
    pub(super) const fn touch(&mut self) {
        self.changed = Changed::Yes;
    }

    pub(super) fn say(&mut self, now: Tick, path: Option<PathId>, kind: EventKind) {
        let path = path.map(|id| {
            let name = self.member(id).map_or_else(String::new, |member| member.name.clone());
            (id, name)
        });
        self.events.push(Event { at: now, path, kind });
    }

    pub(super) fn ghosts(&self) -> &Ghosts {
        &self.common.ghosts
    }

    pub(super) fn marks(&self) -> &Marks {
        &self.common.marks
    }

    /// Of each queue, whether it holds nothing and never will over what is there now.
    pub(super) fn idle_queues(&self) -> Vec<bool> {
        self.taken.iter().zip(&self.finished).map(|(&taken, &finished)| finished || !taken).collect()
    }

    /// The index of the cache that a path's writes land in; `None` for no volatile cache. An index that has become vacant is
    /// used again as late as can be: a queue may still go by an older snapshot.
    ///
    /// # Errors
    /// If there are too many caches.
    pub(super) fn scope_of(&mut self, path: PathId, name: &str, cache: &Cache) -> Result<Option<u8>, Error> {
        let owner = match cache {
            Cache::None => return Ok(None),
            Cache::Shared(scope) => ScopeOwner::Shared(scope.clone()),
            Cache::Private => ScopeOwner::Private(path),
        };
        let known = self.scopes.iter().position(|scope| scope.as_ref() == Some(&owner));
        let from = self.last_scope + 1;
        let mut vacant = (0..MAX_SCOPES).map(|step| (from + step) % MAX_SCOPES);
        let Some(index) = known.or_else(|| vacant.find(|&index| self.is_vacant(index))) else {
            let problem = format!("has one cache more than the {MAX_SCOPES} that a volume can tell apart");
            return Err(Error::path(name, problem));
        };
        if known.is_none() {
            self.last_scope = index;
        }
        self.scopes[index] = Some(owner);
        Ok(u8::try_from(index).ok())
    }

    fn is_vacant(&self, scope: usize) -> bool {
        let uses = |member: &Member| member.covers() & 1 << scope != 0;
        !self.members.iter().flatten().any(uses)
    }

    // The end.

    fn finished(&mut self, now: Tick, queue: QueueIndex) {
        if let Some(finished) = self.finished.get_mut(usize::from(queue.0)) {
            *finished = true;
        }
        let leaving: Vec<PathId> = self
            .members
            .iter()
            .flatten()
            .filter(|member| member.leaving == Leaving::Yes)
            .map(|member| member.id)
            .collect();
        for path in leaving {
            self.let_go(now, path, queue);
        }
        // It was perhaps the one that fences waited for.
        let members: Vec<PathId> = self.members.iter().flatten().map(|member| member.id).collect();
        for path in members {
            self.settle_fences(now, path);
        }
        self.finish_if_done(now);
    }

    fn finish_if_done(&mut self, now: Tick) {
        let ending = self.end == End::Detached || self.is_closing();
        if !ending || self.end == End::Closed || !self.finished.iter().all(|&finished| finished) {
            return;
        }
        for member in &mut self.members {
            if let Some(member) = member.take() {
                self.actions.push_back(Action::Close { path: member.id });
            }
        }
        self.end = End::Closed;
        self.touch();
        self.say(now, None, EventKind::Closed);
    }
}
