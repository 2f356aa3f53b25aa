//! What a client's request comes to.

use std::fmt;
use std::mem::replace;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::error::{Error, Fate};
use crate::io::{Completion, Cookie, Memory, Request};

use super::desk::Desk;
use super::op::{End, Home, Op};

/// The end of a request that a [`Client`](crate::Client) has sent: a future for tasks, under any executor, and
/// [`wait`](Self::wait) for threads. The request is on its way whether or not anyone polls.
///
/// # When it is dropped
/// A request that is still waiting for its turn is withdrawn, as if it had never been sent; one that is under way runs on.
/// Either way its buffer goes back to its pool as soon as no path can touch it. To drop one never waits.
#[must_use = "a response that is dropped withdraws the request, if it is still waiting for its turn"]
pub struct Response {
    cookie: Cookie,
    stage: Stage,
}

enum Stage {
    UnderWay {
        desk: Arc<Desk>,
        op: Arc<Op>,
        /// Whether it was never polled.
        is_fresh: bool,
    },
    /// Never sent.
    Refused(Box<End>),
    /// The end was taken.
    Over,
}

impl Response {
    pub(super) fn send(desk: &Arc<Desk>, request: Request) -> Self {
        let op = desk.op();
        let cookie = request.cookie;
        desk.send(&op, request, Home::Caller);
        Self { cookie, stage: Stage::UnderWay { desk: Arc::clone(desk), op, is_fresh: true } }
    }

    pub(super) fn refuse(request: Request, error: Error) -> Self {
        let memory = request.buffer.map_or(Memory::None, Memory::Returned);
        Self { cookie: request.cookie, stage: Stage::Refused(Box::new((Err(error), memory))) }
    }

    /// Has the calling thread wait for the end.
    ///
    /// Not for a thread that an executor needs to go on with other tasks, and never for one that wakes tasks of this
    /// client, as the dispatcher does.
    pub fn wait(mut self) -> Completion {
        let (result, memory) = match replace(&mut self.stage, Stage::Over) {
            Stage::UnderWay { desk, op, .. } => desk.wait_for_end(op),
            Stage::Refused(end) => *end,
            // Only its own future takes the end, and who has that one polled to its end.
            Stage::Over => (Err(Error::Closed { fate: Fate::Unknown }), Memory::None),
        };
        Completion::new(self.cookie, result, memory)
    }
}

impl Future for Response {
    type Output = Completion;

    /// Once it was ready it is pending for ever.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Completion> {
        if let Stage::UnderWay { op, is_fresh, .. } = &mut self.stage {
            let Some((result, memory)) = op.collect_or_wait(context.waker(), is_fresh) else {
                return Poll::Pending;
            };
            if let Stage::UnderWay { desk, op, .. } = replace(&mut self.stage, Stage::Over) {
                desk.put_back(op);
            }
            return Poll::Ready(Completion::new(self.cookie, result, memory));
        }
        match replace(&mut self.stage, Stage::Over) {
            Stage::Refused(end) => Poll::Ready(Completion::new(self.cookie, end.0, end.1)),
            Stage::UnderWay { .. } | Stage::Over => Poll::Pending,
        }
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        if let Stage::UnderWay { desk, op, .. } = replace(&mut self.stage, Stage::Over) {
            desk.abandon(op);
        }
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("cookie", &self.cookie).finish_non_exhaustive()
    }
}
