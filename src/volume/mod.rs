//! A volume: one logical unit, the paths to it, and the queues through which it is used.

mod bell;
mod builder;
mod client;
mod conductor;
mod control_thread;
mod dispatcher;
mod follow;
mod helper;
mod ports;
pub(crate) mod pulse;
mod queue;
mod settled;
mod shared;
mod status;
mod submitter;
mod unopened;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};

#[cfg(any(test, feature = "sim"))]
pub(crate) mod simulated {
    //! The parts of a volume, for the simulator to put together in its own way.

    pub(crate) use super::builder::{Settings, assemble};
    pub(crate) use super::conductor::{Conductor, Deliver, Helper};
    pub(crate) use super::helper::connect;
    pub(crate) use super::queue::QueueCore;
    pub(crate) use super::settled::Settling;
    pub(crate) use super::shared::{Message, Newcomer, Prospect, Reaping};
}

pub use builder::{PathOptions, VolumeBuilder};
pub use client::{Client, Response};
pub use dispatcher::{Dispatcher, Served};
pub use queue::Queue;
pub use settled::Settled;
pub use status::{PathStatus, Status};
pub use submitter::Submitter;

use crate::block::{Geometry, Limits};
use crate::control::Event;
use crate::engine::Phase;
use crate::error::{Error, Fate};
use crate::io::PathId;
use crate::path::block_device::discover::UnitPath;
use crate::path::block_device::uevents::Line;
use crate::path::{Path, QueueIndex};
use crate::policy::MakePolicy;
use crate::time::Tick;
use builder::Patience;
use shared::{Message, Shared};

/// Events that are kept for a reader before further ones are lost (and counted).
const EVENT_BACKLOG: usize = 1024;

/// The control handle of a volume: cheap to clone, usable from any thread.
///
/// I/O goes through its queues, taken with [`take_queue`](Self::take_queue). The volume lives for as long as a handle or
/// a queue does; [`close`](Self::close) ends it in good order.
///
/// It belongs to the process that built it: after `fork(2)` the child's handle says [`Error::Forked`], its status is empty, and
/// what it has of queues, submitters and clients must not be used.
#[derive(Clone)]
pub struct Volume {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    /// Those that nobody has taken yet.
    queues: Mutex<Vec<Option<Queue>>>,
    queue_count: u16,
    connect_timeout: Duration,
    /// To those who hear what the kernel says of devices.
    lines: Mutex<Vec<Line>>,
}

impl Inner {
    /// Ends the threads that hear what the kernel says of devices.
    fn hang_up(&self) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(Line::hang_up);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.shared.is_of_this_process() {
            // The control side is gone only when everything has ended already.
            let _ = self.shared.messages.send(Message::Detach);
            self.hang_up();
        }
    }
}

impl Volume {
    /// Starts to put a volume together.
    pub fn builder() -> VolumeBuilder {
        VolumeBuilder::new()
    }

    /// Block size and capacity, which [`grow`](Self::grow) may change.
    pub fn geometry(&self) -> Geometry {
        self.inner.shared.geometry()
    }

    /// What one request may ask for.
    pub fn limits(&self) -> Limits {
        self.inner.shared.limits
    }

    /// Number of queues that it was built with.
    pub fn queues(&self) -> u16 {
        self.inner.queue_count
    }

    /// Hands out a queue, once; `None` if there is no such queue or it was taken.
    pub fn take_queue(&self, index: QueueIndex) -> Option<Queue> {
        self.check_process().ok()?;
        let mut queues = self.inner.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.get_mut(usize::from(index.0))?.take()?;
        let (reply, answer) = bounded(1);
        // A volume that is closed has nothing more to say of it.
        let _ = self.ask(Message::Take(index, reply), &answer);
        Some(queue)
    }

    /// Adds a path while the volume works. Waits until it has connected, for at most the
    /// [`connect_timeout`](VolumeBuilder::connect_timeout); nothing but the caller waits.
    ///
    /// # Errors
    /// Why it does not belong to the volume or cannot be used; the volume goes on without it.
    pub fn add_path(&self, path: impl Path) -> Result<PathId, Error> {
        self.add_path_with(PathOptions::default(), path)
    }

    /// Adds a path with options.
    ///
    /// # Errors
    /// As [`add_path`](Self::add_path).
    pub fn add_path_with(&self, options: PathOptions, path: impl Path) -> Result<PathId, Error> {
        // One that comes later is refused when it joins.
        self.check_open()?;
        let name = helper::name(&path);
        let patience = Patience::new(self.inner.connect_timeout);
        let (helper, connected) = helper::start(path, self.inner.queue_count)?;
        let newcomer = builder::newcomer(name, options.terms(), helper, &connected, patience)?;
        let (reply, answer) = bounded(1);
        self.ask(Message::Join(newcomer, reply), &answer)?
    }

    /// Removes a path: it gets no new attempts; when every queue has let go of it, it is dropped. A queue lets go when it
    /// is polled, the path has handed back every attempt, and no write of unknown fate waits for the path's fence: with
    /// [`FenceSupport::None`](crate::path::FenceSupport::None) that can last until the write's deadline.
    ///
    /// # Errors
    /// If there is no such path (any more), or the volume is closed.
    pub fn remove_path(&self, path: PathId) -> Result<Settled, Error> {
        let (settled, settling) = Settled::new();
        let (reply, answer) = bounded(1);
        self.ask(Message::Remove(path, reply, settling), &answer)??;
        Ok(settled)
    }

    /// Says that nothing that was sent through this path so far can take effect any more: its array was powered off, its
    /// initiator logged out, its zone closed. Writes of unknown fate on it are then sent again, and those that were given up
    /// bar newer ones no more. Where something waits on the present connection, that is ended, and the word is taken to cover
    /// what is sent until every queue has left it. The path may have been removed meanwhile.
    ///
    /// Nobody checks it. Where it is not true, an old write can land over newer data.
    ///
    /// # Errors
    /// If the volume is closed.
    pub fn vouch(&self, path: PathId) -> Result<(), Error> {
        self.check_open()?;
        self.tell(Message::Vouch(path))
    }

    /// Looks at a path at once, instead of after the pause that follows a failure: for whoever knows that it may work again. That it
    /// has failed again and again is held against it no more.
    ///
    /// # Errors
    /// If there is no such path (any more), or the volume is closed.
    pub fn retry_path(&self, path: PathId) -> Result<(), Error> {
        let (reply, answer) = bounded(1);
        self.ask(Message::Retry(path, reply), &answer)?
    }

    /// Takes over the size that every path has by now, if that is larger; the volume's size from now on. Requests may use the new
    /// blocks at once. A path's size is looked at when it connects and with each probe
    /// ([`EventKind::Capacity`](crate::EventKind::Capacity), [`retry_path`](Self::retry_path)). The kernel looks at that of a SCSI
    /// disk when it is told to: `echo 1 >/sys/block/sdX/device/rescan`.
    ///
    /// # Errors
    /// [`Error::Path`] for the path that stands in the way, since it has no more blocks than the volume while others have; or if the
    /// volume is closed.
    pub fn grow(&self) -> Result<Geometry, Error> {
        let (reply, answer) = bounded(1);
        self.ask(Message::Grow(reply), &answer)?
    }

    /// Has paths to block devices looked at as soon as the kernel says that something has happened to their devices (uevents). What
    /// came back, changed its access state or its size is then noticed at once, not only when the path is looked at anyway. It takes
    /// a thread and a netlink socket until the volume is closed, or its last handle is dropped; and at most four looks a second,
    /// whatever happens on the host.
    ///
    /// In a network namespace that is not the first user namespace's the kernel says nothing.
    ///
    /// # Errors
    /// If there is no such socket or thread, or the volume is closed.
    pub fn follow_devices(&self) -> Result<(), Error> {
        self.check_open()?;
        self.keep_line(follow::look(&self.inner)?);
        Ok(())
    }

    /// As [`follow_devices`](Self::follow_devices); moreover the paths are kept those that this host has to the unit. `add` is called,
    /// on a thread of its own, for each further way that comes, as [`discover`](crate::discover) lists them: it adds a path to it or
    /// not, and is called again after a while if it has not. A path whose device has been gone for ten minutes is removed, but for the
    /// last. One that is removed by somebody is not added again before its device has gone and come back.
    ///
    /// `add` must not hold a handle of the volume, which would live for as long as it.
    ///
    /// # Errors
    /// If there is no thread, or the volume is closed. Where the kernel says nothing, ways are found once a minute.
    pub fn follow_unit(&self, add: impl FnMut(&Self, &UnitPath) + Send + 'static) -> Result<(), Error> {
        self.check_open()?;
        // The other one looks at all ways by and by.
        let _ = self.follow_devices();
        self.keep_line(follow::keep(&self.inner, Box::new(add))?);
        Ok(())
    }

    fn keep_line(&self, line: Line) {
        self.inner.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// Replaces the policy, in each queue between two batches.
    ///
    /// # Errors
    /// If the volume is closed.
    pub fn set_policy(&self, policy: impl MakePolicy) -> Result<(), Error> {
        self.check_open()?;
        self.tell(Message::SetPolicy(Arc::new(policy)))
    }

    /// What happens from now on. A reader that falls 1024 events behind loses some, and is told how many.
    pub fn events(&self) -> Events {
        let (sender, receiver) = bounded(EVENT_BACKLOG);
        // Of a closed volume there are none.
        let _ = self.tell(Message::Subscribe(sender));
        Events { receiver }
    }

    /// How the volume and its paths stand at this moment.
    pub fn status(&self) -> Status {
        let (reply, answer) = bounded(1);
        self.ask(Message::Status(reply), &answer).unwrap_or_default()
    }

    /// Takes no more requests and lets those that are under way end; what is left after `grace` ends with
    /// [`Error::Closed`]. Complete when every queue has ended, which takes being polled, and every path is dropped: with
    /// a device that hangs, when it lets go of the memory that it holds. Queues that nobody took end at once.
    pub fn close(&self, grace: Duration) -> Settled {
        let (settled, settling) = Settled::new();
        if self.check_process().is_ok() {
            self.inner.queues.lock().unwrap_or_else(PoisonError::into_inner).clear();
            self.inner.hang_up();
        }
        // A volume that is closed already drops the message, and so settles.
        let _ = self.tell(Message::Close(Tick::now().after(grace), settling));
        settled
    }

    fn check_open(&self) -> Result<(), Error> {
        self.check_process()?;
        match self.inner.shared.snapshot.load().phase {
            Phase::Open => Ok(()),
            Phase::Closing(_) => Err(Error::Closed { fate: Fate::NotSent }),
        }
    }

    fn check_process(&self) -> Result<(), Error> {
        if self.inner.shared.is_of_this_process() { Ok(()) } else { Err(Error::Forked) }
    }

    fn tell(&self, message: Message) -> Result<(), Error> {
        self.check_process()?;
        let closed = |_| Error::Closed { fate: Fate::NotSent };
        self.inner.shared.messages.send(message).map_err(closed)
    }

    fn ask<T>(&self, message: Message, answer: &Receiver<T>) -> Result<T, Error> {
        self.tell(message)?;
        answer.recv().map_err(|_| Error::Closed { fate: Fate::NotSent })
    }
}

impl std::fmt::Debug for Volume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Volume").field("geometry", &self.geometry()).finish_non_exhaustive()
    }
}

/// A reader of a volume's events.
#[derive(Debug)]
pub struct Events {
    receiver: Receiver<Event>,
}

impl Events {
    /// The next event, if there is one.
    pub fn try_next(&self) -> Option<Event> {
        self.receiver.try_recv().ok()
    }

    /// The next event; waits for at most `timeout`. `None` also when the volume has ended.
    pub fn next_within(&self, timeout: Duration) -> Option<Event> {
        self.receiver.recv_timeout(timeout).ok()
    }
}
