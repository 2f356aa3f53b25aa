//! How a volume is served.

use std::path::PathBuf;
use std::time::Duration;

/// How a [`Server`](super::Server) serves; all of it can be left out.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub(super) device: Option<PathBuf>,
    pub(super) deadline: Option<Duration>,
    pub(super) hold: Option<Duration>,
    pub(super) name: Option<String>,
}

impl Options {
    /// Any free loop device, no deadline.
    pub fn new() -> Self {
        Self::default()
    }

    /// The loop device to use, for instance `/dev/loop7`, which is made if there is none. If it is in use the server
    /// waits some seconds for it: its last user may be about to go. Unless told otherwise, any that is free.
    #[must_use]
    pub fn device(mut self, path: impl Into<PathBuf>) -> Self {
        self.device = Some(path.into());
        self
    }

    /// How long a request may take before it fails with `ETIMEDOUT`; none unless told otherwise. It runs from when the
    /// server has read the request.
    #[must_use]
    pub fn deadline(mut self, time: Duration) -> Self {
        self.deadline = Some(time);
        self
    }

    /// How long the volume holds requests while it has no path ([`NoPath::Hold`](crate::NoPath::Hold)). A server does
    /// not start if the kernel would give up sooner (`fs.fuse.default_request_timeout` and
    /// `fs.fuse.max_request_timeout`, kernel 6.15): it would then fail all I/O for good.
    #[must_use]
    pub fn hold(mut self, time: Duration) -> Self {
        self.hold = Some(time);
        self
    }

    /// What `losetup` shows as the file behind the device, up to 63 bytes; `mpio` unless told otherwise.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}
