//! What a path is: one way to the storage of a volume, in two halves.
//!
//! [`Path`] is the control half: it connects, describes what it found, fences and probes, and may block; the volume
//! calls it on a helper thread of its own. [`PathQueue`] is the data half, one for each queue: it is called on the
//! queue's thread, in batches, and never blocks.
//!
//! ```text
//! Path::connect ──► Description            is it the same device, what may be asked of it
//! Path::open_queue ──► OpenQueue ──► PathQueue (made on the queue's own thread)
//! PathQueue::submit(attempts) … PathQueue::event / poll ──► Outcomes
//! ```
//!
//! An attempt ends twice. It is *finished* when its result is known or given up, and *released* when the path can
//! touch its memory no more. [`Outcomes::complete`] says both at once; [`Outcomes::give_up`] says the first alone,
//! and handing the [`Attempt`] back later says the second.
//!
//! A path of your own should pass `mpio::path_suite!` (feature `testing`).

mod attempt;
pub(crate) mod block_device;
mod description;
mod faulty;

use std::fmt;
use std::sync::Arc;

pub use attempt::{Attempt, AttemptId, Attempts, Fault, FenceGrade, Outcome, Outcomes};
pub use block_device::BlockDevice;
pub(crate) use description::Kinship;
pub use description::{
    AccessState, Cache, CacheScope, Description, FenceSupport, Identifier, IdentifierKind, Identity,
};
pub use faulty::{FaultHandle, FaultKind, Faulty, Stall, Transport};

pub use crate::buffer::Lease;
use crate::error::{Cause, Error};
use crate::io::PathId;
pub use crate::io::QueueIndex;
pub use crate::reactor::{Port, Reactor, ReactorEvent, Waker};
use crate::time::Tick;

/// One connection's life of a path: it grows by one with each reconnect, and never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(u32);

impl Incarnation {
    /// Before the first connection.
    pub const NONE: Self = Self(0);

    /// After every other.
    pub(crate) const LAST: Self = Self(u32::MAX);

    /// The one before.
    pub(crate) const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The next life.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The control half of a path. Every method but [`name`](Self::name) may block; it is called on a helper thread of this
/// path alone, so that a path which hangs holds up nothing else. A panic is caught and counts as [`Cause::Broken`].
pub trait Path: Send + 'static {
    /// How the path names itself in messages: a device node, an address. Must not block: unlike everything else here it is
    /// called by whoever gives the path to a volume.
    fn name(&self) -> String;

    /// Connects, or checks that the connection stands, and describes what is there. Called once before everything
    /// else, and again for each new incarnation: attempts of earlier ones may still be on their way. After an error
    /// it is called again, later, for the same incarnation.
    ///
    /// # Errors
    /// Why there is no connection and what would mend it: [`Error::Unreachable`] if it may come right by itself, so that a volume
    /// starts without this path, [`Error::Path`] if not.
    fn connect(&mut self, incarnation: Incarnation) -> Result<Description, Error>;

    /// What queue number `queue` needs to use the present connection.
    ///
    /// # Errors
    /// Why there is none.
    fn open_queue(&mut self, queue: QueueIndex) -> Result<Box<dyn OpenQueue>, Error>;

    /// Makes sure that nothing sent through the connections up to `through` can take effect any more, then says
    /// [`ControlSink::fenced`], now or later, or [`ControlSink::fence_failed`] if it cannot. From then on those connections' path queues must refuse whatever they are
    /// still given ([`Fault::NotSent`]): a queue's thread may come late to the news. Asked only of a path whose [`Description::fence`] is
    /// [`FenceSupport::Proven`]: the volume itself waits out an assumed one. It is asked again, also for the same connections,
    /// after it failed and when the answer is overdue.
    ///
    /// # Errors
    /// Why it cannot be made now: the same as [`ControlSink::fence_failed`].
    fn fence(&mut self, through: Incarnation, sink: ControlSink) -> Result<(), Cause> {
        let _ = (through, sink);
        Err(Cause::Broken)
    }

    /// Finds out whether the path works, then says [`ControlSink::probed`], now or later. While no answer comes the
    /// path stays as it is, or goes down: it comes up again with the answer.
    fn probe(&mut self, sink: ControlSink);
}

/// A [`PathQueue`] on its way to the thread that will use it.
pub trait OpenQueue: Send {
    /// Makes the data half. `port` is the path's address within `reactor`.
    ///
    /// # Errors
    /// Why it cannot be: the path then counts as not connected for this queue.
    fn open(self: Box<Self>, reactor: &mut Reactor, port: Port) -> Result<Box<dyn PathQueue>, Error>;
}

/// The data half of a path: called on one queue's thread, in batches; it never blocks. Dropped when every attempt
/// was handed back, or when the process gives it up.
///
/// A panic is caught: the path is then taken down, what it held counts as of unknown fate, and its memory is never
/// used again.
pub trait PathQueue: Send {
    /// Takes attempts. Those left in `attempts` count as not sent, for want of room. The result is when
    /// [`poll`](Self::poll) should next be called at the latest.
    fn submit(&mut self, reactor: &mut Reactor, now: Tick, attempts: &mut Attempts<'_>) -> Option<Tick>;

    /// A completion of the queue's ring for this path.
    fn event(&mut self, reactor: &mut Reactor, event: ReactorEvent, outcomes: &mut Outcomes<'_>) {
        let _ = (reactor, event, outcomes);
    }

    /// Called when the tick that it or [`submit`](Self::submit) named has come, and after its port was woken
    /// ([`Reactor::waker`]). The result is when to call again at the latest; `None` for when woken.
    fn poll(&mut self, reactor: &mut Reactor, now: Tick, outcomes: &mut Outcomes<'_>) -> Option<Tick>;

    /// Nobody waits for this attempt's result any more. A hint: its memory must still be handed back in due time.
    fn cancel(&mut self, reactor: &mut Reactor, attempt: AttemptId) {
        let _ = (reactor, attempt);
    }
}

/// Where the control half of a path reports what it found. Can be kept and used later, from any thread.
#[derive(Clone)]
pub struct ControlSink {
    path: PathId,
    incarnation: Incarnation,
    deliver: Arc<dyn Fn(ControlReport) + Send + Sync>,
}

/// One report, as it reaches the supervisor.
#[derive(Debug)]
pub(crate) struct ControlReport {
    pub(crate) path: PathId,
    pub(crate) incarnation: Incarnation,
    pub(crate) news: News,
}

/// What a control half can have to say.
#[derive(Clone, Copy, Debug)]
pub(crate) enum News {
    Probed(Result<(), Cause>),
    Fenced {
        through: Incarnation,
        grade: FenceGrade,
    },
    /// It could not be made.
    FenceFailed {
        through: Incarnation,
        cause: Cause,
    },
    FenceSupport(FenceSupport),
    AccessState(AccessState),
    Capacity(u64),
}

impl ControlSink {
    /// A sink for `path` that hands reports to `deliver`.
    pub(crate) fn new(
        path: PathId,
        incarnation: Incarnation,
        deliver: impl Fn(ControlReport) + Send + Sync + 'static,
    ) -> Self {
        Self { path, incarnation, deliver: Arc::new(deliver) }
    }

    /// A sink for the same connection whose reports go to `hear`, with the sink that they were meant for.
    pub(crate) fn behind(self, hear: impl Fn(&Self, News) + Send + Sync + 'static) -> Self {
        let (path, incarnation) = (self.path, self.incarnation);
        Self::new(path, incarnation, move |report| hear(&self, report.news))
    }

    fn send(&self, news: News) {
        (self.deliver)(ControlReport { path: self.path, incarnation: self.incarnation, news });
    }

    /// The connection that this sink was made for.
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The probe's result: the path works, or why not. [`Cause::NotConnected`] asks for a new connection.
    pub fn probed(&self, result: Result<(), Cause>) {
        self.send(News::Probed(result));
    }

    /// Nothing sent through the connections up to `through` can take effect any more.
    pub fn fenced(&self, through: Incarnation, grade: FenceGrade) {
        self.send(News::Fenced { through, grade });
    }

    /// The connections up to `through` could not be fenced; it is asked again, after a pause.
    pub fn fence_failed(&self, through: Incarnation, cause: Cause) {
        self.send(News::FenceFailed { through, cause });
    }

    /// How well the path can be fenced changed: what waits for a fence, perhaps without one in sight, goes by it at once.
    pub fn fence_support(&self, support: FenceSupport) {
        self.send(News::FenceSupport(support));
    }

    /// The path's access state changed.
    pub fn access_state(&self, state: AccessState) {
        self.send(News::AccessState(state));
    }

    /// The device behind the path now has `blocks` logical blocks.
    pub fn capacity(&self, blocks: u64) {
        self.send(News::Capacity(blocks));
    }
}

impl fmt::Debug for ControlSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlSink")
            .field("path", &self.path)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}
