//! Something that was asked for and takes its time.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Becomes true when a removal or a close is complete. Dropping it does not undo what was asked for.
#[derive(Clone, Debug)]
pub struct Settled {
    state: Arc<(Mutex<bool>, Condvar)>,
}

/// The other end: it settles when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Settling {
    _last: Arc<Last>,
}

#[derive(Debug)]
struct Last {
    state: Arc<(Mutex<bool>, Condvar)>,
}

impl Settled {
    pub(crate) fn new() -> (Self, Settling) {
        let state = Arc::new((Mutex::new(false), Condvar::new()));
        (Self { state: Arc::clone(&state) }, Settling { _last: Arc::new(Last { state }) })
    }

    /// Whether it is complete.
    pub fn is_settled(&self) -> bool {
        *self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for at most `timeout`; whether it is complete then. A queue that its owner polls must go on being polled
    /// meanwhile, by another thread: each queue has to let go.
    pub fn wait(&self, timeout: Duration) -> bool {
        let settled = self.state.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.state.1.wait_timeout_while(settled, timeout, |settled| !*settled);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        *self.state.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.state.1.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settles_when_the_other_end_goes() {
        let (settled, settling) = Settled::new();
        let another = settling.clone();
        drop(settling);
        assert!(!settled.is_settled() && !settled.wait(Duration::ZERO));
        drop(another);
        assert!(settled.wait(Duration::ZERO) && settled.is_settled());
    }
}
