//! What the supervisor publishes and every queue reads: the volume's paths as they stand.

use std::sync::Arc;
use std::time::Duration;

use crate::io::PathId;
use crate::path::{AccessState, Incarnation};
use crate::policy::{MAX_PATHS, MakePolicy};
use crate::time::Tick;

/// What happens to requests while no path can take them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoPath {
    /// They fail at once.
    Fail,
    /// They wait, within bounds.
    Hold {
        /// For at most this long each.
        time: Duration,
        /// At most this many at once in each queue; further ones fail at once.
        requests: u32,
        /// At most this many bytes of data at once in each queue; further ones fail at once.
        bytes: u64,
    },
}

impl NoPath {
    /// Waits for at most `time`, however many requests the queue has room for.
    pub const fn hold(time: Duration) -> Self {
        Self::Hold { time, requests: u32::MAX, bytes: u64::MAX }
    }
}

/// How a path is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// It works.
    Up,
    /// Something failed or is late; a probe will tell. Used only where no path is up.
    Suspect,
    /// It does not work.
    Down,
}

/// One path as queues need to know it.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) id: PathId,
    /// The present connection.
    pub(crate) incarnation: Incarnation,
    /// Grows each time the supervisor declares the path good: whatever a queue held against it before is settled.
    pub(crate) admission: u32,
    pub(crate) health: Health,
    pub(crate) access: AccessState,
    pub(crate) weight: u32,
    pub(crate) rank: u32,
    /// Attempts that each queue may have out.
    pub(crate) depth: u32,
    /// Connections up to this one cannot take effect any more.
    pub(crate) fenced: Incarnation,
    /// Index of the cache that its writes land in, `None` for no volatile cache.
    pub(crate) scope: Option<u8>,
    /// Being removed: no new attempts.
    pub(crate) leaving: bool,
}

/// Whether the volume takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// No new requests; those that are left at the tick end with [`Error::Closed`](crate::Error::Closed).
    Closing(Tick),
}

/// A policy on its way to the queues.
#[derive(Clone)]
pub(crate) struct PolicyChoice {
    /// Grows with each change.
    pub(crate) generation: u64,
    pub(crate) make: Arc<dyn MakePolicy>,
}

/// The volume as it stands, replaced as a whole.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(crate) epoch: u64,
    /// Paths that ever joined: serials below this are or were members.
    pub(crate) joined: u32,
    pub(crate) phase: Phase,
    pub(crate) no_path: NoPath,
    pub(crate) policy: PolicyChoice,
    pub(crate) routes: [Option<Route>; MAX_PATHS],
}

impl Snapshot {
    /// A volume that is open and has no paths yet.
    pub(crate) fn new(no_path: NoPath, make: Arc<dyn MakePolicy>) -> Self {
        Self {
            epoch: 0,
            joined: 0,
            phase: Phase::Open,
            no_path,
            policy: PolicyChoice { generation: 0, make },
            routes: [const { None }; MAX_PATHS],
        }
    }

    /// Whether the path was a member and is none any more.
    pub(crate) fn is_past(&self, path: PathId) -> bool {
        path.serial() < self.joined && self.route(path).is_none()
    }

    /// The route of this path, `None` if it is gone or has yet to join.
    pub(crate) fn route(&self, path: PathId) -> Option<&Route> {
        self.routes.get(path.slot())?.as_ref().filter(|route| route.id == path)
    }
}
