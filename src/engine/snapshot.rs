//! What the supervisor publishes and every queue reads: the volume's paths as they stand.

use std::sync::Arc;
use std::time::Duration;

use crate::io::PathId;
use crate::path::{AccessState, Incarnation};
use crate::policy::{MAX_PATHS, MakePolicy};
use crate::time::Tick;

/// What happens to requests while no path can take them, and for how long one is tried again that every path has failed.
///
/// What `no_path_retry` and `queue_if_no_path` are to dm-multipath. The time runs from the moment when the last path went, for all
/// requests alike. A request that waits for a fence does not wait for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoPath {
    /// They fail at once, and one that paths have failed when each has failed it twice (`no_path_retry fail`).
    Fail,
    /// They wait, within bounds (`no_path_retry` times `polling_interval`; `queue_if_no_path` is a long time).
    Hold {
        /// For at most this long from when the last path went.
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

/// Who writes to the volume's device.
///
/// It decides when a write of unknown fate is sent again. What the volume itself sends later over the same blocks waits for
/// the fence of the first attempt in both cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sharing {
    /// Other hosts, or other volumes, may write too: a cluster file system, a shared database. A write of unknown fate is sent
    /// again only after the fence, since it must not land over what another host has written meanwhile.
    #[default]
    Shared,
    /// This volume alone writes, as under a local file system. A write of unknown fate is sent again at once, and ends when
    /// that has succeeded: until the fence its first attempt can only do the same once more.
    ///
    /// Where another host writes after all, an old write can land over its data, as it can under Linux's own multipath.
    Exclusive,
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
    /// All caches that a flush over it covers: this one, and those that it was said to have before.
    pub(crate) covers: u64,
    /// Being removed: no new attempts.
    pub(crate) leaving: bool,
    /// The array wants it used before others of its access state.
    pub(crate) preferred: bool,
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
