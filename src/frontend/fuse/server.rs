//! A volume being served.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Error;
use crate::volume::Queue;

use super::{Buffers, Options};

/// A volume that the kernel offers as a loop device, for as long as this lives.
///
/// Dropping it is [`abort`](Self::abort): call [`stop`](Self::stop) first.
#[derive(Debug)]
pub struct Server {
    device: PathBuf,
    connection: u64,
}

/// Why a server serves no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// The loop device was detached, after [`stop`](Server::stop) or from outside, and everything was answered.
    Detached,
    /// The connection was aborted, by [`abort`](Server::abort) or by the kernel (an administrator, a request time-out): all
    /// I/O on the device fails.
    Aborted,
    /// A thread of the server failed; all I/O on the device fails. The text says how.
    Failed(String),
}

impl Server {
    /// Serves the volume of `queues`, each on a thread of its own, and returns when the device answers.
    ///
    /// # Errors
    /// What the system lacks and what to do about it.
    pub fn start(queues: Vec<Queue>, buffers: Buffers, options: Options) -> Result<Self, Error> {
        let _ = (queues, buffers, options);
        Err(Error::setting("frontend", "is not there yet"))
    }

    /// The node of the loop device.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// The number under which the kernel lists the connection, in `/sys/fs/fuse/connections`.
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// Why it serves no longer, `None` while it does.
    pub fn ended(&self) -> Option<Ended> {
        None
    }

    /// Waits for the end for at most `timeout`; `None` if it serves on.
    pub fn ended_within(&self, timeout: Duration) -> Option<Ended> {
        let _ = timeout;
        None
    }

    /// Ends in good order: what the kernel has cached is written, everything is answered, the device detached.
    ///
    /// If others still have the device open (it is mounted, say), it is detached when the last of them closes it, and
    /// is served until then.
    ///
    /// # Errors
    /// [`Error::Os`] with `EBUSY` if that takes longer than `grace`: the server goes on serving, and `stop` can be
    /// called again.
    pub fn stop(&self, grace: Duration) -> Result<(), Error> {
        let _ = grace;
        Ok(())
    }

    /// Ends at once: requests that are not answered fail, as does all I/O on the device from then on. Never waits.
    pub fn abort(&self) {}
}
