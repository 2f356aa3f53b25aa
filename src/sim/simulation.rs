//! A volume in virtual time.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded, unbounded};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::block::{BlockCount, Geometry, Limits};
use crate::buffer::{Buffer, Pool};
use crate::control::Event;
use crate::engine::{NoPath, Sharing};
use crate::error::{Error, Fate};
use crate::io::{Completion, Cookie, PathId, Rejected, Request};
use crate::path::{AccessState, CacheScope, ControlSink, Incarnation, Path, QueueIndex};
use crate::policy::{MakePolicy, RoundRobin};
use crate::time::Tick;
use crate::volume::simulated::{
    Conductor, Deliver, Helper, Message, Newcomer, Prospect, QueueCore, Reaping, Settings, Settling,
    assemble, connect,
};
use crate::volume::{PathOptions, Queue, Settled, Status};

use super::array::Stamp;
use super::fabric::{Fabric, FenceFault, LinkFault, LinkIndex, LinkProfile};
use super::link::{SharedFabric, SimPath, lock, put_stamps, stamps};
use super::witness::{Published, Testimony, Witnessed};

const BLOCK_SIZE: u32 = 512;
const TRANSFER_BLOCKS: u32 = 16;
/// How late a thread may come to its turn.
const TARDINESS: Duration = Duration::from_micros(5);

/// What to simulate.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// The links, each a path.
    pub links: Vec<LinkProfile>,
    /// Number of queues.
    pub queues: u16,
    /// Requests at once in each queue.
    pub depth: u32,
    /// Blocks of the device, of 512 bytes each.
    pub blocks: u64,
    /// How paths are chosen.
    pub policy: Arc<dyn MakePolicy>,
    /// What happens while no path is left.
    pub no_path: NoPath,
    /// The least age at which a read or a write can be late.
    pub late_after: Duration,
    /// The age at which an attempt makes its path suspect.
    pub suspect_after: Duration,
    /// Most times that a request is tried again which paths have failed.
    pub max_retries: u32,
    /// Who writes to the device.
    pub sharing: Sharing,
    /// Between two probes of a path that is down.
    pub probe_interval: Duration,
    /// Between two probes of a path that is up.
    pub check_interval: Duration,
    /// What is left to chance follows from this.
    pub seed: u64,
}

impl Options {
    /// Two queues of 64 requests, 64 blocks, round-robin; suspect after 20 ms, probed every 10 ms, held for 10 s.
    pub fn new(links: Vec<LinkProfile>) -> Self {
        Self {
            links,
            queues: 2,
            depth: 64,
            blocks: 64,
            policy: Arc::new(RoundRobin::default()),
            no_path: NoPath::hold(Duration::from_secs(10)),
            late_after: Duration::from_millis(3),
            suspect_after: Duration::from_millis(20),
            max_retries: u32::MAX,
            sharing: Sharing::Shared,
            probe_interval: Duration::from_millis(10),
            check_interval: Duration::from_millis(200),
            seed: 0,
        }
    }
}

/// A volume over simulated links, with its array, its faults and its time.
pub struct Simulation {
    now: Tick,
    fabric: SharedFabric,
    conductor: Conductor,
    inbox: Receiver<Message>,
    queues: Vec<Option<Queue>>,
    /// Queues whose threads do not run.
    asleep: BTreeSet<usize>,
    kept: Arc<Mutex<Vec<QueueCore>>>,
    /// When a queue or the control side is due next.
    due: Option<Tick>,
    completions: Vec<(usize, Completion)>,
    batch: Vec<Completion>,
    pool: Pool,
    queue_count: u16,
    chance: Xoshiro256PlusPlus,
    testimony: Testimony,
    published: Published,
    events: Receiver<Event>,
}

impl Simulation {
    /// Puts it together; virtual time starts at one second.
    ///
    /// # Errors
    /// As those of a volume's builder.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let geometry = Geometry::new(BLOCK_SIZE, options.blocks)?;
        let most = BlockCount::new(TRANSFER_BLOCKS);
        let limits = Limits::new(TRANSFER_BLOCKS * BLOCK_SIZE).with_discard(most).with_write_zeroes(most);
        let fabric = Arc::new(Mutex::new(Fabric::new(geometry, limits, options.seed)));
        let now = Tick::from_nanos(1_000_000_000);
        lock(&fabric).advance(now);
        let testimony = Testimony::default();
        let published = Published::default();
        let settings = Self::settings(options, &testimony, &published);
        let prospects = options
            .links
            .iter()
            .map(|profile| {
                newcomer(&fabric, profile.clone(), options.queues)
                    .map(|newcomer| Prospect::Here(Box::new(newcomer)))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let (messages, inbox) = unbounded();
        let kept = Arc::default();
        let reaping = Reaping::Kept(Arc::clone(&kept));
        settings.check()?;
        let mut assembled = assemble(&settings, prospects, (messages, reaping), now)?;
        *published.lock().unwrap_or_else(PoisonError::into_inner) =
            Arc::downgrade(&assembled.shared.snapshot);
        let (subscriber, events) = bounded(65_536);
        assembled.conductor.handle(now, Message::Subscribe(subscriber));
        for queue in 0..options.queues {
            let (reply, _) = bounded(1);
            assembled.conductor.handle(now, Message::Take(QueueIndex(queue), reply));
        }
        let buffers = options.depth.saturating_mul(u32::from(options.queues)).saturating_mul(4);
        Ok(Self {
            now,
            fabric,
            conductor: assembled.conductor,
            inbox,
            queues: assembled.queues.into_iter().map(Some).collect(),
            asleep: BTreeSet::new(),
            kept,
            due: Some(now),
            completions: Vec::new(),
            batch: Vec::new(),
            pool: Pool::new(TRANSFER_BLOCKS * BLOCK_SIZE, buffers)?,
            queue_count: options.queues,
            chance: Xoshiro256PlusPlus::seed_from_u64(options.seed ^ 0x51_u64.rotate_right(8)),
            testimony,
            published,
            events,
        })
    }

    fn settings(options: &Options, testimony: &Testimony, published: &Published) -> Settings {
        let make = Witnessed {
            inner: Arc::clone(&options.policy),
            published: Arc::clone(published),
            testimony: Arc::clone(testimony),
        };
        Settings {
            make: Arc::new(make),
            queues: options.queues,
            depth: options.depth,
            no_path: options.no_path,
            late_after: options.late_after,
            suspect_after: options.suspect_after,
            max_retries: options.max_retries,
            sharing: options.sharing,
            probe_interval: options.probe_interval,
            check_interval: options.check_interval,
            seed: options.seed,
            pools: Vec::new(),
        }
    }

    // Using it.

    /// The present virtual time.
    pub const fn now(&self) -> Tick {
        self.now
    }

    /// A buffer of `blocks` blocks, each with this stamp; `None` if all are out.
    pub fn stamped(&self, blocks: u32, stamp: Stamp) -> Option<Buffer> {
        let mut buffer = self.pool.take(blocks * BLOCK_SIZE)?;
        put_stamps(&mut buffer, BLOCK_SIZE, &vec![stamp; blocks as usize]);
        Some(buffer)
    }

    /// The stamps that a buffer holds.
    pub fn stamps(&self, buffer: &[u8]) -> Vec<Stamp> {
        stamps(buffer, BLOCK_SIZE)
    }

    /// Submits a request to a queue.
    ///
    /// # Errors
    /// The request comes back with the reason.
    #[allow(clippy::result_large_err, reason = "what could not be taken is given back")]
    pub fn submit(&mut self, queue: usize, request: Request) -> Result<(), Rejected> {
        self.due = Some(self.now);
        match self.queues.get_mut(queue) {
            Some(Some(queue)) => queue.submit(request),
            _ => Err(Rejected { request, error: Error::Closed { fate: Fate::NotSent } }),
        }
    }

    /// Cancels requests of a queue.
    pub fn cancel(&mut self, queue: usize, cookie: Cookie) -> usize {
        let Some(Some(of)) = self.queues.get_mut(queue) else { return 0 };
        let ended = of.cancel(cookie, &mut self.batch);
        self.completions.extend(self.batch.drain(..).map(|completion| (queue, completion)));
        self.due = Some(self.now);
        ended
    }

    /// The thread of a queue stops where it is: it can be given requests, and hears and does nothing.
    pub fn pause_queue(&mut self, queue: usize) {
        self.asleep.insert(queue);
    }

    /// The thread of a queue goes on.
    pub fn resume_queue(&mut self, queue: usize) {
        self.asleep.remove(&queue);
        self.due = Some(self.now);
    }

    /// Drops a queue, requests and all.
    pub fn drop_queue(&mut self, queue: usize) {
        if let Some(slot) = self.queues.get_mut(queue) {
            *slot = None;
        }
        self.due = Some(self.now);
    }

    /// What has ended since the last call, with the number of its queue.
    pub fn take_completions(&mut self) -> Vec<(usize, Completion)> {
        std::mem::take(&mut self.completions)
    }

    /// Buffers that were quarantined and are back.
    pub fn take_released(&mut self) -> Vec<(Cookie, Buffer)> {
        self.queues
            .iter_mut()
            .flatten()
            .flat_map(|queue| std::iter::from_fn(|| queue.poll_released()))
            .collect()
    }

    /// Events since the last call.
    pub fn take_events(&self) -> Vec<Event> {
        self.events.try_iter().collect()
    }

    /// How the volume stands.
    pub fn status(&mut self) -> Status {
        let (reply, answer) = bounded(1);
        self.conductor.handle(self.now, Message::Status(reply));
        answer.try_recv().unwrap_or_default()
    }

    // Changing it.

    /// Adds a path over a new link; its id, and the link's number.
    ///
    /// # Errors
    /// Why it does not join.
    pub fn add_path(&mut self, profile: LinkProfile) -> Result<(PathId, LinkIndex), Error> {
        let newcomer = newcomer(&self.fabric, profile, self.queue_count)?;
        let link = lock(&self.fabric).links() - 1;
        self.due = Some(self.now);
        Ok((self.conductor.join(self.now, newcomer)?, link))
    }

    /// Removes a path.
    ///
    /// # Errors
    /// If there is no such path.
    pub fn remove_path(&mut self, path: PathId) -> Result<Settled, Error> {
        let (settled, settling) = Settled::new();
        self.conductor.remove(self.now, path, settling)?;
        self.due = Some(self.now);
        Ok(settled)
    }

    /// Closes the volume.
    pub fn close(&mut self, grace: Duration) -> Settled {
        let (settled, settling) = Settled::new();
        self.conductor.handle(self.now, Message::Close(self.now.after(grace), settling));
        self.due = Some(self.now);
        settled
    }

    /// Replaces the policy.
    pub fn set_policy(&mut self, policy: Arc<dyn MakePolicy>) {
        let make = Witnessed {
            inner: policy,
            published: Arc::clone(&self.published),
            testimony: Arc::clone(&self.testimony),
        };
        self.conductor.handle(self.now, Message::SetPolicy(Arc::new(make)));
        self.due = Some(self.now);
    }

    /// Switches a fault of a link on.
    pub fn break_link(&mut self, link: LinkIndex, fault: LinkFault) {
        lock(&self.fabric).break_link(link, fault);
    }

    /// Ends a link's fault.
    pub fn restore_link(&mut self, link: LinkIndex) {
        lock(&self.fabric).restore(link);
    }

    /// Changes a link's access state.
    pub fn set_access(&mut self, link: LinkIndex, access: AccessState) {
        lock(&self.fabric).set_access(link, access);
        self.due = Some(self.now);
    }

    /// Sets how long attempts and probes over a link take, one way: shortest and longest.
    pub fn set_latency(&mut self, link: LinkIndex, latency: (Duration, Duration)) {
        lock(&self.fabric).set_latency(link, latency);
    }

    /// Switches a fault of a link's fence on, or off.
    pub fn set_fence_fault(&mut self, link: LinkIndex, fault: Option<FenceFault>) {
        lock(&self.fabric).set_fence_fault(link, fault);
    }

    /// The next so many attempts over a link never arrive, and nothing is said of them while their connection lasts; on a link that
    /// is [`Answered`](crate::path::FenceSupport::Answered), for half a second.
    pub fn lose(&mut self, link: LinkIndex, attempts: u32) {
        lock(&self.fabric).lose(link, attempts);
    }

    /// From its next connection on the link has another name for its cache.
    pub fn rename_cache(&mut self, link: LinkIndex, alias: CacheScope) {
        lock(&self.fabric).rename_cache(link, alias);
    }

    /// Looks at a path at once.
    ///
    /// # Errors
    /// If there is no such path.
    pub fn retry_path(&mut self, path: PathId) -> Result<(), Error> {
        let (reply, answer) = bounded(1);
        self.conductor.handle(self.now, Message::Retry(path, reply));
        self.due = Some(self.now);
        answer.try_recv().unwrap_or(Err(Error::Closed { fate: Fate::NotSent }))
    }

    /// Takes over the size that every path has by now.
    ///
    /// # Errors
    /// The path that stands in the way.
    pub fn grow(&mut self) -> Result<Geometry, Error> {
        let (reply, answer) = bounded(1);
        self.conductor.handle(self.now, Message::Grow(reply));
        self.due = Some(self.now);
        answer.try_recv().unwrap_or(Err(Error::Closed { fate: Fate::NotSent }))
    }

    /// Vouches for a path.
    pub fn vouch(&mut self, path: PathId) {
        self.conductor.handle(self.now, Message::Vouch(path));
        self.due = Some(self.now);
    }

    /// Sets how many of a million attempts over a link go wrong.
    pub fn set_mishaps(&mut self, link: LinkIndex, per_million: u32) {
        lock(&self.fabric).set_mishaps(link, per_million);
    }

    // Looking at it.

    /// What every block of the array holds.
    pub fn content(&self) -> Vec<Stamp> {
        lock(&self.fabric).array.content()
    }

    /// What every block would hold after a power loss.
    pub fn durable(&self) -> Vec<Stamp> {
        lock(&self.fabric).array.durable()
    }

    /// Whether nothing that was sent can still take effect.
    pub fn is_quiet(&self) -> bool {
        lock(&self.fabric).is_quiet()
    }

    /// Requests that have not ended, and ended ones whose buffer is quarantined.
    pub fn outstanding(&self) -> usize {
        self.queues.iter().flatten().map(Queue::len).sum()
    }

    /// What the crate did that it must not do: eligibility, use of dead connections.
    pub fn violations(&self) -> Vec<String> {
        let mut violations = lock(&self.fabric).violations.clone();
        violations.extend(self.testimony.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        violations
    }

    // Time.

    /// Goes on to the next moment at which something happens, `limit` at the latest; `false` if nothing is left to
    /// happen before.
    pub fn step(&mut self, limit: Tick) -> bool {
        let next = [lock(&self.fabric).next_due(), self.due].into_iter().flatten().min();
        let Some(next) = next.filter(|&next| next <= limit) else {
            self.now = self.now.max(limit);
            return false;
        };
        self.now = self.now.max(next);
        self.due = None;
        lock(&self.fabric).advance(self.now);
        for queue in 0..self.queues.len() {
            if self.asleep.contains(&queue) || self.comes_late() {
                continue;
            }
            self.poll(queue);
        }
        self.reap();
        if !self.comes_late() {
            self.control();
        }
        true
    }

    /// Whether a thread misses this moment and comes a little later.
    fn comes_late(&mut self) -> bool {
        let late = self.chance.random_range(0..4) == 0;
        if late {
            self.due_by(self.now.after(TARDINESS));
        }
        late
    }

    fn due_by(&mut self, tick: Tick) {
        let tick = tick.max(self.now.after(Duration::from_nanos(100)));
        self.due = Some(self.due.map_or(tick, |due| due.min(tick)));
    }

    fn poll(&mut self, index: usize) {
        let Some(Some(queue)) = self.queues.get_mut(index) else { return };
        let next = queue.poll(self.now, &mut self.batch);
        self.completions.extend(self.batch.drain(..).map(|completion| (index, completion)));
        if let Some(next) = next {
            self.due_by(next);
        }
    }

    /// Turns the queues whose owners are gone.
    fn reap(&mut self) {
        let kept = Arc::clone(&self.kept);
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        for core in kept.iter_mut() {
            if let Some(next) = core.reap_turn(self.now) {
                self.due_by(next);
            }
        }
        kept.retain(|core| !core.is_done());
    }

    fn control(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            self.conductor.handle(self.now, message);
        }
        let before = self.conductor.epoch();
        if let Some(next) = self.conductor.turn(self.now) {
            self.due_by(next);
        }
        if self.conductor.epoch() != before || !self.inbox.is_empty() {
            self.due_by(self.now);
        }
    }

    /// Lets `span` pass.
    pub fn run_for(&mut self, span: Duration) {
        let limit = self.now.after(span);
        while self.step(limit) {}
    }

    /// Goes on until no request is outstanding, for at most `span`; whether that is so.
    pub fn run_until_idle(&mut self, span: Duration) -> bool {
        let limit = self.now.after(span);
        while self.outstanding() > 0 {
            if !self.step(limit) && self.now >= limit {
                break;
            }
        }
        self.outstanding() == 0
    }
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation").field("now", &self.now).finish_non_exhaustive()
    }
}

fn newcomer(fabric: &SharedFabric, profile: LinkProfile, queues: u16) -> Result<Newcomer, Error> {
    let link = lock(fabric).add_link(profile);
    let mut path = SimPath::new(link, Arc::clone(fabric));
    let connection = connect(&mut path, Incarnation::NONE.next(), queues)?;
    let terms = PathOptions::new().terms();
    Ok(Newcomer { name: path.name(), terms, connection, helper: Box::new(Inline { path, queues }) })
}

/// Calls a path's control half then and there: in simulated time nothing blocks.
struct Inline {
    path: SimPath,
    queues: u16,
}

impl Helper for Inline {
    fn connect(&mut self, incarnation: Incarnation, deliver: Deliver) {
        deliver(connect(&mut self.path, incarnation, self.queues));
    }

    fn probe(&mut self, sink: ControlSink) {
        self.path.probe(sink);
    }

    fn fence(&mut self, through: Incarnation, sink: ControlSink) {
        if let Err(cause) = self.path.fence(through, sink.clone()) {
            sink.fence_failed(through, cause);
        }
    }

    fn close(self: Box<Self>, waiting: Vec<Settling>) {
        drop(self);
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_has_joined_can_be_used_when_its_user_hears_of_it() {
        let mut simulation = Simulation::new(&Options::new(vec![LinkProfile::default()])).unwrap();
        let newcomer = newcomer(&simulation.fabric, LinkProfile::default(), simulation.queue_count).unwrap();
        let (reply, answer) = bounded(1);
        let before = simulation.conductor.epoch();
        simulation.conductor.handle(simulation.now, Message::Join(newcomer, reply));
        assert!(answer.is_empty(), "queues do not know of it yet");
        simulation.conductor.turn(simulation.now);
        assert!(answer.try_recv().unwrap().is_ok());
        assert!(simulation.conductor.epoch() > before);
    }
}
