//! The system calls that `std` does not have.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::storage::Zeroing;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// fallocate(2), which on a block device writes zeroes or discards.
pub(crate) fn zero(file: &File, how: Zeroing, offset: u64, bytes: u64) -> io::Result<()> {
    let mode = libc::FALLOC_FL_KEEP_SIZE
        | match how {
            Zeroing::Write => libc::FALLOC_FL_ZERO_RANGE,
            Zeroing::Punch => libc::FALLOC_FL_PUNCH_HOLE,
        };
    let number =
        |number: u64| libc::off_t::try_from(number).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let (offset, bytes) = (number(offset)?, number(bytes)?);
    // SAFETY: the call takes plain numbers, and the descriptor is open for as long as `file` is borrowed.
    let status = unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, bytes) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// From now on the first SIGINT or SIGTERM is noted; the second ends the process, as ever.
pub(crate) fn note_interrupts() {
    extern "C" fn note(signal: libc::c_int) {
        INTERRUPTED.store(true, Ordering::Relaxed);
        // SAFETY: signal(2) may be called in a handler, and the default action is one for every signal.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let handler = note as *const () as libc::sighandler_t;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler does nothing but store to an atomic and call signal(2): both may be done in a handler.
        unsafe { libc::signal(signal, handler) };
    }
}

/// Whether there was one.
pub(crate) fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
