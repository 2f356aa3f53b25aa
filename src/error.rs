//! What went wrong, how far it got, and what that means for the caller.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::block::{BlockCount, Extent, Lba};
use crate::io::{Operation, PathId};

/// Every error of this crate.
///
/// [`class`](Self::class) says whose matter it is, [`fate`](Self::fate) what is known of the data. Converts into
/// [`std::io::Error`] with the `errno` that a kernel block device would give.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // Requests that were never accepted.
    /// An extent without blocks, or one that ends past the last representable address.
    #[error("extent of {blocks} blocks at {start} is empty or has no representable end")]
    InvalidExtent {
        /// First block.
        start: Lba,
        /// Number of blocks.
        blocks: BlockCount,
    },
    /// An extent that is not wholly on the volume.
    #[error("extent {extent} ends past the last of {capacity} blocks")]
    OutOfRange {
        /// What was asked for.
        extent: Extent,
        /// Blocks that there are.
        capacity: u64,
    },
    /// More blocks than the volume's limits allow in one request of this kind.
    #[error("{operation} of {blocks} blocks exceeds the limit of {limit}: split it")]
    TooLarge {
        /// What was asked for.
        operation: Operation,
        /// Its blocks.
        blocks: BlockCount,
        /// The most there may be.
        limit: BlockCount,
    },
    /// The volume cannot do this: one of its paths at least does not support it.
    #[error("{operation} is not supported by every path")]
    Unsupported {
        /// What was asked for.
        operation: Operation,
    },
    /// A buffer whose length is not that of the extent, or a missing or needless one (length 0).
    #[error("{operation} takes {}, was given {}", buffer_of(*.expected), buffer_of(*.actual))]
    BufferSize {
        /// What was asked for.
        operation: Operation,
        /// Bytes that the extent spans.
        expected: u64,
        /// Bytes that the buffer has.
        actual: u64,
    },
    /// An offset or a length in bytes that is not of whole blocks.
    #[error(
        "{operation} of {len} bytes at byte {offset}: both must be multiples of the block size, {block_size}"
    )]
    Misaligned {
        /// What was asked for.
        operation: Operation,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        len: u64,
        /// Bytes in a block.
        block_size: u32,
    },
    /// As many requests are in the queue as it was built for: poll it, then submit again.
    #[error("the queue holds its {depth} requests; poll it and submit again")]
    QueueFull {
        /// Requests that the queue was built for.
        depth: u32,
    },

    // Requests that were accepted and failed.
    /// The device answered with an error that no other path would mend.
    #[error("{operation} of {extent} failed on {path}: {error}")]
    Device {
        /// What was asked for.
        operation: Operation,
        /// Where.
        extent: Extent,
        /// The path whose device answered.
        path: PathId,
        /// What it answered.
        error: DeviceError,
    },
    /// The request failed on every path that could take it, the last of them being `path`, for as long as
    /// [`NoPath`](crate::NoPath) and [`max_retries`](crate::VolumeBuilder::max_retries) let it be tried again.
    #[error("{operation} of {extent} failed on every path, last on {path}: {cause}")]
    EveryPathFailed {
        /// What was asked for.
        operation: Operation,
        /// Where.
        extent: Extent,
        /// The path that failed last.
        path: PathId,
        /// How.
        cause: Cause,
    },
    /// No path could take the request, for as long as the volume's rule ([`NoPath`](crate::NoPath)) allows it to wait.
    #[error("no path left after {} ms of waiting", held.as_millis())]
    NoPath {
        /// How long the request waited for one.
        held: Duration,
        /// What is known of the request: an earlier attempt may have reached the device.
        fate: Fate,
    },
    /// A flush could not cover writes that were completed over this path, which may lose them.
    #[error("flush could not reach the cache behind {path}, which holds completed writes")]
    FlushIncomplete {
        /// The path whose device was not flushed.
        path: PathId,
    },
    /// The request's own deadline passed.
    #[error("deadline passed; the request is {fate}")]
    DeadlineExceeded {
        /// What is known of it.
        fate: Fate,
    },
    /// Cancelled by the caller.
    #[error("cancelled; the request is {fate}")]
    Cancelled {
        /// What is known of it.
        fate: Fate,
    },
    /// The volume was closed.
    #[error("the volume is closed; the request is {fate}")]
    Closed {
        /// What is known of it.
        fate: Fate,
    },

    // Building a volume, adding a path.
    /// A volume without paths.
    #[error("a volume needs at least one path")]
    NoPaths,
    /// A setting that makes no sense; the text says which and what is allowed.
    #[error("{setting}: {problem}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// What is wrong with it and what would not be.
        problem: String,
    },
    /// A block size or capacity that no device has.
    #[error(
        "block size {block_size} must be a power of two from 512 to 65536 and capacity {capacity} at least one block, in all below 2^63 bytes"
    )]
    InvalidGeometry {
        /// Bytes in a block.
        block_size: u32,
        /// Number of blocks.
        capacity: u64,
    },
    /// The path does not belong to the volume, or cannot be used; the text says why and what to do.
    #[error("{path}: {problem}")]
    Path {
        /// The path as it names itself.
        path: String,
        /// Why it was refused and what would mend it.
        problem: String,
    },
    /// The path cannot be reached at present; the text says why and what would mend it.
    #[error("{path}: {problem}")]
    Unreachable {
        /// The path as it names itself.
        path: String,
        /// Why, and what would mend it.
        problem: String,
    },
    /// The volume was built by the process that this one was forked from. Its threads are not here.
    #[error("the volume is of the process that this one was forked from: build it after the fork")]
    Forked,
    /// An operating system call failed.
    #[error("{attempted}: {source}")]
    Os {
        /// What was attempted, and on what.
        attempted: String,
        /// What the system said.
        source: io::Error,
    },
}

fn buffer_of(bytes: u64) -> String {
    if bytes == 0 { "no buffer".to_owned() } else { format!("a buffer of {bytes} bytes") }
}

impl Error {
    /// Whose matter the error is.
    pub fn class(&self) -> Class {
        match self {
            Self::InvalidExtent { .. }
            | Self::OutOfRange { .. }
            | Self::TooLarge { .. }
            | Self::Unsupported { .. }
            | Self::BufferSize { .. }
            | Self::Misaligned { .. } => Class::Request,
            Self::QueueFull { .. } => Class::Busy,
            Self::Device { .. } => Class::Device,
            Self::EveryPathFailed { .. } | Self::NoPath { .. } | Self::FlushIncomplete { .. } => {
                Class::Transport
            }
            Self::DeadlineExceeded { .. } | Self::Cancelled { .. } | Self::Closed { .. } => Class::Ended,
            Self::NoPaths
            | Self::Setting { .. }
            | Self::InvalidGeometry { .. }
            | Self::Path { .. }
            | Self::Unreachable { .. }
            | Self::Forked => Class::Setup,
            Self::Os { .. } => Class::System,
        }
    }

    /// What is known of the request's effect on the device.
    ///
    /// [`Fate::Unknown`] means that it may have taken effect in whole or in part. In no case does a write take
    /// effect over anything newer after its completion was delivered.
    pub fn fate(&self) -> Fate {
        match self {
            Self::Device { .. } => Fate::Final,
            Self::EveryPathFailed { .. } | Self::FlushIncomplete { .. } => Fate::Unknown,
            Self::NoPath { fate, .. }
            | Self::DeadlineExceeded { fate }
            | Self::Cancelled { fate }
            | Self::Closed { fate } => *fate,
            _ => Fate::NotSent,
        }
    }

    fn errno(&self) -> i32 {
        match self {
            Self::InvalidExtent { .. }
            | Self::BufferSize { .. }
            | Self::Misaligned { .. }
            | Self::NoPaths
            | Self::Setting { .. }
            | Self::InvalidGeometry { .. }
            | Self::Path { .. }
            | Self::TooLarge { .. } => libc::EINVAL,
            Self::Unreachable { .. } => libc::EHOSTUNREACH,
            Self::Forked => libc::ECHILD,
            Self::OutOfRange { .. } => libc::ENOSPC,
            Self::Unsupported { .. } => libc::EOPNOTSUPP,
            Self::QueueFull { .. } => libc::EAGAIN,
            Self::Device { error, .. } => error.errno(),
            Self::EveryPathFailed { .. } | Self::FlushIncomplete { .. } | Self::NoPath { .. } => libc::EIO,
            Self::DeadlineExceeded { .. } => libc::ETIMEDOUT,
            Self::Cancelled { .. } => libc::ECANCELED,
            Self::Closed { .. } => libc::ESHUTDOWN,
            Self::Os { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
        }
    }

    pub(crate) fn os(attempted: impl Into<String>, source: io::Error) -> Self {
        Self::Os { attempted: attempted.into(), source }
    }

    pub(crate) fn setting(setting: &'static str, problem: impl Into<String>) -> Self {
        Self::Setting { setting, problem: problem.into() }
    }

    pub(crate) fn unreachable(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Unreachable { path: path.into(), problem: problem.into() }
    }

    /// Whether what it says of a path may come right by itself. A right that is missing, and a name that is wrong, do not.
    pub(crate) fn may_pass(&self) -> bool {
        const LASTING: [i32; 6] =
            [libc::EACCES, libc::EPERM, libc::EROFS, libc::ENOTDIR, libc::ELOOP, libc::ENAMETOOLONG];
        match self {
            Self::Unreachable { .. } => true,
            Self::Os { source, .. } => source.raw_os_error().is_none_or(|errno| !LASTING.contains(&errno)),
            _ => false,
        }
    }

    pub(crate) fn path(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Path { path: path.into(), problem: problem.into() }
    }
}

impl From<Error> for io::Error {
    /// The `errno` that a kernel block device would give; the text of an [`Error::Os`] goes with its own error.
    fn from(error: Error) -> Self {
        Self::from_raw_os_error(error.errno())
    }
}

/// Whose matter an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// The request was malformed: the caller's mistake.
    Request,
    /// No room at present: poll and submit again.
    Busy,
    /// The device answered with an error.
    Device,
    /// The paths failed.
    Transport,
    /// Ended from outside: deadline, cancel, close.
    Ended,
    /// A volume or path was set up wrongly.
    Setup,
    /// An operating system call failed.
    System,
}

/// What is known of an attempt, or of a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fate {
    /// It never left: no connection, or the path did not take it.
    NotSent,
    /// The device declined it untouched for its access state.
    Refused,
    /// It may have been done, wholly or in part, or not at all.
    Unknown,
    /// The device was too busy to take it.
    Congested,
    /// The device answered: that is its end.
    Final,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSent => "not sent",
            Self::Refused => "refused",
            Self::Unknown => "of unknown fate",
            Self::Congested => "not taken",
            Self::Final => "answered by the device",
        })
    }
}

/// An error that the device itself answered; another path would answer the same.
///
/// The kernel's table is `blk_path_error` with `blk_errors` (`include/linux/blk_types.h`, `block/blk-core.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The medium is defective there (`BLK_STS_MEDIUM`, `ENODATA`).
    #[error("medium error")]
    Medium,
    /// Protection information does not match (`BLK_STS_PROTECTION`, `EILSEQ`).
    #[error("protection information mismatch")]
    Protection,
    /// Another host holds a reservation (`BLK_STS_RESV_CONFLICT`, `EBADE`).
    #[error("reservation conflict")]
    Reservation,
    /// No space left on a thinly provisioned device (`BLK_STS_NOSPC`, `ENOSPC`).
    #[error("no space left on the device")]
    NoSpace,
    /// The device does not support the operation (`BLK_STS_NOTSUPP`, `EOPNOTSUPP`), or it is write-protected.
    #[error("operation not supported by the device")]
    Unsupported,
    /// The device rejects the request's form or range (`BLK_STS_INVAL`, `EINVAL`).
    #[error("request rejected by the device")]
    Rejected,
    /// The target failed in a way that it says is not the path's (`BLK_STS_TARGET`, `EREMOTEIO`).
    #[error("target failure")]
    Target,
    /// Anything else that the device answered; the number is the `errno` it came as.
    #[error("device error {0}")]
    Other(i32),
}

impl DeviceError {
    /// Whether it may be of the way that the request took rather than of the device: a node that was made read-only, a size
    /// that one path alone has lost. Follows `blk_path_error` where that says that the device has answered.
    pub(crate) const fn may_be_the_path_s(self) -> bool {
        match self {
            Self::NoSpace | Self::Unsupported | Self::Rejected | Self::Other(_) => true,
            Self::Medium | Self::Protection | Self::Reservation | Self::Target => false,
        }
    }

    /// The `errno` that the kernel gives for it.
    pub const fn errno(self) -> i32 {
        match self {
            Self::Medium => libc::ENODATA,
            Self::Protection => libc::EILSEQ,
            Self::Reservation => libc::EBADE,
            Self::NoSpace => libc::ENOSPC,
            Self::Unsupported => libc::EOPNOTSUPP,
            Self::Rejected => libc::EINVAL,
            Self::Target => libc::EREMOTEIO,
            Self::Other(errno) => errno,
        }
    }
}

/// Why an attempt failed on the way rather than at the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// There is no connection.
    #[error("not connected")]
    NotConnected,
    /// The path had no room for the attempt.
    #[error("no room on the path")]
    NoRoom,
    /// No answer within the time allowed.
    #[error("no answer in time")]
    Timeout,
    /// The connection was lost while the attempt was out.
    #[error("connection lost")]
    Disconnected,
    /// The attempt was aborted before its end was known.
    #[error("aborted")]
    Aborted,
    /// An error with this `errno` that does not say whose it is.
    #[error("{}", io::Error::from_raw_os_error(*.0))]
    Errno(i32),
    /// A transfer ended early twice.
    #[error("short transfer")]
    Short,
    /// The path is in an access state that refuses I/O.
    #[error("refused for its access state")]
    Refused,
    /// It gave an error for the device that another path did not give.
    #[error("an error of the device that no other path had")]
    Alone,
    /// The path's own code broke its contract or panicked.
    #[error("the path's code failed")]
    Broken,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_may_come_and_what_is_forbidden_or_wrong_stays() {
        let os = |errno| Error::os("opening", io::Error::from_raw_os_error(errno));
        for errno in [libc::ENOENT, libc::ENXIO, libc::ENODEV, libc::EIO, libc::ENOLINK, libc::ETIMEDOUT] {
            assert!(os(errno).may_pass(), "{errno}");
        }
        assert!(Error::unreachable("a", "no cable").may_pass());
        for errno in [libc::EACCES, libc::EPERM, libc::EROFS, libc::ENOTDIR] {
            assert!(!os(errno).may_pass(), "{errno}");
        }
        assert!(!Error::path("a", "is mounted").may_pass());
    }

    #[test]
    fn an_io_error_has_the_errno_of_a_kernel_device() {
        let error = Error::Device {
            operation: Operation::Read,
            extent: Extent::NONE,
            path: PathId::new(0, 1),
            error: DeviceError::Medium,
        };
        assert_eq!(io::Error::from(error).raw_os_error(), Some(libc::ENODATA));
        assert_eq!(io::Error::from(Error::QueueFull { depth: 1 }).kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn an_error_fits_in_the_completion_budget() {
        assert!(size_of::<Error>() <= 56, "{}", size_of::<Error>());
    }
}
