//! Where a thread of the front-end hands in its requests.

use std::os::fd::BorrowedFd;

use crate::block::{Limits, LiveGeometry};
use crate::buffer::Buffer;
use crate::io::{Completion, Cookie, Rejected, Request};
use crate::os::{polled, sleep_on};
use crate::reactor::Waker;
use crate::time::Tick;
use crate::volume::{Queue, Submitter};

/// What a worker needs of a queue.
pub(super) trait Station: Send + 'static {
    /// Block size and capacity, as they are at any time.
    fn live_geometry(&self) -> LiveGeometry;

    /// What one request may ask for.
    fn limits(&self) -> Limits;

    /// Takes a request in, or gives it back.
    #[allow(clippy::result_large_err, reason = "what could not be taken is given back")]
    fn submit(&mut self, request: Request) -> Result<(), Rejected>;

    /// Sends what was submitted, appends what has ended; when to call again at the latest.
    fn poll(&mut self, now: Tick, completions: &mut Vec<Completion>) -> Option<Tick>;

    /// A buffer that was quarantined and is not any more.
    fn poll_released(&mut self) -> Option<(Cookie, Buffer)>;

    /// Whether nothing is under way.
    fn is_empty(&self) -> bool;

    /// Ends a sleep from another thread.
    fn bell(&self) -> Option<Waker>;

    /// Sleeps until there is something to poll for, `channel` (always the same) is readable, or `until` has come.
    fn sleep(&mut self, channel: Option<BorrowedFd<'_>>, until: Option<Tick>);

    /// Lets go of the channel, which is about to be closed for good.
    fn let_go(&mut self);
}

impl Station for Queue {
    fn live_geometry(&self) -> LiveGeometry {
        self.live_geometry()
    }

    fn limits(&self) -> Limits {
        self.limits()
    }

    fn submit(&mut self, request: Request) -> Result<(), Rejected> {
        self.submit(request)
    }

    fn poll(&mut self, now: Tick, completions: &mut Vec<Completion>) -> Option<Tick> {
        self.poll(now, completions)
    }

    fn poll_released(&mut self) -> Option<(Cookie, Buffer)> {
        self.poll_released()
    }

    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn bell(&self) -> Option<Waker> {
        self.bell()
    }

    fn sleep(&mut self, channel: Option<BorrowedFd<'_>>, until: Option<Tick>) {
        if channel.is_some_and(|channel| self.sleep_with(channel, until)) {
            return;
        }
        // Made before the server started.
        if let Ok(wake) = self.sleep_fd() {
            sleep_on(&mut [polled(channel), polled(Some(wake))], until);
        }
    }

    fn let_go(&mut self) {
        self.unwatch();
    }
}

impl Station for Submitter {
    fn live_geometry(&self) -> LiveGeometry {
        self.live_geometry()
    }

    fn limits(&self) -> Limits {
        self.limits()
    }

    fn submit(&mut self, request: Request) -> Result<(), Rejected> {
        self.submit(request)
    }

    fn poll(&mut self, _now: Tick, completions: &mut Vec<Completion>) -> Option<Tick> {
        self.poll(completions);
        None
    }

    fn poll_released(&mut self) -> Option<(Cookie, Buffer)> {
        self.poll_released()
    }

    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn bell(&self) -> Option<Waker> {
        Some(self.waker())
    }

    fn sleep(&mut self, channel: Option<BorrowedFd<'_>>, until: Option<Tick>) {
        sleep_on(&mut [polled(channel), polled(Some(self.wake_fd()))], until);
    }

    fn let_go(&mut self) {}
}
