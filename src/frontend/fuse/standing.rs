//! How a server stands: what its threads, its handle and the keeper of its loop device have to know of each other.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Error;

use super::server::Ended;

/// Has no file descriptor: the keeper's thread, which may be the last to let go of it, has none of the process's.
#[derive(Debug, Default)]
pub(super) struct Standing {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Threads whose channel is open.
    serving: u32,
    ended: Option<Ended>,
    hold: Hold,
    resize: Resize,
}

/// Requests that the loop device take over the size of its file.
#[derive(Debug, Default)]
struct Resize {
    asked: u64,
    /// The size that the last of them wants, in bytes.
    bytes: u64,
    /// Of those that were asked for up to this one something is known: whether it went well, or an `errno`.
    done: u64,
    result: Option<i32>,
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
    /// What was cached is written, and it is closed on our side.
    Closed,
    /// It was to be closed, and what is cached could not be written.
    Unsynced(io::Error),
}

/// What the keeper of the loop device is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// Take over the size of the file, which is this.
    Resize(u64),
    /// Write what is cached, then close.
    Sync,
    /// Close: nobody serves any more.
    Close,
}

impl Standing {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    fn wait(&self, timeout: Duration, mut undecided: impl FnMut(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_timeout_while(self.state(), timeout, |state| undecided(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// A thread with a channel is about to start.
    pub(super) fn join(&self) {
        self.change(|state| state.serving += 1);
    }

    /// A thread has closed its channel. The first to say why is believed.
    pub(super) fn leave(&self, why: Ended) {
        self.change(|state| {
            state.serving = state.serving.saturating_sub(1);
            let why = match (why, &state.hold) {
                // Nothing is detached that is held: the kernel ended the connection without a word, as its time limits do.
                (Ended::Detached, Hold::Open | Hold::Closing | Hold::Unsynced(_)) => Ended::Aborted,
                (why, _) => why,
            };
            state.ended.get_or_insert(why);
        });
    }

    /// Why it ended, waited for.
    pub(super) fn ended_within(&self, timeout: Duration) -> Option<Ended> {
        self.wait(timeout, |state| state.ended.is_none()).ended.clone()
    }

    /// The keeper has the loop device.
    pub(super) fn hold(&self) {
        self.change(|state| state.hold = Hold::Open);
    }

    /// Waits until there is something to do for the keeper.
    pub(super) fn errand(&self) -> Errand {
        let is_asked = |state: &State| state.resize.done < state.resize.asked;
        let idle =
            |state: &mut State| state.serving > 0 && !matches!(state.hold, Hold::Closing) && !is_asked(state);
        let waited = self.changed.wait_while(self.state(), idle);
        let state = waited.unwrap_or_else(PoisonError::into_inner);
        match state.serving {
            0 => Errand::Close,
            _ if is_asked(&state) => Errand::Resize(state.resize.bytes),
            _ => Errand::Sync,
        }
    }

    /// What is cached was written: the keeper is about to close the loop device.
    pub(super) fn let_go(&self) {
        self.change(|state| state.hold = Hold::Closed);
    }

    /// What is cached could not be written: the keeper keeps the loop device.
    pub(super) fn unsynced(&self, error: io::Error) {
        self.change(|state| state.hold = Hold::Unsynced(error));
    }

    /// The keeper has had the loop device take over the size of its file, or could not.
    pub(super) fn resized(&self, result: &io::Result<()>) {
        self.change(|state| {
            state.resize.done = state.resize.asked;
            state.resize.result =
                result.as_ref().err().map(|error| error.raw_os_error().unwrap_or(libc::EIO));
        });
    }

    /// Has the loop device take over the size of its file, which is `bytes`.
    pub(super) fn resize(&self, name: &str, bytes: u64, patience: Duration) -> Result<(), Error> {
        let mut mine = 0;
        self.change(|state| {
            state.resize.asked += 1;
            (state.resize.bytes, mine) = (bytes, state.resize.asked);
        });
        let state = self.wait(patience, |state| state.serving > 0 && state.resize.done < mine);
        let errno = match state.resize.result {
            _ if state.resize.done < mine && state.serving == 0 => Some(libc::ECONNABORTED),
            _ if state.resize.done < mine => Some(libc::ETIMEDOUT),
            result => result,
        };
        drop(state);
        let failed = |errno| {
            let attempted = format!("having {name} take over the size of the volume, {bytes} bytes");
            Err(Error::os(attempted, io::Error::from_raw_os_error(errno)))
        };
        errno.map_or(Ok(()), failed)
    }

    /// Has what is cached written and the loop device closed, and waits for its last user.
    pub(super) fn stop(&self, name: &str, grace: Duration) -> Result<(), Error> {
        self.change(|state| {
            if let Hold::Open | Hold::Unsynced(_) = state.hold {
                state.hold = Hold::Closing;
            }
        });
        let undecided = |state: &State| state.serving > 0 && !matches!(state.hold, Hold::Unsynced(_));
        let mut state = self.wait(grace, undecided);
        let failed = |errno, problem: &str| {
            let source = io::Error::from_raw_os_error(errno);
            Err(Error::os(format!("detaching {name} within {grace:?}: {problem}"), source))
        };
        match &state.ended {
            Some(Ended::Detached) if state.serving == 0 => return Ok(()),
            Some(Ended::Aborted | Ended::Failed(_)) => {
                return failed(libc::ECONNABORTED, "its connection had ended before");
            }
            _ => {}
        }
        match std::mem::replace(&mut state.hold, Hold::Open) {
            Hold::Unsynced(source) => {
                Err(Error::os(format!("writing what the kernel has cached for {name}"), source))
            }
            hold => {
                state.hold = hold;
                let problem =
                    "someone has it open or mounted, or the volume does not answer; it is served on";
                failed(libc::EBUSY, problem)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn held() -> Standing {
        let standing = Standing::default();
        standing.join();
        standing.join();
        standing.hold();
        standing
    }

    #[test]
    fn what_is_held_is_not_detached_when_its_connection_ends() {
        let standing = held();
        standing.leave(Ended::Detached);
        assert_eq!(standing.ended_within(NOW), Some(Ended::Aborted));
        assert!(standing.stop("it", NOW).unwrap_err().to_string().contains("ended before"));
    }

    #[test]
    fn what_ends_while_the_cache_is_written_was_not_detached() {
        let standing = held();
        assert!(standing.stop("it", NOW).is_err());
        standing.leave(Ended::Detached);
        assert_eq!(standing.ended_within(NOW), Some(Ended::Aborted));
    }

    #[test]
    fn what_was_let_go_is_detached_when_the_last_thread_has_left() {
        let standing = held();
        assert!(standing.stop("it", NOW).unwrap_err().to_string().contains("served on"));
        assert_eq!(standing.errand(), Errand::Sync);
        standing.let_go();
        standing.leave(Ended::Detached);
        assert!(standing.stop("it", NOW).is_err(), "a thread serves");
        standing.leave(Ended::Detached);
        assert_eq!(standing.errand(), Errand::Close);
        standing.stop("it", NOW).unwrap();
    }

    #[test]
    fn what_could_not_be_written_is_told_once_and_tried_again() {
        let standing = held();
        assert!(standing.stop("it", NOW).is_err());
        standing.unsynced(io::Error::from_raw_os_error(libc::ENOSPC));
        let unsynced = standing.wait(NOW, |_| false);
        assert!(matches!(unsynced.hold, Hold::Unsynced(_)));
        drop(unsynced);
        assert!(standing.stop("it", NOW).is_err());
        assert_eq!(standing.errand(), Errand::Sync);
    }

    #[test]
    fn each_new_size_is_taken_over_and_who_asked_hears_how_that_went() {
        let standing = held();
        let refused = |standing: &Standing, bytes| standing.resize("it", bytes, NOW).unwrap_err().to_string();
        assert!(refused(&standing, 1).contains("timed out"));
        assert!(refused(&standing, 2).contains("timed out"));
        assert_eq!(standing.errand(), Errand::Resize(2), "once for both");
        standing.resized(&Ok(()));
        assert!(standing.wait(NOW, |_| false).resize.result.is_none());
        standing.leave(Ended::Detached);
        standing.leave(Ended::Detached);
        assert!(refused(&standing, 3).contains("abort"));
    }

    #[test]
    fn the_first_reason_is_kept() {
        let standing = held();
        standing.leave(Ended::Failed("panicked".to_owned()));
        standing.leave(Ended::Aborted);
        assert_eq!(standing.ended_within(NOW), Some(Ended::Failed("panicked".to_owned())));
    }
}
