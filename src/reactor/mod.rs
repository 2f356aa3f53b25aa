//! The one `io_uring` of a queue's thread, lent to all paths on it, and the way to wake that thread.
//!
//! A [`Reactor`] belongs to one queue. Its ring is made when the first path asks for it, on the queue's thread; a queue
//! whose paths need none never has one. Where `io_uring` is not to be had (seccomp, `kernel.io_uring_disabled`, limits on
//! locked memory) paths use threads of their own, and [`Reactor::take_warning`] says why.
//!
//! The queue may move to another thread between two calls. Operations that an earlier thread submitted complete all
//! the same: the kernel posts them when that thread next enters or leaves the kernel, or from a worker if it has ended.

#![allow(unsafe_code)]

mod buffers;
mod eventfd;
mod files;
mod ring;
#[cfg(test)]
mod tests;
mod waker;
mod watch_set;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

pub(crate) use files::Registered;
pub(crate) use ring::Span;
pub(crate) use waker::Ready;
pub use waker::Waker;
#[cfg(feature = "fuse")]
pub(crate) use watch_set::WatchSet;

use crate::buffer::Pool;
use crate::error::Error;
use crate::io::Durability;
use crate::time::Tick;

/// A path queue's address within its [`Reactor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Port(u8);

impl Port {
    pub(crate) const fn new(index: u8) -> Self {
        Self(index)
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// Its place in the word of woken ports.
    pub(crate) const fn bit(self) -> u64 {
        1 << (self.0 & 63)
    }
}

/// The end of something that a path put on the ring. Only the ring makes one, once for each operation: a path that wraps
/// another can hand it on, and that is all.
#[derive(Debug, PartialEq, Eq)]
pub struct ReactorEvent {
    /// The path's own word for it.
    pub(crate) token: u32,
    /// A count, or a negated `errno`.
    pub(crate) result: i32,
    /// Which file on which ring it is of.
    slot: u16,
    ring: usize,
}

impl ReactorEvent {
    /// An event of no ring.
    #[cfg(test)]
    pub(crate) const fn of_no_ring() -> Self {
        Self { token: 0, result: 0, slot: 0, ring: 0 }
    }
}

/// The ring takes no more at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// One thread's ring.
#[derive(Debug)]
pub struct Reactor {
    ready: waker::Ready,
    backend: Backend,
    wake_fd: Option<watch_set::WatchSet>,
    warning: Option<String>,
}

/// What carries out I/O.
#[derive(Debug)]
enum Backend {
    /// Nobody asked for it yet.
    Unasked { pools: Vec<Pool>, entries: u32 },
    /// A ring.
    Ring(Box<ring::Ring>),
    /// Threads of the paths.
    Threads,
}

impl Reactor {
    /// A reactor whose ring will hold `entries` operations between two submissions, with the memory of `pools`
    /// registered.
    ///
    /// # Errors
    /// [`Error::Os`] if the process has no file descriptor left.
    pub(crate) fn new(pools: Vec<Pool>, entries: u32) -> Result<Self, Error> {
        let backend = Backend::Unasked { pools, entries: entries.clamp(1, 4096) };
        Ok(Self { ready: waker::Ready::new()?, backend, wake_fd: None, warning: None })
    }

    /// A reactor as it is where `io_uring` is not to be had.
    #[cfg(test)]
    pub(crate) fn without_ring() -> Result<Self, Error> {
        Ok(Self { backend: Backend::Threads, ..Self::new(Vec::new(), 1)? })
    }

    /// Has `port` polled soon, from any thread: for paths whose answers come from elsewhere than the ring.
    pub fn waker(&self, port: Port) -> Waker {
        self.ready.waker(Some(port))
    }

    /// Wakes the queue's thread without a port.
    pub(crate) fn bell(&self) -> Waker {
        self.ready.waker(None)
    }

    /// The ports woken since the last call, bit `index & 63` for each.
    pub(crate) fn take_ready(&mut self) -> u64 {
        self.ready.take()
    }

    /// Submits what paths have put on the ring. No system call if there is nothing to do.
    pub(crate) fn flush(&mut self) {
        if let Backend::Ring(ring) = &mut self.backend {
            ring.flush();
        }
    }

    /// Submits what paths have put on the ring, and nothing else: what the kernel holds back comes with the next sleep.
    pub(crate) fn submit_queued(&mut self) {
        if let Backend::Ring(ring) = &mut self.backend {
            ring.submit_queued();
        }
    }

    /// The next end of an operation, and whose it was.
    pub(crate) fn next_event(&mut self) -> Option<(Port, ReactorEvent)> {
        match &mut self.backend {
            Backend::Ring(ring) => ring.next(),
            Backend::Unasked { .. } | Backend::Threads => None,
        }
    }

    /// Submits, then sleeps until there is an event, a wake that was not taken, or `until`. Can return early, for instance at a signal.
    pub(crate) fn wait(&mut self, until: Option<Tick>) {
        if self.ready.collect() {
            return self.flush();
        }
        match &mut self.backend {
            // There is work: no sleep at all.
            Backend::Ring(ring) if until == Some(Tick::ZERO) => ring.flush(),
            Backend::Ring(ring) => ring.wait(self.ready.as_fd(), None, until),
            Backend::Unasked { .. } | Backend::Threads => self.ready.sleep(until),
        }
    }

    /// The same, and the sleep also ends when `watched`, always the same descriptor, is readable. Before that is closed for
    /// good, [`unwatch`](Self::unwatch) it. `false` where there is no ring: nothing was done.
    #[cfg(feature = "fuse")]
    pub(crate) fn wait_with(&mut self, watched: BorrowedFd<'_>, until: Option<Tick>) -> bool {
        let Backend::Ring(ring) = &mut self.backend else { return false };
        if self.ready.collect() || until == Some(Tick::ZERO) {
            ring.flush();
        } else {
            ring.wait(self.ready.as_fd(), Some(watched), until);
        }
        true
    }

    /// Lets go of the descriptor that was watched.
    #[cfg(feature = "fuse")]
    pub(crate) fn unwatch(&mut self) {
        if let Backend::Ring(ring) = &mut self.backend {
            ring.unwatch();
        }
    }

    /// A descriptor that is readable when there is an event or a wake that was not taken. While the thread sleeps on
    /// it, completions can end the sleep with `EINTR`.
    ///
    /// # Errors
    /// [`Error::Os`] if the process or the user has no more descriptors or watches left.
    pub(crate) fn wake_fd(&mut self) -> Result<BorrowedFd<'_>, Error> {
        let made = match self.wake_fd.take() {
            Some(made) => made,
            None => self.make_wake_fd().map_err(|source| Error::os("making the wake descriptor", source))?,
        };
        let wake_fd: &watch_set::WatchSet = self.wake_fd.insert(made);
        Ok(wake_fd.as_fd())
    }

    fn make_wake_fd(&self) -> std::io::Result<watch_set::WatchSet> {
        let made = watch_set::WatchSet::new()?;
        made.watch(self.ready.as_fd())?;
        if let Backend::Ring(ring) = &self.backend {
            made.watch(ring.as_fd())?;
        }
        Ok(made)
    }

    /// Something that the user should know, once.
    pub(crate) fn take_warning(&mut self) -> Option<String> {
        self.warning.take()
    }

    /// Makes room for I/O of `port` on `file`; `None` where there is no ring. Makes the ring if there was none yet.
    pub(crate) fn register(&mut self, port: Port, file: Arc<File>) -> Option<Registered> {
        self.ring()?.register(port, file)
    }

    fn ring(&mut self) -> Option<&mut ring::Ring> {
        if let Backend::Unasked { pools, entries } = &mut self.backend {
            let (pools, entries) = (std::mem::take(pools), *entries);
            self.backend = self.make_ring(pools, entries);
        }
        match &mut self.backend {
            Backend::Ring(ring) => Some(ring),
            Backend::Unasked { .. } | Backend::Threads => None,
        }
    }

    fn make_ring(&mut self, pools: Vec<Pool>, entries: u32) -> Backend {
        let made = ring::Ring::new(entries, pools).and_then(|(ring, warning)| {
            if let Some(wake_fd) = &self.wake_fd {
                wake_fd.watch(ring.as_fd())?;
            }
            Ok((ring, warning))
        });
        match made {
            Ok((ring, warning)) => {
                self.warning = warning;
                Backend::Ring(Box::new(ring))
            }
            Err(error) => {
                self.warning = Some(format!(
                    "io_uring is not available: {error}; using threads, at a higher cost for each I/O; \
                     see seccomp filters, kernel.io_uring_disabled and RLIMIT_MEMLOCK"
                ));
                Backend::Threads
            }
        }
    }

    /// Puts a read on the ring.
    ///
    /// # Safety
    /// `memory` must stay mapped, and be touched by nobody, until the event with `token` came for this file, or for
    /// ever.
    pub(crate) unsafe fn read(
        &mut self,
        file: &Registered,
        token: u32,
        memory: Span,
        offset: u64,
    ) -> Result<(), NoRoom> {
        let Backend::Ring(ring) = &mut self.backend else { return Err(NoRoom) };
        // SAFETY: the caller's promise.
        unsafe { ring.read(file, token, memory, offset) }
    }

    /// Puts a write on the ring.
    ///
    /// # Safety
    /// `memory` must stay mapped, and be written by nobody, until the event with `token` came for this file, or for
    /// ever.
    pub(crate) unsafe fn write(
        &mut self,
        file: &Registered,
        token: u32,
        memory: Span,
        offset: u64,
        durability: Durability,
    ) -> Result<(), NoRoom> {
        let Backend::Ring(ring) = &mut self.backend else { return Err(NoRoom) };
        // SAFETY: the caller's promise.
        unsafe { ring.write(file, token, memory, offset, durability) }
    }

    /// Asks for the operation with `token` to be cancelled: a hint, its event comes in any case.
    pub(crate) fn cancel(&mut self, file: &Registered, token: u32) {
        if let Backend::Ring(ring) = &mut self.backend {
            ring.cancel(file, token);
        }
    }
}
