//! How a server's threads and its handle know of each other.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Error;
use crate::reactor::Waker;
use crate::sync::{AtomicU32, Ordering};

use super::server::Ended;

/// Set in `orders`: every thread closes its channel.
const CLOSE: u32 = 1;
/// Set in `orders`: every thread leaves what its queue has under way.
const ABANDON: u32 = 2;

/// What the threads and the handle share.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Written by whoever ends the server, read by each thread once a turn. A bell rings after it is written.
    orders: AtomicU32,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Threads whose channel is open.
    serving: u32,
    bells: Vec<Waker>,
    ended: Option<Ended>,
    hold: Hold,
}

/// Whether the loop device is open on our side, in the hands of its keeper.
#[derive(Debug, Default)]
enum Hold {
    /// Not yet.
    #[default]
    Not,
    Open,
    /// It is to be closed, after what is cached was written.
    Closing,
    /// It was to be closed, and what is cached could not be written.
    Unsynced(io::Error),
}

/// What the keeper of the loop device is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// Write what is cached, then close.
    Sync,
    /// Close: nobody serves any more.
    Close,
}

impl Life {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread with a channel is about to start.
    pub(super) fn join(&self, bell: Option<Waker>) {
        let mut state = self.state();
        state.serving += 1;
        state.bells.extend(bell);
    }

    /// A thread has closed its channel.
    pub(super) fn leave(&self, why: Ended) {
        if matches!(why, Ended::Failed(_)) {
            self.order(CLOSE);
        }
        let mut state = self.state();
        state.serving = state.serving.saturating_sub(1);
        state.ended.get_or_insert(why);
        drop(state);
        self.changed.notify_all();
    }

    /// The keeper has the loop device.
    pub(super) fn hold(&self) {
        self.state().hold = Hold::Open;
        self.changed.notify_all();
    }

    /// Waits until there is something to do for the keeper.
    pub(super) fn errand(&self) -> Errand {
        let idle = |state: &mut State| state.serving > 0 && !matches!(state.hold, Hold::Closing);
        let waited = self.changed.wait_while(self.state(), idle);
        let state = waited.unwrap_or_else(PoisonError::into_inner);
        if state.serving > 0 { Errand::Sync } else { Errand::Close }
    }

    /// What is cached could not be written: the keeper keeps the loop device.
    pub(super) fn unsynced(&self, error: io::Error) {
        self.state().hold = Hold::Unsynced(error);
        self.changed.notify_all();
    }

    fn order(&self, orders: u32) {
        // Pairs with the load in `ordered`.
        self.orders.fetch_or(orders, Ordering::Release);
        self.state().bells.iter().for_each(Waker::wake);
    }

    fn ordered(&self, orders: u32) -> bool {
        // Pairs with `fetch_or` in `order`.
        self.orders.load(Ordering::Acquire) & orders != 0
    }

    /// Whether channels are to be closed.
    pub(super) fn is_closing(&self) -> bool {
        self.ordered(CLOSE)
    }

    /// Whether what is under way is to be left.
    pub(super) fn is_abandoned(&self) -> bool {
        self.ordered(ABANDON)
    }

    /// Ends everything now.
    pub(super) fn abort(&self) {
        self.order(CLOSE | ABANDON);
    }

    /// Why it ended.
    pub(super) fn ended(&self) -> Option<Ended> {
        self.state().ended.clone()
    }

    /// The same, waited for.
    pub(super) fn ended_within(&self, timeout: Duration) -> Option<Ended> {
        self.wait(timeout, |state| state.ended.is_some()).ended.clone()
    }

    fn wait(&self, timeout: Duration, mut done: impl FnMut(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_timeout_while(self.state(), timeout, |state| !done(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Writes back what is cached, closes the loop device, and waits for its last user.
    pub(super) fn stop(&self, name: &str, grace: Duration) -> Result<(), Error> {
        let mut state = self.state();
        if let Hold::Open | Hold::Unsynced(_) = state.hold {
            state.hold = Hold::Closing;
            self.changed.notify_all();
        }
        drop(state);
        let mut state =
            self.wait(grace, |state| state.serving == 0 || matches!(state.hold, Hold::Unsynced(_)));
        let failed = |errno, problem: &str| {
            let source = io::Error::from_raw_os_error(errno);
            Err(Error::os(format!("detaching {name} within {grace:?}: {problem}"), source))
        };
        let ended = state.ended.clone();
        match (ended, std::mem::replace(&mut state.hold, Hold::Closing)) {
            (Some(Ended::Detached), _) => Ok(()),
            (Some(_), _) => failed(libc::ECONNABORTED, "its connection had ended before"),
            (None, Hold::Unsynced(source)) => {
                state.hold = Hold::Open;
                Err(Error::os(format!("writing what the kernel has cached for {name}"), source))
            }
            (None, hold) => {
                state.hold = hold;
                let problem =
                    "someone has it open or mounted, or the volume does not answer; it is served on";
                failed(libc::EBUSY, problem)
            }
        }
    }
}
