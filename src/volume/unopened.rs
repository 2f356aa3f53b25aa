//! A path queue that is not made yet, on its way from the path's thread to the queue's.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::path::{OpenQueue, PathQueue};
use crate::reactor::{Port, Reactor};

/// What a path gave for a queue. It may end anywhere on its way, on anyone's thread: a panic of the path's code stays here.
pub(crate) struct Unopened {
    /// `None` only once it is opened.
    opening: Option<Box<dyn OpenQueue>>,
}

impl Unopened {
    pub(super) fn new(opening: Box<dyn OpenQueue>) -> Self {
        Self { opening: Some(opening) }
    }

    /// Makes the path queue.
    ///
    /// # Errors
    /// Why it cannot be.
    pub(super) fn open(mut self, reactor: &mut Reactor, port: Port) -> Result<Box<dyn PathQueue>, String> {
        let opening = self.opening.take();
        let called = catch_unwind(AssertUnwindSafe(|| opening.map(|opening| opening.open(reactor, port))));
        match called {
            Ok(Some(opened)) => opened.map_err(|error| error.to_string()),
            Ok(None) | Err(_) => Err("its code panicked on opening".to_owned()),
        }
    }
}

impl Drop for Unopened {
    fn drop(&mut self) {
        let opening = self.opening.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(opening)));
    }
}
