//! The dispatcher's end of a submitter's lanes.

use std::sync::Arc;

use crate::buffer::Buffer;
use crate::error::Error;
use crate::io::Memory;
use crate::ring::lane::{Receiver, Sender};
use crate::volume::bell::Bell;
use crate::volume::dispatcher::door::{Asked, Descriptor, Door};

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
    /// The submitter's.
    bell: Arc<Bell>,
}

impl LaneDoor {
    pub(super) const fn new(
        requests: Receiver<Descriptor>,
        answers: Sender<Answer>,
        bell: Arc<Bell>,
    ) -> Self {
        Self { requests: Some(requests), answers: Some(answers), bell }
    }

    fn answer(&mut self, number: u32, ending: Ending) {
        // There is room: the submitter has fewer out than the lane is long.
        let sent = self.answers.as_mut().map(|answers| answers.push(Answer { number, ending }));
        debug_assert!(sent.is_none_or(|sent| sent.is_ok()), "the lane has room for every answer");
    }
}

impl Door for LaneDoor {
    fn next(&mut self) -> Option<Asked> {
        Some(self.requests.as_mut()?.pop()?.into_asked())
    }

    fn is_empty(&self) -> bool {
        self.requests.as_ref().is_none_or(Receiver::is_empty)
    }

    fn is_left(&self) -> bool {
        self.requests.as_ref().is_none_or(|requests| requests.is_abandoned() && requests.is_empty())
    }

    fn end(&mut self, number: u32, result: Result<(), Error>, memory: Memory) {
        self.answer(number, Ending::Completed(result.map_err(Box::new), memory));
    }

    fn release(&mut self, number: u32, buffer: Buffer) {
        self.answer(number, Ending::Released(buffer));
    }

    fn notify(&mut self) {
        self.bell.ring();
    }
}

impl Drop for LaneDoor {
    fn drop(&mut self) {
        // The submitter takes it that all answers are in the lane when it sees that nobody takes its requests.
        self.answers = None;
        self.requests = None;
        self.bell.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_and_its_lap_fit_a_cache_line() {
        assert!(size_of::<Answer>() <= 56, "{}", size_of::<Answer>());
    }
}
