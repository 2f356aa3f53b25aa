//! The counter in the kernel that a queue's thread sleeps on.

#![allow(unsafe_code)]

#[cfg(loom)]
pub(super) use model::EventFd;
#[cfg(not(loom))]
pub(super) use system::EventFd;

#[cfg(not(loom))]
mod system {
    use std::fs::File;
    use std::io::{self, Read, Write};
    use std::os::fd::{AsFd, BorrowedFd, FromRawFd};

    use crate::os::{polled, sleep_on};
    use crate::time::Tick;

    /// An `eventfd(2)` counter: every `ring` adds one, `drain` takes all.
    #[derive(Debug)]
    pub(in crate::reactor) struct EventFd {
        file: File,
    }

    impl EventFd {
        pub(in crate::reactor) fn new() -> io::Result<Self> {
            // SAFETY: the call takes no pointers.
            let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: `fd` was just made, and nothing else owns it.
            Ok(Self { file: unsafe { File::from_raw_fd(fd) } })
        }

        pub(in crate::reactor) fn ring(&self) {
            // Fails only at 2^64 - 2 wakes that nobody drained.
            let _ = (&self.file).write(&1_u64.to_ne_bytes());
        }

        /// The number of rings since the last call.
        pub(in crate::reactor) fn drain(&self) -> u64 {
            let mut count = [0; 8];
            match (&self.file).read(&mut count) {
                Ok(8) => u64::from_ne_bytes(count),
                _ => 0,
            }
        }

        /// Sleeps until there is something to drain, `until`, or a signal came.
        pub(in crate::reactor) fn sleep(&self, until: Option<Tick>) {
            sleep_on(&mut [polled(Some(self.file.as_fd()))], until);
        }
    }

    impl AsFd for EventFd {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.file.as_fd()
        }
    }
}

#[cfg(loom)]
mod model {
    use crate::time::Tick;
    use std::io;

    use loom::sync::{Condvar, Mutex};

    /// The kernel's counter as loom knows it.
    #[derive(Debug)]
    pub(in crate::reactor) struct EventFd {
        count: Mutex<u64>,
        readable: Condvar,
    }

    impl EventFd {
        pub(in crate::reactor) fn new() -> io::Result<Self> {
            Ok(Self { count: Mutex::new(0), readable: Condvar::new() })
        }

        pub(in crate::reactor) fn ring(&self) {
            if let Ok(mut count) = self.count.lock() {
                *count += 1;
            }
            self.readable.notify_all();
        }

        pub(in crate::reactor) fn drain(&self) -> u64 {
            self.count.lock().map_or(0, |mut count| std::mem::take(&mut *count))
        }

        pub(in crate::reactor) fn sleep(&self, _until: Option<Tick>) {
            let mut count = self.count.lock();
            while let Ok(zero) = count {
                if *zero > 0 {
                    return;
                }
                count = self.readable.wait(zero);
            }
        }
    }
}
