//! What the handles, the control half and the queues of one faulty path have in common.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Cause, Error};
use crate::path::faulty::device::Device;
use crate::path::faulty::faults::{Faults, Stall};
use crate::path::faulty::fence::{Fence, Needs};
use crate::path::faulty::flights::Rest;
use crate::path::{ControlSink, Description, FenceGrade, FenceSupport, Incarnation, News};
use crate::reactor::Waker;
use crate::sync::{AtomicU32, Ordering};

/// Names an open queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat(u32);

#[derive(Debug)]
pub(super) struct Shared {
    /// Changes with the state, under its lock. Queues compare it on every call and lock only when it moved; it
    /// publishes nothing itself, so all accesses are relaxed. That a queue looks at all is the wakers' matter.
    version: AtomicU32,
    state: Mutex<State>,
}

impl Shared {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { version: AtomicU32::new(0), state: Mutex::new(State::default()) })
    }

    pub(super) fn version(&self) -> u32 {
        self.version.load(Ordering::Relaxed)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails if connection `incarnation` of the path called `name` is gone.
    pub(super) fn check_open(
        &self,
        incarnation: Incarnation,
        name: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        if self.lock().life(incarnation) == Life::Open {
            return Ok(());
        }
        Err(Error::unreachable(name(), "the connection was lost before a queue could use it; connect again"))
    }

    /// Changes the state so that every queue notices.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        self.version.fetch_add(1, Ordering::Relaxed);
        for waker in state.queues.values().filter_map(|queue| queue.waker.as_ref()) {
            waker.wake();
        }
        result
    }
}

impl Shared {
    /// The wrapped path said `news`, which without the wrapper would have gone to `onward`.
    pub(super) fn hear(&self, onward: &ControlSink, news: News) {
        match news {
            News::Fenced { through, grade } => {
                self.change(|state| state.pass_fence(through, grade, onward.clone()));
            }
            news => self.lock().hear(onward, news),
        }
    }
}

/// What is known of an open queue.
#[derive(Debug)]
struct OpenedQueue {
    incarnation: Incarnation,
    /// `None` when it was dropped with attempts out that may yet take effect.
    waker: Option<Waker>,
    /// Whether it was ever told to keep attempts.
    keeps: bool,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Open,
    /// Fenced: it takes nothing new.
    Closed,
    /// Lost: moreover what is out has failed.
    Dead,
}

/// What a queue goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Orders {
    pub(super) faults: Faults,
    pub(super) life: Life,
    /// How often the path was restored.
    pub(super) restores: u64,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) faults: Faults,
    pub(super) device: Device,
    pub(super) fence_after: Option<Duration>,
    /// The supervisor has yet to be told of it.
    fence_is_news: bool,
    /// The way to the supervisor, once there is one.
    supervisor: Option<ControlSink>,
    restores: u64,
    /// Since `fail` and until `restore`.
    failed: bool,
    /// The last connection that was made.
    incarnation: Incarnation,
    dead_through: Incarnation,
    closed_through: Incarnation,
    seats: u32,
    queues: BTreeMap<Seat, OpenedQueue>,
    fence_serial: u32,
    fences: Vec<Fence>,
    /// Reports that a stall holds up.
    withheld: Vec<(ControlSink, News)>,
}

/// The connection.
impl State {
    pub(super) fn fail(&mut self) {
        self.failed = true;
        self.dead_through = self.incarnation;
        self.end_unattended();
        self.speak();
    }

    /// The path falls silent.
    pub(super) fn stall(&mut self, stall: Stall) {
        self.faults.stall = Some(stall);
        self.end_unattended();
    }

    pub(super) fn restore(&mut self) {
        self.failed = false;
        self.faults = Faults::default();
        self.restores += 1;
        self.device.restore();
        self.speak();
    }

    /// Why a new connection cannot be made.
    pub(super) fn hindrance(&self) -> Option<&'static str> {
        if self.failed {
            Some("no connection, by an injected failure; restore the path and connect again")
        } else if self.faults.stall.is_some() {
            Some("no answer, by an injected stall; restore the path and connect again")
        } else {
            None
        }
    }

    /// A connection was made to a device of this `description`, which is amended.
    pub(super) fn connected(
        &mut self,
        incarnation: Incarnation,
        description: &mut Description,
    ) -> Result<(), Error> {
        description.geometry = self.device.described(description)?;
        if self.fence_after.is_some() {
            description.fence = FenceSupport::Proven;
            "injected".clone_into(&mut description.fence_derivation);
        }
        self.fence_is_news = false;
        self.incarnation = incarnation;
        Ok(())
    }

    pub(super) const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    pub(super) fn life(&self, incarnation: Incarnation) -> Life {
        if incarnation <= self.dead_through {
            Life::Dead
        } else if incarnation <= self.closed_through {
            Life::Closed
        } else {
            Life::Open
        }
    }

    /// Whether the present connection works, stalled or not.
    pub(super) fn is_connected(&self) -> bool {
        !self.failed && self.life(self.incarnation) == Life::Open
    }
}

/// Reports on their way to the supervisor.
impl State {
    fn hear(&mut self, onward: &ControlSink, news: News) {
        if self.faults.stall.is_some() && !self.failed {
            self.withheld.push((onward.clone(), news));
        } else {
            self.tell(onward, news);
        }
    }

    fn speak(&mut self) {
        for (onward, news) in std::mem::take(&mut self.withheld) {
            self.tell(&onward, news);
        }
    }

    fn tell(&mut self, onward: &ControlSink, news: News) {
        match news {
            News::Probed(_) if !self.is_connected() => onward.probed(Err(Cause::NotConnected)),
            News::Probed(result) => {
                if result.is_ok() {
                    self.device.tell(onward);
                }
                onward.probed(result);
            }
            News::AccessState(access) => {
                self.device.access = access;
                onward.access_state(access);
            }
            News::Capacity(blocks) => self.device.tell_capacity(blocks, onward),
            News::Fenced { through, grade } => onward.fenced(through, grade),
            News::FenceFailed { through, cause } => onward.fence_failed(through, cause),
            // The wrapper's own fence stands in for the wrapped path's.
            News::FenceSupport(_) if self.fence_after.is_some() => {}
            News::FenceSupport(support) => onward.fence_support(support),
        }
    }
}

/// The queues.
impl State {
    /// A queue of connection `incarnation` opens.
    pub(super) fn seat(&mut self, incarnation: Incarnation, waker: Waker) -> Seat {
        let seat = Seat(self.seats);
        self.seats += 1;
        self.queues.insert(seat, OpenedQueue { incarnation, waker: Some(waker), keeps: false });
        for fence in self.fences.iter_mut().filter(|fence| fence.waiting.is_empty()) {
            fence.waiting.push(seat);
        }
        seat
    }

    /// A queue is dropped. Nobody will ever hear of what can still take effect: it stands in the way of every fence
    /// that should cover it.
    pub(super) fn leave(&mut self, seat: Seat, rest: Rest) {
        if rest == Rest::Nothing {
            self.queues.remove(&seat);
            self.cleared(seat, |_| true);
        } else if let Some(queue) = self.queues.get_mut(&seat) {
            queue.waker = None;
            queue.keeps = rest == Rest::Ghosts;
            // The time is all that was wanted of it.
            let timed: Vec<u32> =
                self.duties(seat).filter(|(_, needs)| needs.is_time()).map(|(serial, _)| serial).collect();
            self.cleared(seat, |fence| timed.contains(&fence));
        }
    }

    /// What the queue in `seat` goes by from now on.
    pub(super) fn orders(&mut self, seat: Seat) -> Orders {
        let faults = self.faults;
        let mut life = Life::Dead;
        if let Some(queue) = self.queues.get_mut(&seat) {
            queue.keeps |= matches!(faults.stall, Some(Stall::Lost { .. }));
            let incarnation = queue.incarnation;
            life = self.life(incarnation);
        }
        Orders { faults, life, restores: self.restores }
    }
}

/// Fences.
impl State {
    /// The path has a fence of its own from now on. The supervisor hears of it at once, or with the next probe.
    pub(super) fn set_fence(&mut self, delay: Duration) {
        self.fence_is_news |= self.fence_after.replace(delay).is_none();
        self.tell_of_fence();
    }

    /// The supervisor can be reached through `sink`. A fence that was set too late to be told at the connect is told even
    /// of a path that is silent: that is what fences are for.
    pub(super) fn meet(&mut self, sink: &ControlSink) {
        self.supervisor = Some(sink.clone());
        self.tell_of_fence();
    }

    fn tell_of_fence(&mut self) {
        if self.fence_is_news
            && let Some(supervisor) = &self.supervisor
        {
            supervisor.fence_support(FenceSupport::Proven);
            self.fence_is_news = false;
        }
    }

    /// The volume asks for a fence of the path's own, which takes `delay`.
    pub(super) fn begin_fence(&mut self, through: Incarnation, delay: Duration, sink: ControlSink) {
        let waiting = self.seats_through(through, |_| true);
        if !waiting.is_empty() || delay.is_zero() {
            return self.open_fence(through, FenceGrade::Proven, Needs::Delay(delay), waiting, sink);
        }
        // Nothing stands in its way, but somebody has to tell the time: a queue of a later connection, or the next to open.
        let mut queues = self.queues.iter();
        let clock = queues.find(|(_, queue)| queue.waker.is_some()).map(|(&seat, _)| seat);
        let was_asked = self.fences.iter().any(|fence| fence.waiting.is_empty());
        let is_hopeless = was_asked || self.hindrance().is_some();
        self.keep_fence(through, FenceGrade::Proven, Needs::Clock(delay), Vec::from_iter(clock), sink);
        if clock.is_none() && is_hopeless {
            self.end_unattended();
        }
    }

    /// No queue opens soon to tell the time for these: they are made now.
    fn end_unattended(&mut self) {
        for fence in self.fences.extract_if(.., |fence| fence.waiting.is_empty()) {
            fence.sink.fenced(fence.through, fence.grade);
        }
    }

    /// The wrapped path has made its fence, which knows nothing of the attempts that were kept from it.
    fn pass_fence(&mut self, through: Incarnation, grade: FenceGrade, sink: ControlSink) {
        let waiting = self.seats_through(through, |queue| queue.keeps);
        self.open_fence(through, grade, Needs::NoneKept, waiting, sink);
    }

    fn seats_through(&self, through: Incarnation, concerned: impl Fn(&OpenedQueue) -> bool) -> Vec<Seat> {
        let queues = self.queues.iter();
        let queues = queues.filter(|(_, queue)| queue.incarnation <= through && concerned(queue));
        queues.map(|(&seat, _)| seat).collect()
    }

    fn open_fence(
        &mut self,
        through: Incarnation,
        grade: FenceGrade,
        needs: Needs,
        waiting: Vec<Seat>,
        sink: ControlSink,
    ) {
        if waiting.is_empty() {
            self.closed_through = self.closed_through.max(through);
            return sink.fenced(through, grade);
        }
        self.keep_fence(through, grade, needs, waiting, sink);
    }

    fn keep_fence(
        &mut self,
        through: Incarnation,
        grade: FenceGrade,
        needs: Needs,
        waiting: Vec<Seat>,
        sink: ControlSink,
    ) {
        self.closed_through = self.closed_through.max(through);
        self.fence_serial += 1;
        self.fences.push(Fence { serial: self.fence_serial, through, grade, needs, waiting, sink });
    }

    /// Fences that wait for the queue in `seat`: their serials and what they need of it.
    pub(super) fn duties(&self, seat: Seat) -> impl Iterator<Item = (u32, Needs)> {
        let fences = self.fences.iter().filter(move |fence| fence.waiting.contains(&seat));
        fences.map(|fence| (fence.serial, fence.needs))
    }

    /// The queue in `seat` stands in the way of these fences no more.
    pub(super) fn cleared(&mut self, seat: Seat, which: impl Fn(u32) -> bool) {
        for fence in self.fences.iter_mut().filter(|fence| which(fence.serial)) {
            fence.waiting.retain(|&waiting| waiting != seat);
        }
        self.end_unattended();
    }
}
