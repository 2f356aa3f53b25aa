//! Small system calls that need `unsafe`, made safe.

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread::Builder;

use crate::error::Error;
use crate::time::Tick;

/// From `linux/prctl.h`.
const PR_SET_IO_FLUSHER: libc::c_int = 57;

/// `CLOCK_MONOTONIC`.
pub(crate) fn monotonic() -> Tick {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result; the call keeps no reference to it.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    debug_assert_eq!(status, 0, "CLOCK_MONOTONIC always exists");
    let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    Tick::from_nanos(seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos))
}

/// Starts a thread that I/O depends on: it takes no signals, and its allocations never wait for I/O that may be its own
/// to carry out (`PR_SET_IO_FLUSHER`, which needs `CAP_SYS_RESOURCE`; without it the thread runs all the same).
pub(crate) fn spawn_io_thread(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let start = move || {
        enter_io_path();
        body();
    };
    match Builder::new().name(name.to_owned()).spawn(start) {
        Ok(_detached) => Ok(()),
        Err(source) => Err(Error::os(format!("starting thread {name}"), source)),
    }
}

/// Marks the calling thread as one that I/O depends on: see [`spawn_io_thread`].
pub(crate) fn enter_io_path() {
    let mut signals = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the call fills the set that it is given.
    unsafe { libc::sigfillset(signals.as_mut_ptr()) };
    // SAFETY: the set was filled, and the previous one is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, signals.as_ptr(), std::ptr::null_mut()) };
    let (on, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: this request takes plain numbers, as wide as a register.
    let _ = unsafe { libc::prctl(PR_SET_IO_FLUSHER, on, unused, unused, unused) };
}

/// Sleeps until one of the descriptors is readable or in error, a signal comes, or `until`. Those that are missing are
/// passed over.
pub(crate) fn sleep_on(polled: &mut [libc::pollfd], until: Option<Tick>) {
    let span = until.map(|until| until.since(Tick::now())).map(|span| libc::timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: span.subsec_nanos().into(),
    });
    let span = span.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let count = libc::nfds_t::try_from(polled.len()).unwrap_or(0);
    // SAFETY: there are as many entries as `count` says, and `span` is null or valid; the call keeps neither.
    let _ = unsafe { libc::ppoll(polled.as_mut_ptr(), count, span, std::ptr::null()) };
}

/// An entry for [`sleep_on`]: the kernel passes over a negative descriptor.
pub(crate) fn polled(descriptor: Option<BorrowedFd<'_>>) -> libc::pollfd {
    libc::pollfd { fd: descriptor.map_or(-1, |fd| fd.as_raw_fd()), events: libc::POLLIN, revents: 0 }
}
