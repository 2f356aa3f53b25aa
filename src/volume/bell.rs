//! The bells by which the threads of a hand-off wake each other.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Error;
use crate::reactor::{Ready, Waker};
use crate::ring::doorbell::Doorbell;
use crate::time::Tick;

/// A thread's bell as others hold it.
pub(crate) struct Bell {
    doorbell: Doorbell,
    /// How to wake the thread where it sleeps; `None` while it sleeps nowhere.
    waker: Mutex<Option<Waker>>,
}

impl Bell {
    pub(super) fn new(waker: Option<Waker>) -> Arc<Self> {
        Arc::new(Self { doorbell: Doorbell::new(), waker: Mutex::new(waker) })
    }

    /// Something was made visible to the thread: wakes it if it sleeps.
    #[inline]
    pub(super) fn ring(&self) {
        if self.doorbell.ring() {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake();
        }
    }

    /// For the thread itself, before it sleeps: see [`Doorbell::arm`].
    pub(super) fn arm(&self) {
        self.doorbell.arm();
    }

    /// For the thread itself, when it is awake again.
    pub(super) fn disarm(&self) {
        self.doorbell.disarm();
    }

    /// Whether nobody has rung since it was armed.
    #[cfg(all(test, not(loom)))]
    pub(super) fn is_armed(&self) -> bool {
        self.doorbell.is_armed()
    }

    /// Where the thread sleeps from now on.
    pub(super) fn set_waker(&self, waker: Option<Waker>) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = waker;
    }
}

/// A bell with a descriptor of its own to sleep on.
pub(super) struct Bed {
    ready: Ready,
    bell: Arc<Bell>,
}

impl Bed {
    /// # Errors
    /// [`Error::Os`] if the process has no descriptor left.
    pub(super) fn new() -> Result<Self, Error> {
        let ready = Ready::new()?;
        let bell = Bell::new(Some(ready.waker(None)));
        Ok(Self { ready, bell })
    }

    /// Ends a sleep, whether the bell is armed or not.
    #[cfg(feature = "fuse")]
    pub(super) fn waker(&self) -> Waker {
        self.ready.waker(None)
    }

    pub(super) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// From now on whoever rings makes the descriptor readable. Look once more before sleeping on it.
    pub(super) fn arm(&self) {
        self.bell.arm();
    }

    /// Awake again.
    pub(super) fn disarm(&mut self) {
        self.bell.disarm();
        self.ready.take();
    }

    /// Sleeps until somebody rings, or `until`. Can return early.
    pub(super) fn sleep(&self, until: Option<Tick>) {
        self.ready.sleep(until);
    }
}

impl AsFd for Bed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }
}
