//! The dispatcher's end of a submitter's lanes.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::buffer::Buffer;
use crate::error::{Error, Fate};
use crate::io::{Cookie, Memory, Request};
use crate::ring::lane::{Receiver, Sender};
use crate::time::Tick;
use crate::volume::bell::Bell;
use crate::volume::dispatcher::door::{Asked, Descriptor, Door};

/// Most that is taken from the lane at a time to find a cancel.
const BATCH: usize = 1024;

/// What comes back over a lane. Errors are boxed, so that with the lap it is one line of 64 bytes.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) number: u32,
    pub(super) ending: Ending,
}

#[derive(Debug)]
pub(super) enum Ending {
    Completed(Result<(), Box<Error>>, Memory),
    Released(Buffer),
}

pub(in crate::volume) struct LaneDoor {
    /// `None` only while it is being dropped.
    requests: Option<Receiver<Descriptor>>,
    answers: Option<Sender<Answer>>,
    /// What was taken from the lane while the queue had no room, so that cancels behind it could be seen.
    waiting: VecDeque<Request>,
    /// Not after the first deadline among them.
    due: Tick,
    /// The submitter's.
    bell: Arc<Bell>,
}

impl LaneDoor {
    pub(super) fn new(
        depth: u32,
        requests: Receiver<Descriptor>,
        answers: Sender<Answer>,
        bell: Arc<Bell>,
    ) -> Self {
        // The submitter has no more out.
        let waiting = VecDeque::with_capacity(depth as usize);
        Self { requests: Some(requests), answers: Some(answers), waiting, due: Tick::MAX, bell }
    }

    fn answer(&mut self, number: u32, ending: Ending) {
        let Some(answers) = &mut self.answers else { return };
        // There is room: the submitter has fewer out than the lane is long.
        let sent = answers.push(Answer { number, ending });
        debug_assert!(sent.is_ok(), "the lane has room for every answer");
        // Where nobody reads any more, memory goes back to its pool.
        while answers.reclaim().is_some() {}
    }

    /// Answers a request that never reached the queue.
    fn refuse(&mut self, request: Request, error: Error) {
        let memory = request.buffer.map_or(Memory::None, Memory::Returned);
        self.end(number(request.cookie), Err(error), memory);
    }

    /// Ends a request that waits here; `false` if none with this number does.
    fn withdraw(&mut self, wanted: u32) -> bool {
        let place = self.waiting.iter().position(|request| number(request.cookie) == wanted);
        let Some(request) = place.and_then(|place| self.waiting.remove(place)) else { return false };
        self.refuse(request, Error::Cancelled { fate: Fate::NotSent });
        true
    }

    #[cold]
    fn end_late(&mut self, now: Tick) {
        self.due = Tick::MAX;
        for _ in 0..self.waiting.len() {
            let Some(request) = self.waiting.pop_front() else { break };
            let deadline = request.deadline.unwrap_or(Tick::MAX);
            if deadline <= now {
                self.refuse(request, Error::DeadlineExceeded { fate: Fate::NotSent });
            } else {
                self.due = self.due.min(deadline);
                self.waiting.push_back(request);
            }
        }
        self.notify();
    }
}

impl Door for LaneDoor {
    fn next(&mut self) -> Option<Asked> {
        if let Some(request) = self.waiting.pop_front() {
            return Some(Asked::Request(request));
        }
        Some(self.requests.as_mut()?.pop()?.into_asked())
    }

    fn next_cancel(&mut self) -> Option<u32> {
        for _ in 0..BATCH {
            match self.requests.as_mut()?.pop()?.into_asked() {
                Asked::Request(request) => {
                    self.due = self.due.min(request.deadline.unwrap_or(Tick::MAX));
                    self.waiting.push_back(request);
                }
                Asked::Cancel(number) if self.withdraw(number) => {}
                Asked::Cancel(number) => return Some(number),
            }
        }
        None
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.requests.as_ref().is_none_or(Receiver::is_empty)
    }

    fn is_left(&self) -> bool {
        // In this order: after the submitter nothing comes.
        self.requests.as_ref().is_none_or(Receiver::is_abandoned) && self.is_empty()
    }

    fn end(&mut self, number: u32, result: Result<(), Error>, memory: Memory) {
        self.answer(number, Ending::Completed(result.map_err(Box::new), memory));
    }

    fn release(&mut self, number: u32, buffer: Buffer) {
        self.answer(number, Ending::Released(buffer));
    }

    fn expire(&mut self, now: Tick) -> Option<Tick> {
        if self.due <= now {
            self.end_late(now);
        }
        (self.due < Tick::MAX).then_some(self.due)
    }

    fn is_unread(&self) -> bool {
        self.requests.as_ref().is_some_and(|requests| !requests.is_empty())
    }

    fn notify(&mut self) {
        self.bell.ring();
    }
}

impl Drop for LaneDoor {
    fn drop(&mut self) {
        while let Some(request) = self.waiting.pop_front() {
            self.refuse(request, Error::Closed { fate: Fate::NotSent });
        }
        // The submitter takes it that all answers are in the lane when it sees that nobody takes its requests.
        self.answers = None;
        self.requests = None;
        self.bell.ring();
    }
}

/// A request's cookie is its number here.
#[allow(clippy::cast_possible_truncation, reason = "it was made of a `u32`")]
const fn number(cookie: Cookie) -> u32 {
    cookie.0 as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_and_its_lap_fit_a_cache_line() {
        assert!(size_of::<Answer>() <= 56, "{}", size_of::<Answer>());
    }
}
