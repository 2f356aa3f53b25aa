//! A thread of the crate that polls queues for others.

pub(crate) mod door;
mod station;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
mod thread;

use std::fmt;
use std::sync::Arc;

use crossbeam::channel::{Sender, unbounded};

use crate::block::{Geometry, Limits, LiveGeometry};
use crate::buffer::Pool;
use crate::error::{Error, Fate};
use crate::sync::{AtomicU64, Ordering};

use super::bell::Bell;
use super::client::Client;
use super::queue::Queue;
use super::submitter::Submitter;
use door::Door;
use thread::{Command, Thread};

/// A thread that polls queues, of one volume or of many, for those who do not poll them themselves.
///
/// [`serve`](Self::serve) gives it a queue; the [`Served`] that comes back opens ways into it: a [`Submitter`] for each
/// thread that polls for its own completions, a [`Client`](crate::Client) for tasks and threads that wait. The queue is
/// drained fairly: at most 32 requests from one of them before it is the next one's turn.
///
/// While there is little to do the thread polls on for some 50 microseconds and then sleeps. Cloning gives another
/// handle. The thread ends when the handles, and all that was opened through them, are gone.
///
/// A request takes two hand-offs between threads more than on a [`Queue`] that its own thread polls. One dispatcher can
/// carry some hundred thousand requests a second; for more, have several, each with a queue of the volume.
///
/// ```
/// use std::time::Duration;
///
/// use mpio::path::BlockDevice;
/// use mpio::{Cookie, Dispatcher, QueueIndex, Request, Volume};
///
/// # let file = std::env::temp_dir().join(format!("mpio-dispatcher-{}", std::process::id()));
/// # std::fs::File::create(&file)?.set_len(1 << 20)?;
/// # let path = file.clone();
/// let volume = Volume::builder().path(BlockDevice::new(path)).build()?;
/// let dispatcher = Dispatcher::start()?;
/// let served = dispatcher.serve(volume.take_queue(QueueIndex(0)).expect("nobody took it"))?;
///
/// let mut submitter = served.submitter(64)?;
/// submitter.submit(Request::flush(Cookie(1)))?;
/// let mut completions = Vec::new();
/// while completions.is_empty() {
///     submitter.wait(None, &mut completions);
/// }
/// completions.remove(0).result?;
/// assert!(volume.close(Duration::from_secs(1)).wait(Duration::from_secs(10)));
/// # std::fs::remove_file(file)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Dispatcher {
    line: Line,
    /// How many queues it was given so far: numbers them. Any handle adds; publishes nothing.
    queues: Arc<AtomicU64>,
}

/// How handles reach the thread.
#[derive(Clone)]
struct Line {
    commands: Sender<Command>,
    bell: Arc<Bell>,
}

impl Line {
    /// # Errors
    /// [`Error::Closed`] if the thread is gone, which only a defect of this crate can bring about.
    fn send(&self, command: Command) -> Result<(), Error> {
        let sent = self.commands.send(command).map_err(|_| Error::Closed { fate: Fate::NotSent });
        self.bell.ring();
        sent
    }
}

impl Dispatcher {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`Error::Os`] if no thread is to be had.
    pub fn start() -> Result<Self, Error> {
        let (commands, inbox) = unbounded();
        let bell = Bell::new(None);
        Thread::start(inbox, Arc::clone(&bell))?;
        Ok(Self { line: Line { commands, bell }, queues: Arc::new(AtomicU64::new(0)) })
    }

    /// Has the thread poll a queue from now on, until the volume is closed, or until nothing that was opened through the
    /// result is left and every request has ended.
    ///
    /// # Errors
    /// [`Error::Closed`] if the thread is gone, which only a defect of this crate can bring about.
    pub fn serve(&self, queue: Queue) -> Result<Served, Error> {
        let (geometry, limits) = (queue.live_geometry(), queue.limits());
        let number = self.queues.fetch_add(1, Ordering::Relaxed);
        self.line.send(Command::Serve(number, Box::new(queue)))?;
        Ok(Served { tenancy: Arc::new(Tenancy { number, line: self.line.clone() }), geometry, limits })
    }
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher").finish_non_exhaustive()
    }
}

/// A queue in the hands of a [`Dispatcher`]. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct Served {
    tenancy: Arc<Tenancy>,
    geometry: LiveGeometry,
    limits: Limits,
}

/// The right to open doors to a queue, given up with the last handle.
struct Tenancy {
    number: u64,
    line: Line,
}

impl Drop for Tenancy {
    fn drop(&mut self) {
        // A thread that is gone has dropped the queue already.
        let _ = self.line.send(Command::Leave(self.number));
    }
}

impl Served {
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

    /// A lane of its own to the queue, for one thread, with at most `depth` requests at once.
    ///
    /// # Errors
    /// [`Error::Setting`] if `depth` is not between 1 and 65536, [`Error::Os`] if the process has no descriptor left,
    /// [`Error::Closed`] if the dispatcher's thread is gone.
    pub fn submitter(&self, depth: u32) -> Result<Submitter, Error> {
        let (submitter, door) = Submitter::open(depth, self)?;
        self.open(Box::new(door))?;
        Ok(submitter)
    }

    /// A client of the queue, for any number of threads and tasks, with at most `depth` requests at once in the queue;
    /// further ones wait their turn. For calls on borrowed slices it has 256 buffers of its own, of 128 KiB or as much as
    /// one transfer may have, and 64 in reserve; memory that is never used is never there.
    ///
    /// # Errors
    /// [`Error::Setting`] if `depth` is not between 1 and 65536, [`Error::Os`] if the memory cannot be had,
    /// [`Error::Closed`] if the dispatcher's thread is gone.
    pub fn client(&self, depth: u32) -> Result<Client, Error> {
        Client::open(self, depth)
    }

    /// The same with buffers of `pool`, which may be [registered](crate::VolumeBuilder::pool) with the volume: the client
    /// takes all that are available and keeps them.
    ///
    /// # Errors
    /// As [`client`](Self::client), and [`Error::Setting`] if the pool has no buffer left, or its buffers are smaller than
    /// a block.
    pub fn client_with_pool(&self, depth: u32, pool: &Pool) -> Result<Client, Error> {
        Client::open_with_pool(self, depth, pool)
    }

    pub(super) fn open(&self, door: Box<dyn Door>) -> Result<(), Error> {
        self.tenancy.line.send(Command::Open(self.tenancy.number, door))
    }

    pub(super) fn bell(&self) -> &Arc<Bell> {
        &self.tenancy.line.bell
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").field("geometry", &self.geometry()).finish_non_exhaustive()
    }
}
