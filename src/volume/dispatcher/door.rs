//! A way into a served queue, and out again.

use crate::block::Extent;
use crate::buffer::Buffer;
use crate::error::Error;
use crate::io::{Cookie, Memory, Operation, Request};
use crate::time::Tick;

/// The dispatcher's end of what brings requests to a queue. Whoever brings them numbers them, has room for the answer to
/// each before it brings it, and does not use a number again before it has everything back.
///
/// A door that is dropped tells the other side that nothing comes any more.
pub(crate) trait Door: Send {
    /// The next thing that was asked for.
    fn next(&mut self) -> Option<Asked>;

    /// For while the queue has no room: the next request that is to be cancelled and that the queue may have. Those on the
    /// way to the queue that were sent before it stay in turn.
    fn next_cancel(&mut self) -> Option<u32> {
        None
    }

    /// Whether there is nothing for [`next`](Self::next) at present.
    fn is_empty(&self) -> bool;

    /// Whether nobody is at the other side any more and nothing is left to take.
    fn is_left(&self) -> bool;

    /// The end of a request.
    fn end(&mut self, number: u32, result: Result<(), Error>, memory: Memory);

    /// The memory of a request that ended with [`Memory::Quarantined`].
    fn release(&mut self, number: u32, buffer: Buffer);

    /// Ends what has waited here past its deadline. When it has to be called again, at the latest; and before that once
    /// there is something [new](Self::is_unread).
    fn expire(&mut self, now: Tick) -> Option<Tick>;

    /// Whether something came that has to be looked at though the queue has no room: by
    /// [`next_cancel`](Self::next_cancel) or [`expire`](Self::expire).
    fn is_unread(&self) -> bool;

    /// Wakes who waits for what was handed out since the last call.
    fn notify(&mut self);
}

/// What is asked of a queue.
#[derive(Debug)]
pub(crate) enum Asked {
    /// To take a request, whose cookie is its number.
    Request(Request),
    /// To end the request with this number, if it has not ended.
    Cancel(u32),
}

/// The same as it lies in a lane: with the lap one line of 64 bytes.
#[derive(Debug)]
pub(crate) struct Descriptor {
    /// `None`: cancel.
    operation: Option<Operation>,
    number: u32,
    extent: Extent,
    buffer: Option<Buffer>,
    /// `Tick::MAX` for none.
    deadline: Tick,
}

impl Descriptor {
    /// A request under the number that it has here.
    pub(crate) fn request(request: Request, number: u32) -> Self {
        let Request { operation, extent, buffer, deadline, cookie: _ } = request;
        Self { operation: Some(operation), number, extent, buffer, deadline: deadline.unwrap_or(Tick::MAX) }
    }

    pub(crate) const fn cancel(number: u32) -> Self {
        Self { operation: None, number, extent: Extent::NONE, buffer: None, deadline: Tick::MAX }
    }

    pub(crate) fn into_asked(self) -> Asked {
        let Self { operation, number, extent, buffer, deadline } = self;
        let Some(operation) = operation else { return Asked::Cancel(number) };
        let deadline = (deadline < Tick::MAX).then_some(deadline);
        Asked::Request(Request { operation, extent, buffer, deadline, cookie: Cookie(number.into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_and_its_lap_fit_a_cache_line() {
        assert!(size_of::<Descriptor>() <= 56, "{}", size_of::<Descriptor>());
    }

    #[test]
    fn what_goes_in_comes_out() {
        let asked = Descriptor::request(Request::flush(Cookie(9)).with_deadline(Tick::from_nanos(5)), 3);
        let Asked::Request(request) = asked.into_asked() else { panic!("it is a request") };
        assert_eq!((request.cookie, request.deadline), (Cookie(3), Some(Tick::from_nanos(5))));
        assert!(matches!(Descriptor::cancel(7).into_asked(), Asked::Cancel(7)));
    }
}
