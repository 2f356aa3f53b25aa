//! What an `errno` from the kernel says of an attempt.

use std::time::Duration;

use crate::error::{Cause, DeviceError};
use crate::io::Operation;
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
    pub(super) fn fault(self, operation: Operation, errno: i32) -> Fault {
        if let Some(error) = device_answer(errno) {
            return Fault::Final(error);
        }
        match errno {
            // A network file system has sent something when it says one of these.
            _ if self == NETWORK_FILE => Fault::Unknown { cause: cause(errno), fence: None },
            // The kernel had no memory or no tag for it, or a signal came first: it was not sent.
            libc::EAGAIN | libc::EBUSY | libc::ENOMEM | libc::EINTR => {
                Fault::Congested { retry_after: BUSY_PAUSE }
            }
            // `BLK_STS_OFFLINE`: the device's state forbids to send anything. On a fabric it is said of the last try only: the
            // kernel may have sent the same command before, when it was requeued, or part of it.
            libc::ENODEV
                if self.backing == Backing::Device && (self.link == Link::Local || !operation.is_write()) =>
            {
                Fault::NotSent(Cause::Disconnected)
            }
            libc::ECANCELED => Fault::Unknown { cause: Cause::Aborted, fence: self.fence_of_cancelled() },
            _ => Fault::Unknown { cause: cause(errno), fence: self.fence() },
        }
    }

    /// What a failure with `errno` means that is no answer of the device's.
    pub(super) fn unanswered(self, errno: i32) -> Fault {
        Fault::Unknown { cause: Cause::Errno(errno), fence: self.fence() }
    }

    /// What a failed flush means. Pages that a file system could not write are marked clean all the same, so another
    /// try would succeed without them (`fsync(2)`, notes): final for a file.
    pub(super) fn flush_fault(self, errno: i32) -> Fault {
        match self.backing {
            Backing::Device => self.fault(Operation::Flush, errno),
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
    /// not issued to the device.
    const fn fence_of_cancelled(self) -> Option<FenceGrade> {
        match self.backing {
            Backing::Device => Some(FenceGrade::Proven),
            Backing::Regular => self.fence(),
        }
    }
}

const NETWORK_FILE: Nature = Nature { backing: Backing::Regular, link: Link::Fabric };

/// The error, if it is the device's own, or this node's: whether another path gives the same shows there.
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
        // The first is `BLK_STS_DURATION_LIMIT`: the device ended it when the time that it was given was over.
        libc::ETIME | libc::EFBIG | libc::EFAULT => DeviceError::Other(errno),
        _ => return None,
    })
}

/// Whether only a device that was reached says so: its medium, its reservation, the target behind it.
pub(super) const fn is_of_the_device(errno: i32) -> bool {
    matches!(errno, libc::ENODATA | libc::EILSEQ | libc::EBADE | libc::EREMOTEIO)
}

const fn cause(errno: i32) -> Cause {
    match errno {
        libc::ENXIO | libc::ENODEV | libc::ENOLINK => Cause::Disconnected,
        libc::ETIMEDOUT => Cause::Timeout,
        libc::ECANCELED => Cause::Aborted,
        _ => Cause::Errno(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Durability;

    const WRITE: Operation = Operation::Write(Durability::Cached);

    const LOCAL: Nature = Nature { backing: Backing::Device, link: Link::Local };
    const FABRIC: Nature = Nature { backing: Backing::Device, link: Link::Fabric };
    const LOCAL_FILE: Nature = Nature { backing: Backing::Regular, link: Link::Local };
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
            (libc::ETIME, DeviceError::Other(libc::ETIME)),
        ];
        for nature in ALL {
            for (errno, error) in answers {
                assert_eq!(nature.fault(WRITE, errno), Fault::Final(error), "{nature:?} {errno}");
            }
        }
    }

    #[test]
    fn what_the_kernel_did_not_send_is_sent_again_by_and_by() {
        for errno in [libc::EAGAIN, libc::EBUSY, libc::ENOMEM, libc::EINTR] {
            for nature in [LOCAL, FABRIC, LOCAL_FILE] {
                assert_eq!(
                    nature.fault(WRITE, errno).fate(),
                    crate::error::Fate::Congested,
                    "{nature:?} {errno}"
                );
            }
            assert!(NETWORK_FILE.fault(WRITE, errno).may_land(), "{errno}");
        }
    }

    #[test]
    fn a_device_that_is_offline_was_sent_nothing() {
        let not_sent = Fault::NotSent(Cause::Disconnected);
        assert_eq!(LOCAL.fault(WRITE, libc::ENODEV), not_sent);
        assert_eq!(FABRIC.fault(Operation::Read, libc::ENODEV), not_sent);
        assert!(FABRIC.fault(WRITE, libc::ENODEV).may_land(), "it may have been sent before it was requeued");
        assert!(NETWORK_FILE.fault(WRITE, libc::ENODEV).may_land());
    }

    #[test]
    fn errors_of_the_way_are_fenced_on_local_links_only() {
        let errors = [
            (libc::EIO, Cause::Errno(libc::EIO)),
            (libc::ENXIO, Cause::Disconnected),
            (libc::ENOLINK, Cause::Disconnected),
            (libc::ETIMEDOUT, Cause::Timeout),
        ];
        for (errno, cause) in errors {
            for nature in [LOCAL, LOCAL_FILE] {
                assert_eq!(
                    nature.fault(WRITE, errno),
                    Fault::Unknown { cause, fence: Some(FenceGrade::Proven) }
                );
            }
            for nature in [FABRIC, NETWORK_FILE] {
                assert_eq!(nature.fault(WRITE, errno), Fault::Unknown { cause, fence: None });
            }
        }
    }

    #[test]
    fn what_io_uring_cancelled_was_never_issued_to_a_device() {
        let cancelled = |fence| Fault::Unknown { cause: Cause::Aborted, fence };
        for nature in [LOCAL, FABRIC, LOCAL_FILE] {
            assert_eq!(nature.fault(WRITE, libc::ECANCELED), cancelled(Some(FenceGrade::Proven)));
        }
        assert_eq!(NETWORK_FILE.fault(WRITE, libc::ECANCELED), cancelled(None));
    }

    #[test]
    fn a_file_s_failed_flush_is_final() {
        assert_eq!(LOCAL_FILE.flush_fault(libc::EIO), Fault::Final(DeviceError::Other(libc::EIO)));
        assert!(matches!(LOCAL.flush_fault(libc::EIO), Fault::Unknown { .. }));
    }
}
