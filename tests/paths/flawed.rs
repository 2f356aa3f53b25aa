//! Paths with one flaw each, which the suite must find.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mpio::path::{
    Attempt, AttemptId, Attempts, BlockDevice, ControlSink, Description, Fault, Incarnation, OpenQueue,
    Outcome, Outcomes, Path, PathQueue, Port, Reactor, ReactorEvent,
};
use mpio::{Cause, Error, Operation, QueueIndex, Tick, path_suite};

/// What is wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// Says that writes are done, and does not do them.
    LosesWrites,
    /// The same of write zeroes.
    LosesZeroes,
    /// The same of forced writes.
    LosesForcedWrites,
    /// Says another depth each time.
    ChangesItsMind,
    /// Gives each attempt up twice, and then ends it well.
    GivesUpTwice,
    /// Takes attempts only when it is offered them a second time.
    TakesNoneAtFirst,
    /// Says that it moved a byte more than it did.
    Exaggerates,
    /// Opens the first queue alone.
    HasOneQueue,
    /// Does not connect a second time.
    ConnectsOnce,
}

struct Flawed {
    inner: BlockDevice,
    flaw: Flaw,
    connections: u32,
}

impl Path for Flawed {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn connect(&mut self, incarnation: Incarnation) -> Result<Description, Error> {
        self.connections += 1;
        if self.flaw == Flaw::ConnectsOnce && self.connections > 1 {
            let problem = "has connected before".to_owned();
            return Err(Error::Path { path: self.name(), problem });
        }
        let mut description = self.inner.connect(incarnation)?;
        if self.flaw == Flaw::ChangesItsMind {
            description.depth = self.connections;
        }
        Ok(description)
    }

    fn open_queue(&mut self, queue: QueueIndex) -> Result<Box<dyn OpenQueue>, Error> {
        if self.flaw == Flaw::HasOneQueue && queue != QueueIndex(0) {
            let problem = "has one queue alone".to_owned();
            return Err(Error::Path { path: self.name(), problem });
        }
        Ok(Box::new(Opening { inner: self.inner.open_queue(queue)?, flaw: self.flaw }))
    }

    fn probe(&mut self, sink: ControlSink) {
        self.inner.probe(sink);
    }
}

struct Opening {
    inner: Box<dyn OpenQueue>,
    flaw: Flaw,
}

impl OpenQueue for Opening {
    fn open(self: Box<Self>, reactor: &mut Reactor, port: Port) -> Result<Box<dyn PathQueue>, Error> {
        let inner = self.inner.open(reactor, port)?;
        Ok(Box::new(Line { inner, flaw: self.flaw, lost: Vec::new(), offered: 0 }))
    }
}

struct Line {
    inner: Box<dyn PathQueue>,
    flaw: Flaw,
    /// Attempts that are said to be done.
    lost: Vec<Attempt>,
    offered: u32,
}

impl PathQueue for Line {
    fn submit(&mut self, reactor: &mut Reactor, now: Tick, attempts: &mut Attempts<'_>) -> Option<Tick> {
        self.offered += 1;
        if self.flaw == Flaw::TakesNoneAtFirst && self.offered % 2 == 1 {
            return None;
        }
        while let Some(attempt) = attempts.next() {
            if !self.loses(attempt.operation()) {
                attempts.put_back(attempt);
                break;
            }
            self.lost.push(attempt);
        }
        let next = self.inner.submit(reactor, now, attempts);
        if self.lost.is_empty() { next } else { Some(now) }
    }

    fn event(&mut self, reactor: &mut Reactor, event: ReactorEvent, outcomes: &mut Outcomes<'_>) {
        let mut list = Vec::new();
        self.inner.event(reactor, event, &mut Outcomes::new(&mut list));
        for outcome in list {
            self.tell(outcome, outcomes);
        }
    }

    fn poll(&mut self, reactor: &mut Reactor, now: Tick, outcomes: &mut Outcomes<'_>) -> Option<Tick> {
        for attempt in self.lost.drain(..) {
            let bytes = u32::try_from(attempt.len()).unwrap();
            outcomes.complete(attempt, Ok(bytes));
        }
        self.inner.poll(reactor, now, outcomes)
    }

    fn cancel(&mut self, reactor: &mut Reactor, attempt: AttemptId) {
        self.inner.cancel(reactor, attempt);
    }
}

impl Line {
    fn loses(&self, operation: Operation) -> bool {
        match self.flaw {
            Flaw::LosesWrites => matches!(operation, Operation::Write(_)),
            Flaw::LosesForcedWrites => operation == Operation::Write(mpio::Durability::Fua),
            Flaw::LosesZeroes => matches!(operation, Operation::WriteZeroes(_)),
            _ => false,
        }
    }

    fn tell(&self, outcome: Outcome, outcomes: &mut Outcomes<'_>) {
        match outcome {
            Outcome::Complete(attempt, Ok(bytes)) if self.flaw == Flaw::Exaggerates => {
                outcomes.complete(attempt, Ok(bytes + 1));
            }
            Outcome::Complete(attempt, result) if self.flaw == Flaw::GivesUpTwice => {
                let fault = Fault::Unknown { cause: Cause::Timeout, fence: None };
                outcomes.give_up(attempt.id(), fault);
                outcomes.give_up(attempt.id(), fault);
                outcomes.complete(attempt, result);
            }
            outcome => outcomes.push(outcome),
        }
    }
}

fn flawed(flaw: Flaw) -> impl Fn(usize) -> Option<Flawed> {
    crate::file(move |inner| Flawed { inner, flaw, connections: 0 })
}

/// Asserts that `test` fails.
#[track_caller]
fn found(test: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(test)).is_err(), "the suite did not find it");
}

#[test]
fn writes_that_are_not_done_are_found() {
    found(|| path_suite::reads_back_what_was_written(&flawed(Flaw::LosesWrites)));
    found(|| path_suite::writes_only_where_it_was_asked_to(&flawed(Flaw::LosesWrites)));
    found(|| path_suite::hands_back_each_attempt_once(&flawed(Flaw::LosesWrites)));
    found(|| path_suite::serves_several_queues(&flawed(Flaw::LosesWrites)));
    found(|| path_suite::writes_through(&flawed(Flaw::LosesForcedWrites)));
}

#[test]
fn zeroes_that_are_not_written_are_found() {
    found(|| path_suite::clears_what_it_was_asked_to_and_no_more(&flawed(Flaw::LosesZeroes)));
}

#[test]
fn another_description_is_found() {
    found(|| path_suite::says_the_same_when_it_connects_again(&flawed(Flaw::ChangesItsMind)));
    found(|| path_suite::says_the_same_when_it_connects_again(&flawed(Flaw::ConnectsOnce)));
}

#[test]
fn attempts_that_end_otherwise_than_once_are_found() {
    found(|| path_suite::reads_back_what_was_written(&flawed(Flaw::GivesUpTwice)));
    found(|| path_suite::hands_back_each_attempt_once(&flawed(Flaw::Exaggerates)));
}

#[test]
fn a_path_that_takes_nothing_although_it_has_nothing_is_found() {
    found(|| path_suite::takes_as_many_attempts_as_it_says(&flawed(Flaw::TakesNoneAtFirst)));
}

#[test]
fn a_path_that_serves_one_queue_alone_is_found() {
    found(|| path_suite::serves_several_queues(&flawed(Flaw::HasOneQueue)));
}
