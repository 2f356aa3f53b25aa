//! What a volume's handle, its queues and its control side share.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, Sender};

use crate::block::{Geometry, Limits};
use crate::control::{Event, Terms};
use crate::engine::{Common, Evidence, PathCounters, Snapshot};
use crate::error::Error;
use crate::io::PathId;
use crate::os::spawn_io_thread;
use crate::path::{ControlReport, Description, Incarnation, QueueIndex};
use crate::policy::MakePolicy;
use crate::reactor::Waker;
use crate::time::Tick;

use super::conductor::Helper;
use super::queue::QueueCore;
use super::settled::Settling;
use super::status::Status;
use super::unopened::Unopened;

/// Everything that reaches the control side.
pub(crate) enum Message {
    Evidence(QueueIndex, Evidence),
    Report(ControlReport),
    /// A helper has tried to connect.
    Connected {
        path: PathId,
        incarnation: Incarnation,
        result: Result<Connection, Error>,
    },
    Join(Newcomer, Sender<Result<PathId, Error>>),
    Remove(PathId, Sender<Result<(), Error>>, Settling),
    /// A queue is about to be taken; the answer comes when everything that was decided without it is published.
    Take(QueueIndex, Sender<()>),
    Retry(PathId, Sender<Result<(), Error>>),
    /// Something has happened to a path's device.
    Look(PathId),
    Grow(Sender<Result<Geometry, Error>>),
    Vouch(PathId),
    SetPolicy(Arc<dyn MakePolicy>),
    Close(Tick, Settling),
    Subscribe(Sender<Event>),
    Status(Sender<Status>),
    /// The last handle is gone.
    Detach,
}

/// A path's connection as its helper made it.
pub(crate) struct Connection {
    pub(crate) description: Description,
    /// One for each queue, in order.
    pub(crate) queues: Vec<Unopened>,
}

/// A path that has connected for the first time and wants to join.
pub(crate) struct Newcomer {
    pub(crate) name: String,
    pub(crate) terms: Terms,
    pub(crate) connection: Connection,
    /// Whoever calls the path's control half.
    pub(crate) helper: Box<dyn Helper>,
}

/// A path that could not connect yet: it joins all the same, as one that is down, and comes up when it can.
pub(crate) struct Absentee {
    pub(crate) name: String,
    pub(crate) terms: Terms,
    pub(crate) helper: Box<dyn Helper>,
}

/// A path that a volume is to be built over.
pub(crate) enum Prospect {
    Here(Box<Newcomer>),
    Absent(Absentee),
}

/// A connection on its way to a queue.
pub(crate) struct Opening {
    pub(crate) path: PathId,
    pub(crate) incarnation: Incarnation,
    pub(crate) queue: Unopened,
    /// One for each queue.
    pub(crate) counters: Arc<[PathCounters]>,
}

/// What becomes of a queue that is dropped while paths still hold its attempts.
#[derive(Clone)]
pub(crate) enum Reaping {
    /// A thread keeps it until it has everything back.
    Thread,
    /// It is kept here for whoever turns it: the simulator, where there are no threads.
    #[cfg_attr(not(any(test, feature = "sim")), expect(dead_code, reason = "the simulator's"))]
    Kept(Arc<Mutex<Vec<QueueCore>>>),
}

impl Reaping {
    /// Takes care of a queue that its owner has dropped.
    pub(super) fn take(&self, core: QueueCore) {
        match self {
            Self::Kept(kept) => kept.lock().unwrap_or_else(PoisonError::into_inner).push(core),
            Self::Thread => {
                // Held in a cell so that it is leaked, not dropped, if there is no thread to be had: what the kernel
                // still holds must stay.
                let cell = Arc::new(Mutex::new(Some(core)));
                let given = Arc::clone(&cell);
                let spawned = spawn_io_thread("mpio-reaper", move || {
                    let core = given.lock().unwrap_or_else(PoisonError::into_inner).take();
                    if let Some(core) = core {
                        core.reap();
                    }
                });
                if spawned.is_err() {
                    std::mem::forget(cell);
                }
            }
        }
    }
}

/// One queue as the control side reaches it.
pub(crate) struct Line {
    pub(crate) inbox: Sender<Opening>,
    pub(crate) bell: Waker,
}

/// What every part of a volume can see.
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) common: Arc<Common>,
    pub(crate) messages: Sender<Message>,
    pub(crate) reaping: Reaping,
    /// The process that the volume's threads and rings are of.
    pub(crate) process: u32,
}

impl Shared {
    /// Block size and capacity, as they are now.
    pub(crate) fn geometry(&self) -> Geometry {
        self.common.geometry.get()
    }

    /// Whether it was built here, and not in the process that this one was forked from.
    pub(crate) fn is_of_this_process(&self) -> bool {
        self.process == std::process::id()
    }
}

/// A queue's end of its [`Line`].
pub(crate) type Inbox = Receiver<Opening>;
