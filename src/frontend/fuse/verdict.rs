//! Why a connection has ended.
//!
//! Where aborts are told apart (`FUSE_ABORT_ERROR`), the kernel says `ECONNABORTED` to every read of a connection that was
//! aborted, and `ENODEV` to every read of one that went with its file system. But it also says `ECONNABORTED`, once, to a
//! read that has just taken a request when the connection ends in *whatever* way: `fpq->connected` in `fuse_dev_do_read`
//! (fs/fuse/dev.c). On an orderly end that happens to the request that closes the file. Only what a read says after the
//! connection has become an error to `poll` (`fiq->connected`) is said of the connection as a whole.

use std::io;

use super::server::Ended;

/// Looks before the connection counts as aborted. The kernel is at most some locks away from the end of what it began, but
/// may have lost its core.
const LOOKS: u32 = 1000;

/// What is seen of a connection that is about to be over.
pub(super) struct Look {
    /// It was over before the read.
    pub(super) is_over: bool,
    pub(super) read: io::Result<usize>,
}

/// Why the connection ended whose read said `first`, `ENODEV` or `ECONNABORTED`.
pub(super) fn verdict(first: &io::Error, mut look: impl FnMut() -> Look) -> Ended {
    if first.raw_os_error() == Some(libc::ENODEV) {
        return Ended::Detached;
    }
    for _ in 0..LOOKS {
        let Look { is_over, read } = look();
        match read.map_err(|error| error.raw_os_error()) {
            Err(Some(libc::ENODEV)) => return Ended::Detached,
            Err(Some(libc::ECONNABORTED)) if is_over => return Ended::Aborted,
            _ => {}
        }
    }
    Ended::Aborted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict on reads that say these, each with whether the connection was over before.
    fn after(first: i32, then: &[(bool, i32)]) -> Ended {
        let mut then = then.iter();
        verdict(&io::Error::from_raw_os_error(first), || {
            let &(is_over, errno) = then.next().expect("it looks on after the last word");
            Look { is_over, read: Err(io::Error::from_raw_os_error(errno)) }
        })
    }

    #[test]
    fn a_request_lost_to_the_end_does_not_make_it_an_abort() {
        assert_eq!(after(libc::ECONNABORTED, &[(true, libc::ENODEV)]), Ended::Detached);
        assert_eq!(after(libc::ECONNABORTED, &[(false, libc::ENODEV)]), Ended::Detached);
    }

    #[test]
    fn what_is_said_before_the_end_says_nothing_of_it() {
        let several = [(false, libc::ECONNABORTED), (false, libc::EAGAIN), (true, libc::ENODEV)];
        assert_eq!(after(libc::ECONNABORTED, &several), Ended::Detached);
        let several = [(false, libc::ECONNABORTED), (false, libc::EAGAIN), (true, libc::ECONNABORTED)];
        assert_eq!(after(libc::ECONNABORTED, &several), Ended::Aborted);
    }

    #[test]
    fn an_end_without_a_lost_request_is_what_the_first_read_says() {
        assert_eq!(after(libc::ENODEV, &[]), Ended::Detached);
        assert_eq!(after(libc::ECONNABORTED, &[(true, libc::ECONNABORTED)]), Ended::Aborted);
    }

    #[test]
    fn a_connection_that_never_ends_counts_as_aborted() {
        let look = || Look { is_over: false, read: Err(io::ErrorKind::WouldBlock.into()) };
        assert_eq!(verdict(&io::Error::from_raw_os_error(libc::ECONNABORTED), look), Ended::Aborted);
    }
}
