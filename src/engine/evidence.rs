//! What a queue tells the supervisor.

use std::time::Duration;

use crate::error::Cause;
use crate::io::PathId;
use crate::path::{AccessState, Incarnation};

/// Something that a queue saw. The supervisor ignores what concerns an earlier admission than the present one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// An attempt failed on the way.
    Failed { path: PathId, admission: u32, cause: Cause },
    /// The path did not take an attempt: there is no connection.
    NotConnected { path: PathId, incarnation: Incarnation, cause: Cause },
    /// An attempt takes longer than is usual on the path: it is asked whether it works.
    Late { path: PathId, admission: u32 },
    /// An attempt has been out for longer than the path is allowed.
    Silent { path: PathId, admission: u32, age: Duration },
    /// The path refused I/O for its access state.
    Refused { path: PathId, state: AccessState },
    /// A write waits, or a ghost stands, until nothing of this connection can land any more.
    Unfenced { path: PathId, incarnation: Incarnation },
    /// A write that was given up or late bars newer ones no more, on any queue.
    GhostGone,
    /// The queue sends nothing more over the connections up to `left`, and has everything back that it sent over those up to
    /// `drained`.
    Over { path: PathId, left: Incarnation, drained: Incarnation },
    /// The path's code did what no path may do; what it was.
    Broken { path: PathId, admission: u32, what: &'static str },
    /// The queue cannot use the connection, or not any more: it takes a new one.
    Unusable { path: PathId, incarnation: Incarnation, reason: String },
    /// The queue will never touch this path again.
    LetGo { path: PathId },
    /// The policy was replaced by `LeastQueue`; why.
    PolicyReplaced { reason: &'static str },
    /// Something the operator should know.
    Warning { text: String },
    /// Every request has ended and nothing is out: the queue is done for good.
    Finished,
}
