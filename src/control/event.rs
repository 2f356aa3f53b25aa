//! What an operator may want to know.

use std::fmt;
use std::time::Duration;

use crate::error::Cause;
use crate::io::PathId;
use crate::path::{AccessState, FenceGrade, QueueIndex};
use crate::time::Tick;

/// Something that happened to a volume.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// When.
    pub at: Tick,
    /// Which path it concerns, and its own name for itself; `None` for the volume as a whole.
    pub path: Option<(PathId, String)>,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// The path joined the volume.
    Joined,
    /// Something failed on the path; it is being looked into, and used only where no path is up.
    Suspect(Cause),
    /// An attempt got no answer for this long; the path is being looked into.
    Silent(Duration),
    /// The path takes no I/O until it works again.
    Down(String),
    /// The path works (again), this long after it was last up.
    Up(Duration),
    /// The path answers, but has failed this often within a short time: it stays the last resort for so long.
    HeldBack(u32, Duration),
    /// A new connection was made, the `n`-th.
    Reconnected(u32),
    /// The path's access state changed.
    Access(AccessState),
    /// Nothing sent over earlier connections can take effect any more.
    Fenced(FenceGrade),
    /// The path could not make sure that earlier writes take no effect any more; it is asked again.
    FenceFailed(Cause),
    /// Writes of unknown fate have waited for so long until it is known that they can no longer take effect, and go on waiting.
    FenceOverdue(Duration),
    /// Writes of unknown fate wait on this path, which cannot be fenced: until the device answers.
    Unfenced,
    /// The device behind the path now has this many blocks.
    Capacity(u64),
    /// The volume now has this many blocks.
    Grown(u64),
    /// The path is being removed.
    Leaving,
    /// Every queue has let go of the path: it is gone.
    Removed,
    /// The policy failed in this queue and was replaced by least-queue.
    PolicyReplaced(QueueIndex, &'static str),
    /// Something works less well than it could, or should not have happened.
    Warning(String),
    /// The volume takes no more requests.
    Closing,
    /// Every request has ended and every path is gone.
    Closed,
    /// So many events were lost because they were not read in time.
    Missed(u64),
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Joined => f.write_str("joined"),
            Self::Suspect(cause) => write!(f, "suspect: {cause}"),
            Self::Silent(age) => write!(f, "suspect: no answer for {} ms", age.as_millis()),
            Self::Down(reason) => write!(f, "down: {reason}"),
            Self::Up(after) => write!(f, "up again after {} ms", after.as_millis()),
            Self::HeldBack(falls, time) => {
                write!(f, "failed {falls} times in a short time: the last resort for {} ms", time.as_millis())
            }
            Self::Reconnected(count) => write!(f, "connected anew (connection {count})"),
            Self::Access(state) => write!(f, "access state is {state}"),
            Self::Fenced(FenceGrade::Proven) => f.write_str("fenced (proven)"),
            Self::Fenced(FenceGrade::Assumed) => f.write_str("fenced (assumed)"),
            Self::Fenced(FenceGrade::Vouched) => f.write_str("fenced (vouched for)"),
            Self::Fenced(FenceGrade::None) => {
                f.write_str("not fenced: writes are sent again at the user's risk")
            }
            Self::FenceFailed(cause) => {
                write!(f, "could not be fenced: {cause}; writes of unknown fate wait, and it is asked again")
            }
            Self::FenceOverdue(age) => {
                write!(f, "no fence after {} ms: writes of unknown fate wait for it", age.as_millis())
            }
            Self::Unfenced => f.write_str("writes of unknown fate wait for the device's answer (no fence)"),
            Self::Capacity(blocks) | Self::Grown(blocks) => write!(f, "now has {blocks} blocks"),
            Self::Leaving => f.write_str("is being removed"),
            Self::Removed => f.write_str("removed"),
            Self::PolicyReplaced(queue, reason) => {
                write!(f, "least-queue took over in queue {}: {reason}", queue.0)
            }
            Self::Warning(text) => f.write_str(text),
            Self::Closing => f.write_str("closing"),
            Self::Closed => f.write_str("closed"),
            Self::Missed(count) => write!(f, "{count} events were lost: read them sooner"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some((id, name)) => write!(f, "{id} ({name}): {}", self.kind),
            None => write!(f, "volume: {}", self.kind),
        }
    }
}
