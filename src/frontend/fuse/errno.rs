//! Which `errno` an answer bears.
//!
//! `drivers/block/loop.c` ends a read or write with the block layer's word for the `errno` it is given; a short write it
//! takes for a whole one, and an `EOPNOTSUPP` of a fallocate for "never ask again". `fs/fuse` itself remembers an
//! `ENOSYS` to fsync and fallocate, and from then on takes every fsync for done.

use std::io;

use crate::error::Error;

use super::tasks::Work;

/// The `errno` for the error that ended `work`.
pub(super) fn errno(work: &Work, error: Error) -> i32 {
    match work {
        Work::Read | Work::Write(_) => match io::Error::from(error).raw_os_error() {
            // What has a word of its own there, and no second meaning on the way.
            Some(
                errno @ (libc::ENOSPC
                | libc::ENODATA
                | libc::EILSEQ
                | libc::EBADE
                | libc::EREMOTEIO
                | libc::ETIMEDOUT
                | libc::EINVAL),
            ) => errno,
            _ => libc::EIO,
        },
        Work::Sync | Work::Zero(_) => libc::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Extent;
    use crate::error::{DeviceError, Fate};
    use crate::frontend::fuse::tasks::Zeroing;
    use crate::io::{Operation, PathId};

    fn answered(error: DeviceError) -> Error {
        Error::Device { operation: Operation::Flush, extent: Extent::NONE, path: PathId::new(0, 0), error }
    }

    #[test]
    fn no_answer_disables_anything_or_is_taken_for_success() {
        let works = [Work::Read, Work::Write(512), Work::Sync, Work::Zero(Zeroing::new(0, 1, true, false))];
        for work in works {
            for number in -5..600 {
                let errno = errno(&work, answered(DeviceError::Other(number)));
                let misread = [libc::ENOSYS, libc::EOPNOTSUPP, libc::EAGAIN, libc::EINTR];
                assert!((1..512).contains(&errno) && !misread.contains(&errno), "{work:?} {number} {errno}");
                if let Work::Sync | Work::Zero(_) = work {
                    assert_eq!(errno, libc::EIO);
                }
            }
        }
    }

    #[test]
    fn a_read_keeps_what_the_block_layer_has_a_word_for() {
        assert_eq!(errno(&Work::Read, answered(DeviceError::Medium)), libc::ENODATA);
        assert_eq!(errno(&Work::Write(1), answered(DeviceError::NoSpace)), libc::ENOSPC);
        assert_eq!(errno(&Work::Read, Error::DeadlineExceeded { fate: Fate::Unknown }), libc::ETIMEDOUT);
        assert_eq!(errno(&Work::Read, Error::Closed { fate: Fate::Unknown }), libc::EIO);
    }
}
