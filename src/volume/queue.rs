//! A queue: requests in, completions out, polled by the thread that owns it.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};

use crate::block::{Geometry, Limits, LiveGeometry};
use crate::buffer::{Buffer, Pool};
use crate::engine::{Common, Config, Engine, Evidence, PathCounters, PolicySeat, Sharing, Snapshot, Staged};
use crate::error::{Error, Fate};
use crate::io::{Completion, Cookie, PathId, Rejected, Request};
use crate::path::{Incarnation, QueueIndex};
use crate::policy::MAX_PATHS;
use crate::reactor::{Reactor, Waker};
use crate::time::Tick;

use super::ports::Ports;
use super::shared::{Inbox, Message, Opening, Shared};

/// How old what queues know of each other's load may be.
const LOAD_REFRESH: Duration = Duration::from_micros(20);

/// What a queue is made of.
pub(crate) struct QueueSetup {
    pub(crate) index: QueueIndex,
    pub(crate) depth: u32,
    pub(crate) late_after: Duration,
    pub(crate) suspect_after: Duration,
    pub(crate) max_retries: u32,
    pub(crate) sharing: Sharing,
    pub(crate) seed: u64,
    pub(crate) pools: Vec<Pool>,
    pub(crate) inbox: Inbox,
    pub(crate) shared: Arc<Shared>,
}

/// One of a volume's queues. It does nothing by itself: the thread that owns it calls [`poll`](Self::poll), again and
/// again, or [`wait`](Self::wait).
///
/// `Send` and not `Sync`: it can be handed to the thread that will use it. It allocates nothing per request. Every
/// accepted request has exactly one completion, whatever happens to the paths.
///
/// # When it is dropped
/// Requests that have not been completed are given up: their completions are lost with the queue, writes that may
/// still land go on barring newer ones to the same blocks on the other queues, and a thread of the crate keeps what
/// the kernel still holds until it lets go. `drop` itself never waits for a device.
pub struct Queue {
    /// `None` only while it is being dropped.
    core: Option<QueueCore>,
    geometry: LiveGeometry,
    limits: Limits,
}

impl Queue {
    pub(crate) fn new(setup: QueueSetup) -> Result<Self, Error> {
        let (geometry, limits) = (setup.shared.common.geometry.clone(), setup.shared.limits);
        Ok(Self { core: Some(QueueCore::new(setup)?), geometry, limits })
    }

    /// Which of the volume's queues it is.
    pub fn index(&self) -> QueueIndex {
        self.core.as_ref().map_or(QueueIndex(0), |core| core.index)
    }

    /// Block size and capacity, which [`Volume::grow`](crate::Volume::grow) may change.
    pub fn geometry(&self) -> Geometry {
        self.geometry.get()
    }

    pub(crate) fn live_geometry(&self) -> LiveGeometry {
        self.geometry.clone()
    }

    /// What one request may ask for.
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Takes a request in; it is sent with the next [`poll`](Self::poll).
    ///
    /// # Errors
    /// The request comes back with the reason: malformed, out of range, beyond the limits, no room
    /// ([`Error::QueueFull`]) or closed.
    #[allow(clippy::result_large_err, reason = "what could not be taken is given back")]
    pub fn submit(&mut self, request: Request) -> Result<(), Rejected> {
        match &mut self.core {
            Some(core) => core.engine.accept(request),
            None => Err(Rejected { request, error: Error::Closed { fate: Fate::NotSent } }),
        }
    }

    /// Sends what was submitted, appends what has ended to `completions`, and does what is due. `now` is
    /// [`Tick::now`], read once for the batch. Never blocks.
    ///
    /// The result is when to poll again at the latest, even if nothing happens until then: `Some(now)` for at once.
    pub fn poll(&mut self, now: Tick, completions: &mut Vec<Completion>) -> Option<Tick> {
        let core = self.core.as_mut()?;
        core.turn(now, completions);
        core.reactor.flush();
        core.next_deadline(now)
    }

    /// Polls, and, as long as nothing has ended, sleeps until something happens or `until` is reached (`None`: for as
    /// long as it takes). A queue that [is finished](Self::is_finished) does not sleep:
    /// nothing is left to happen.
    pub fn wait(&mut self, until: Option<Tick>, completions: &mut Vec<Completion>) {
        let Some(core) = &mut self.core else { return };
        let before = completions.len();
        core.turn(Tick::now(), completions);
        if completions.len() == before && core.finished == Finished::No {
            let due = core.next_deadline(Tick::ZERO);
            let until = [due, until].into_iter().flatten().min();
            core.sleep(until);
            core.turn(Tick::now(), completions);
        }
        core.reactor.submit_queued();
    }

    /// A buffer whose completion said [`Memory::Quarantined`](crate::Memory::Quarantined), now that no path can touch
    /// it any more, with the request's cookie.
    pub fn poll_released(&mut self) -> Option<(Cookie, Buffer)> {
        self.core.as_mut()?.engine.poll_released()
    }

    /// Ends the requests with this cookie; their completions are appended. What is on its way cannot be called back:
    /// a write then ends as of unknown fate, its buffer quarantined. The number of requests that it ended.
    pub fn cancel(&mut self, cookie: Cookie, completions: &mut Vec<Completion>) -> usize {
        let Some(core) = &mut self.core else { return 0 };
        let ended = core.engine.cancel(cookie, completions);
        core.tell();
        ended
    }

    /// Requests that have not been completed, and completed ones whose buffer is still quarantined.
    pub fn len(&self) -> usize {
        self.core.as_ref().map_or(0, |core| core.engine.requests())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the volume was closed and everything of this queue has ended.
    pub fn is_finished(&self) -> bool {
        self.core.as_ref().is_none_or(|core| core.finished == Finished::Yes)
    }

    /// A file descriptor that is readable when [`poll`](Self::poll) has something to do, for a daemon's own `poll` or
    /// `epoll`. Deadlines are the caller's to keep, as `poll` gives them.
    ///
    /// # Errors
    /// [`Error::Os`] if the system has no descriptor left.
    pub fn wake_fd(&mut self) -> Result<BorrowedFd<'_>, Error> {
        match &mut self.core {
            Some(core) => core.reactor.wake_fd(),
            None => Err(Error::Closed { fate: Fate::NotSent }),
        }
    }

    /// Whether a request would have to wait: there is no room for it. A queue that is being closed has an answer for every
    /// request.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.core.as_ref().is_some_and(|core| core.engine.is_full() && !core.engine.is_closing())
    }

    /// Sleeps until something happens, or `until`. To be followed by a poll. Can return early.
    pub(crate) fn sleep(&mut self, until: Option<Tick>) {
        if let Some(core) = &mut self.core {
            core.sleep(until);
        }
    }

    /// What to sleep on where this queue is one of several: to be asked for each time.
    ///
    /// # Errors
    /// As [`wake_fd`](Self::wake_fd).
    pub(crate) fn sleep_fd(&mut self) -> Result<BorrowedFd<'_>, Error> {
        if let Some(core) = &mut self.core {
            core.engine.publish_load();
        }
        self.wake_fd()
    }

    /// Sleeps until there is something to poll for, `watched` is readable, or `until` has come; `false` if the queue has no
    /// ring to sleep on: see [`Reactor::wait_with`].
    #[cfg(feature = "fuse")]
    pub(crate) fn sleep_with(&mut self, watched: BorrowedFd<'_>, until: Option<Tick>) -> bool {
        self.core.as_mut().is_some_and(|core| {
            core.engine.publish_load();
            core.reactor.wait_with(watched, until)
        })
    }

    /// Lets go of the descriptor that was watched.
    #[cfg(feature = "fuse")]
    pub(crate) fn unwatch(&mut self) {
        if let Some(core) = &mut self.core {
            core.reactor.unwatch();
        }
    }

    pub(crate) fn bell(&self) -> Option<Waker> {
        self.core.as_ref().map(|core| core.reactor.bell())
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("index", &self.index())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if let Some(mut core) = self.core.take() {
            if !core.shared.is_of_this_process() {
                // The ring is the parent's as well: nothing of it may be touched.
                std::mem::forget(core);
                return;
            }
            core.hear();
            core.abandon();
            if core.is_idle() {
                core.report_finished();
            } else {
                let reaping = core.shared.reaping.clone();
                reaping.take(core);
            }
        }
    }
}

/// Whether the control side was told that the queue is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finished {
    No,
    Yes,
}

/// What a queue is beneath its handle: it outlives the handle while paths hold its attempts.
pub(crate) struct QueueCore {
    index: QueueIndex,
    engine: Engine,
    seat: PolicySeat,
    seed: u64,
    policy_generation: u64,
    ports: Ports,
    staged: Staged,
    counters: Box<[Option<Arc<[PathCounters]>>; MAX_PATHS]>,
    snapshot: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    /// Epoch of the snapshot that the engine has taken over; `None` before the first.
    epoch: Option<u64>,
    inbox: Inbox,
    pending: Vec<Opening>,
    /// How far the connections of each slot's path were last reported as over: left, and drained.
    over: Box<[(PathId, Incarnation, Incarnation); MAX_PATHS]>,
    swept: u64,
    load_due: Tick,
    finished: Finished,
    shared: Arc<Shared>,
    /// Dropped last: paths may hold what is registered with it.
    reactor: Reactor,
}

impl QueueCore {
    fn new(setup: QueueSetup) -> Result<Self, Error> {
        let QueueSetup {
            index,
            depth,
            late_after,
            suspect_after,
            max_retries,
            sharing,
            seed,
            pools,
            inbox,
            shared,
        } = setup;
        let mut snapshot = Cache::new(Arc::clone(&shared.snapshot));
        let (geometry, limits) = (shared.geometry(), shared.limits);
        let config =
            Config { queue: index, depth, late_after, suspect_after, max_retries, sharing, geometry, limits };
        let common: Arc<Common> = Arc::clone(&shared.common);
        let policy = snapshot.load().policy.clone();
        Ok(Self {
            index,
            engine: Engine::new(config, common),
            seat: PolicySeat::new(&*policy.make, seed),
            seed,
            policy_generation: policy.generation,
            ports: Ports::new(),
            staged: Staged::new(),
            counters: Box::new([const { None }; MAX_PATHS]),
            snapshot,
            epoch: None,
            inbox,
            pending: Vec::new(),
            over: Box::new([(PathId::new(0, u32::MAX), Incarnation::NONE, Incarnation::NONE); MAX_PATHS]),
            swept: 0,
            load_due: Tick::ZERO,
            finished: Finished::No,
            shared,
            reactor: Reactor::new(pools, depth)?,
        })
    }

    /// One batch: news, outcomes, what is due, placing; all but the system call.
    fn turn(&mut self, now: Tick, completions: &mut Vec<Completion>) {
        // Wakes are taken before the snapshot is looked at: of one that comes after it, the wake is still there to end
        // the sleep.
        let woken = self.reactor.take_ready();
        if self.epoch != Some(self.snapshot.load().epoch) {
            self.refresh(now, completions);
        }
        self.harvest(now, woken, completions);
        self.engine.expire(now, completions);
        if self.load_due <= now {
            self.exchange_load(now);
        }
        self.engine.dispatch(now, &mut self.seat, &mut self.staged, completions);
        while let Some((slot, batch)) = self.staged.pop() {
            self.ports.submit(&mut self.reactor, now, slot, batch);
            while let Some(attempt) = batch.pop() {
                self.engine.not_taken(now, slot, attempt);
            }
        }
        self.settle(now, completions);
    }

    fn harvest(&mut self, now: Tick, woken: u64, completions: &mut Vec<Completion>) {
        let engine = &mut self.engine;
        self.ports.harvest(&mut self.reactor, now, woken, |slot, outcome| {
            engine.outcome(now, slot, outcome, completions);
        });
    }

    /// What a batch leaves to do.
    fn settle(&mut self, now: Tick, completions: &mut Vec<Completion>) {
        // To cancel can fell a path as well.
        while self.ports.has_casualties() || !self.engine.cancels().is_empty() {
            for cancel in self.engine.cancels().drain(..) {
                self.ports.cancel(&mut self.reactor, cancel.slot, cancel.incarnation, cancel.attempt);
            }
            while let Some(casualty) = self.ports.take_casualty() {
                self.engine.forfeit(now, casualty.path, casualty.incarnation, completions);
            }
        }
        let observations = self.engine.observations();
        if !observations.is_empty() {
            self.seat.observe(observations);
            observations.clear();
        }
        if let Some(reason) = self.seat.take_failure() {
            self.engine.evidence().push(Evidence::PolicyReplaced { reason });
        }
        if self.swept != self.ports.swept() {
            self.report_over();
        }
        // Of a finished queue the supervisor knows that it is done with every path.
        while self.finished == Finished::No
            && let Some(path) = self.engine.let_go()
        {
            self.ports.retire(path.slot());
            self.counters[path.slot()] = None;
            // What the path has claimed is free before the volume says that it is gone.
            self.reactor.flush();
        }
        self.tell();
        if self.engine.is_closing() && self.is_idle() {
            self.report_finished();
        }
    }

    /// Tells the supervisor what it should know, once every queue can see what goes with it.
    fn tell(&mut self) {
        self.engine.publish();
        for evidence in self.engine.evidence().drain(..) {
            // Nobody listens only when the volume is gone.
            let _ = self.shared.messages.send(Message::Evidence(self.index, evidence));
        }
    }

    /// Takes over a new snapshot and the connections that came with it.
    #[cold]
    fn refresh(&mut self, now: Tick, completions: &mut Vec<Completion>) {
        let snapshot = Arc::clone(self.snapshot.load());
        self.epoch = Some(snapshot.epoch);
        self.engine.apply(now, &snapshot, completions);
        self.pending.extend(self.inbox.try_iter());
        for opening in std::mem::take(&mut self.pending) {
            match snapshot.route(opening.path) {
                // What it has let go of is not its own any more.
                Some(_) if self.engine.has_let_go(opening.path) => {}
                Some(route) if route.incarnation == opening.incarnation => self.open(opening),
                // Ahead of the snapshot.
                _ if snapshot
                    .route(opening.path)
                    .is_none_or(|route| route.incarnation < opening.incarnation) =>
                {
                    self.pending.push(opening);
                }
                _ => {}
            }
        }
        self.pending.retain(|opening| !snapshot.is_past(opening.path));
        self.retire_ended(&snapshot);
        for (path, incarnation) in self.ports.open_now() {
            self.engine.opened(path.slot(), incarnation);
        }
        self.report_over();
        if snapshot.policy.generation != self.policy_generation {
            self.policy_generation = snapshot.policy.generation;
            self.seat = PolicySeat::new(&*snapshot.policy.make, self.seed);
        }
        self.engine.serve(&self.seat);
        self.seat.paths_changed(&self.engine.candidates());
        if let Some(text) = self.reactor.take_warning() {
            self.engine.evidence().push(Evidence::Warning { text });
        }
        self.load_due = now;
    }

    /// Retires connections that the supervisor has declared over.
    fn retire_ended(&mut self, snapshot: &Snapshot) {
        let over = |&(path, incarnation): &(PathId, Incarnation)| {
            snapshot.route(path).is_none_or(|route| route.incarnation != incarnation)
        };
        let ended: Vec<(PathId, Incarnation)> = self.ports.open_now().filter(over).collect();
        for (path, _) in ended {
            self.ports.retire(path.slot());
        }
    }

    /// Tells how far the connections of each path are no longer used, and how far they have handed everything back.
    fn report_over(&mut self) {
        self.swept = self.ports.swept();
        let snapshot = Arc::clone(self.snapshot.load());
        for route in snapshot.routes.iter().flatten() {
            let oldest = self.ports.oldest(route.id).unwrap_or(route.incarnation);
            let left = route.incarnation.previous();
            let drained = oldest.previous().min(left);
            let told = &mut self.over[route.id.slot()];
            if *told != (route.id, left, drained) {
                *told = (route.id, left, drained);
                self.engine.evidence().push(Evidence::Over { path: route.id, left, drained });
            }
        }
    }

    fn open(&mut self, opening: Opening) {
        let Opening { path, incarnation, queue, counters } = opening;
        self.counters[path.slot()] = Some(Arc::clone(&counters));
        self.engine.set_counters(path.slot(), counters);
        if let Err(reason) = self.ports.open(&mut self.reactor, path, incarnation, queue) {
            self.engine.unusable(path.slot(), incarnation, reason);
        }
    }

    /// Says how much this queue has out on each path, and hears it of the others.
    fn exchange_load(&mut self, now: Tick) {
        self.load_due = now.after(LOAD_REFRESH);
        self.engine.publish_load();
        for slot in self.engine.known() {
            let Some(counters) = &self.counters[slot] else { continue };
            let mine = usize::from(self.index.0);
            let others = counters.iter().enumerate().filter(|&(queue, _)| queue != mine);
            let elsewhere = others.map(|(_, counters)| counters.in_flight()).sum();
            self.engine.set_elsewhere(slot, elsewhere);
        }
    }

    /// Sleeps until something happens, or `until`.
    fn sleep(&mut self, until: Option<Tick>) {
        // The others, and whoever asks for the status, see what it has out while it sleeps.
        self.engine.publish_load();
        self.reactor.wait(until);
    }

    fn next_deadline(&self, now: Tick) -> Option<Tick> {
        if self.is_done() {
            return None;
        }
        if self.engine.has_work() {
            return Some(now);
        }
        [self.engine.next_deadline(), self.ports.next_deadline(now)].into_iter().flatten().min()
    }

    /// Whether no path holds anything of this queue and nothing waits.
    fn is_idle(&self) -> bool {
        self.engine.requests() == 0 && self.engine.attempts() == 0
    }

    /// Takes over the latest snapshot: what a path that leaves has in its cache is then flushed before the queue goes.
    fn hear(&mut self) {
        let mut lost = Vec::new();
        if self.epoch != Some(self.snapshot.load().epoch) {
            self.refresh(Tick::ZERO, &mut lost);
        }
    }

    /// Gives up every request: the owner is gone.
    fn abandon(&mut self) {
        let mut lost = Vec::new();
        self.engine.abandon_all(|fate| Error::Closed { fate }, &mut lost);
        self.settle(Tick::ZERO, &mut lost);
    }

    fn report_finished(&mut self) {
        if self.finished == Finished::No {
            self.finished = Finished::Yes;
            // What paths have claimed is free before the volume says that it is closed.
            self.ports.retire_all();
            self.reactor.flush();
            let _ = self.shared.messages.send(Message::Evidence(self.index, Evidence::Finished));
        }
    }

    /// Keeps the queue until paths have handed everything back; for a thread of its own.
    pub(super) fn reap(mut self) {
        while !self.is_done() {
            let until = self.next_deadline(Tick::ZERO);
            self.reactor.wait(until);
            self.reap_turn(Tick::now());
        }
    }

    /// One turn of a queue whose owner is gone.
    pub(crate) fn reap_turn(&mut self, now: Tick) -> Option<Tick> {
        let mut lost = Vec::new();
        self.turn(now, &mut lost);
        self.reactor.flush();
        if self.is_idle() {
            self.report_finished();
        }
        self.next_deadline(now)
    }

    /// Whether a queue whose owner is gone can go.
    pub(crate) fn is_done(&self) -> bool {
        self.finished == Finished::Yes
    }
}
