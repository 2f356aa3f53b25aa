//! What an `errno` from the kernel says of an attempt.

use std::time::Duration;

use crate::error::{Cause, DeviceError};
use crate::path::{Fault, FenceGrade};

/// How long a device that was too busy is left alone.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// What the kernel drives at the path's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backing {
    /// A block device node.
    Device,
    /// A regular file.
    Regular,
}

/// What lies between the kernel's driver and the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Nothing that could deliver a command after the kernel has ended it.
    Local,
    /// A network, or nobody knows: a command that the kernel gave up may still arrive.
    Fabric,
}

/// Both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nature {
    pub(super) backing: Backing,
    pub(super) link: Link,
}

impl Nature {
    /// What a failure with `errno` means. Follows the kernel's own split in `blk_path_error` between what the device
    /// answered and what happened on the way to it (`include/linux/blk_types.h`; statuses and numbers in
    /// `block/blk-core.c`).
    pub(super) fn fault(self, errno: i32) -> Fault {
        if let Some(error) = device_answer(errno) {
            return Fault::Final(error);
        }
        match errno {
            libc::EAGAIN | libc::EBUSY => Fault::Congested { retry_after: BUSY_PAUSE },
            libc::ECANCELED => Fault::Unknown { cause: Cause::Aborted, fence: self.fence_of_cancelled() },
            _ => Fault::Unknown { cause: cause(errno), fence: self.fence() },
        }
    }

    /// What a failed flush means. Pages that a file system could not write are marked clean all the same, so another
    /// try would succeed without them (`fsync(2)`, notes): final for a file.
    pub(super) fn flush_fault(self, errno: i32) -> Fault {
        match self.backing {
            Backing::Device => self.fault(errno),
            Backing::Regular => Fault::Final(device_answer(errno).unwrap_or(DeviceError::Other(errno))),
        }
    }

    /// What the kernel's answer proves: it has ended the request, and on a local link nothing else can carry it out.
    const fn fence(self) -> Option<FenceGrade> {
        match self.link {
            Link::Local => Some(FenceGrade::Proven),
            Link::Fabric => None,
        }
    }

    /// For a block device `ECANCELED` is no block status: it comes only from `io_uring`, for an operation that it had
    /// not issued to the device. A network file system could make one of its own.
    const fn fence_of_cancelled(self) -> Option<FenceGrade> {
        match self.backing {
            Backing::Device => Some(FenceGrade::Proven),
            Backing::Regular => self.fence(),
        }
    }
}

/// The error, if it is the device's own and every other path would give the same.
const fn device_answer(errno: i32) -> Option<DeviceError> {
    Some(match errno {
        libc::ENODATA => DeviceError::Medium,
        libc::EILSEQ => DeviceError::Protection,
        libc::EBADE => DeviceError::Reservation,
        libc::ENOSPC | libc::EDQUOT => DeviceError::NoSpace,
        // A device that was write-protected after it was opened gives EPERM.
        libc::EOPNOTSUPP | libc::EPERM | libc::EROFS => DeviceError::Unsupported,
        libc::EREMOTEIO => DeviceError::Target,
        libc::EINVAL => DeviceError::Rejected,
        libc::EFBIG | libc::EFAULT => DeviceError::Other(errno),
        _ => return None,
    })
}

const fn cause(errno: i32) -> Cause {
    match errno {
        libc::ENXIO | libc::ENODEV | libc::ENOLINK => Cause::Disconnected,
        libc::ETIMEDOUT => Cause::Timeout,
        _ => Cause::Errno(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: Nature = Nature { backing: Backing::Device, link: Link::Local };
    const FABRIC: Nature = Nature { backing: Backing::Device, link: Link::Fabric };
    const LOCAL_FILE: Nature = Nature { backing: Backing::Regular, link: Link::Local };
    const NETWORK_FILE: Nature = Nature { backing: Backing::Regular, link: Link::Fabric };
    const ALL: [Nature; 4] = [LOCAL, FABRIC, LOCAL_FILE, NETWORK_FILE];

    #[test]
    fn the_device_s_own_answers_are_final_everywhere() {
        let answers = [
            (libc::ENODATA, DeviceError::Medium),
            (libc::EREMOTEIO, DeviceError::Target),
            (libc::EBADE, DeviceError::Reservation),
            (libc::EILSEQ, DeviceError::Protection),
            (libc::ENOSPC, DeviceError::NoSpace),
            (libc::EOPNOTSUPP, DeviceError::Unsupported),
            (libc::EPERM, DeviceError::Unsupported),
            (libc::EINVAL, DeviceError::Rejected),
        ];
        for nature in ALL {
            for (errno, error) in answers {
                assert_eq!(nature.fault(errno), Fault::Final(error), "{nature:?} {errno}");
            }
        }
    }

    #[test]
    fn busy_devices_stay_up() {
        for nature in ALL {
            for errno in [libc::EAGAIN, libc::EBUSY] {
                assert_eq!(nature.fault(errno).fate(), crate::error::Fate::Congested);
            }
        }
    }

    #[test]
    fn errors_of_the_way_are_fenced_on_local_links_only() {
        let errors = [
            (libc::EIO, Cause::Errno(libc::EIO)),
            (libc::ENXIO, Cause::Disconnected),
            (libc::ENODEV, Cause::Disconnected),
            (libc::ENOLINK, Cause::Disconnected),
            (libc::ETIMEDOUT, Cause::Timeout),
            (libc::ENOMEM, Cause::Errno(libc::ENOMEM)),
        ];
        for (errno, cause) in errors {
            for nature in [LOCAL, LOCAL_FILE] {
                assert_eq!(nature.fault(errno), Fault::Unknown { cause, fence: Some(FenceGrade::Proven) });
            }
            for nature in [FABRIC, NETWORK_FILE] {
                assert_eq!(nature.fault(errno), Fault::Unknown { cause, fence: None });
            }
        }
    }

    #[test]
    fn what_io_uring_cancelled_was_never_issued_to_a_device() {
        let cancelled = |fence| Fault::Unknown { cause: Cause::Aborted, fence };
        for nature in [LOCAL, FABRIC, LOCAL_FILE] {
            assert_eq!(nature.fault(libc::ECANCELED), cancelled(Some(FenceGrade::Proven)));
        }
        assert_eq!(NETWORK_FILE.fault(libc::ECANCELED), cancelled(None));
    }

    #[test]
    fn a_file_s_failed_flush_is_final() {
        assert_eq!(LOCAL_FILE.flush_fault(libc::EIO), Fault::Final(DeviceError::Other(libc::EIO)));
        assert!(matches!(LOCAL.flush_fault(libc::EIO), Fault::Unknown { .. }));
    }
}
