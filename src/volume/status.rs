//! How a volume and its paths are doing, in numbers.

use std::time::Duration;

use crate::engine::{Health, Totals};
use crate::error::Fate;
use crate::io::PathId;
use crate::path::{AccessState, Cache, FenceSupport, Identity, Incarnation};
use crate::time::Tick;

/// How a volume stands: a picture of one moment, put together from counters that go on counting.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Status {
    /// The paths, in the order in which they joined.
    pub paths: Vec<PathStatus>,
    /// Writes that were given up and may still land: they bar later writes to their blocks.
    pub ghosts: usize,
    /// Requests that are on no path, as the queues last said: they wait for one that works or has room, for the fence of an
    /// earlier try, or for a write to the same blocks that is late or may still land.
    pub waiting: u32,
}

/// How a path stands, over all queues.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PathStatus {
    /// Its id.
    pub id: PathId,
    /// What it calls itself.
    pub name: String,
    /// Whether it works.
    pub health: Health,
    /// Why it is down: why it went, or why it cannot connect again. `None` before the first try of one that the volume started
    /// without, and of one that is not down.
    pub why_down: Option<String>,
    /// Until when a path that answers is the last resort, since it has failed again and again;
    /// [`Volume::retry_path`](crate::Volume::retry_path) ends that.
    pub held_back_until: Option<Tick>,
    /// Its access state.
    pub access: AccessState,
    /// Which connection it is at.
    pub incarnation: Incarnation,
    /// Whether it is being removed.
    pub leaving: bool,
    /// How well it can be fenced.
    pub fence: FenceSupport,
    /// How that is known, as the path says; empty if it does not.
    pub fence_derivation: String,
    /// How the device is reached, as the path says; empty if it does not.
    pub transport: String,
    /// Where the device hangs, by names that last when it goes and comes back.
    pub place: Option<String>,
    /// What it calls the device, with the kinds of identifier.
    pub identity: Identity,
    /// Which cache its writes land in.
    pub cache: Cache,
    /// Since when something waits for that: writes of unknown fate, to be sent again or to let newer ones through.
    pub unfenced_since: Option<Tick>,
    pub(super) totals: Totals,
}

impl PathStatus {
    /// Attempts that succeeded.
    pub fn completed(&self) -> u64 {
        self.totals.completed
    }

    /// Bytes that successful attempts moved.
    pub fn bytes(&self) -> u64 {
        self.totals.bytes
    }

    /// Attempts that are out, as the queues last said.
    pub fn in_flight(&self) -> u32 {
        self.totals.in_flight
    }

    /// Attempts that ended with this fate.
    pub fn failed(&self, fate: Fate) -> u64 {
        self.totals.failed(fate)
    }

    /// The time that `per_mille` of the successful attempts did not exceed (500: the median), to one sixteenth; `None`
    /// before the first.
    pub fn latency(&self, per_mille: u32) -> Option<Duration> {
        self.totals.percentile(per_mille)
    }
}
