//! A path to a device in memory that does what its script says.

use mpio::path::{
    Attempt, AttemptId, Attempts, ControlSink, Description, FenceGrade, Incarnation, OpenQueue, Outcomes,
    Path, PathQueue, QueueIndex,
};
use mpio::path::{Port, Reactor, ReactorEvent};
use mpio::{Cause, Error, Operation, Tick};

use crate::script::{Answer, BLOCK, Place, Script};

pub(crate) struct Scripted {
    name: String,
    script: Script,
}

impl Scripted {
    pub(crate) fn new(name: &str, script: &Script) -> Self {
        Self { name: name.to_owned(), script: script.clone() }
    }
}

impl Path for Scripted {
    fn name(&self) -> String {
        let _ = self.script.visit(Place::Name);
        self.name.clone()
    }

    fn connect(&mut self, _incarnation: Incarnation) -> Result<Description, Error> {
        self.script.visit(Place::Connect)?;
        Ok(self.script.state().description.clone())
    }

    fn open_queue(&mut self, queue: QueueIndex) -> Result<Box<dyn OpenQueue>, Error> {
        self.script.visit(Place::OpenQueue)?;
        Ok(Box::new(Opening(self.script.clone(), queue)))
    }

    fn fence(&mut self, through: Incarnation, sink: ControlSink) -> Result<(), Cause> {
        self.script.state().sinks.push(sink.clone());
        if self.script.says(Place::Fence).map_err(|_| Cause::NotConnected)? {
            sink.fenced(through, FenceGrade::Proven);
        }
        Ok(())
    }

    fn probe(&mut self, sink: ControlSink) {
        self.script.state().sinks.push(sink.clone());
        if self.script.speaks(Place::Probe) {
            sink.probed(Ok(()));
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        let _ = self.script.visit(Place::DropPath);
    }
}

struct Opening(Script, QueueIndex);

impl Drop for Opening {
    fn drop(&mut self) {
        let _ = self.0.visit(Place::DropOpening);
    }
}

impl OpenQueue for Opening {
    fn open(self: Box<Self>, reactor: &mut Reactor, port: Port) -> Result<Box<dyn PathQueue>, Error> {
        self.0.visit(Place::Open)?;
        self.0.state().wakers.push(reactor.waker(port));
        Ok(Box::new(Line { script: self.0.clone(), index: self.1, taken: Vec::new(), kept: Vec::new() }))
    }
}

/// The data half.
struct Line {
    script: Script,
    index: QueueIndex,
    taken: Vec<(Attempt, Answer)>,
    kept: Vec<Attempt>,
}

impl PathQueue for Line {
    fn submit(&mut self, _reactor: &mut Reactor, now: Tick, attempts: &mut Attempts<'_>) -> Option<Tick> {
        while let Some(attempt) = attempts.next() {
            match self.script.next_answer() {
                Answer::Decline => {
                    attempts.put_back(attempt);
                    break;
                }
                Answer::Lose => drop(attempt),
                Answer::Smuggle(other, queue) => {
                    let mut state = other.state();
                    state.contraband.push((queue, attempt));
                    state.wake();
                }
                answer => self.taken.push((attempt, answer)),
            }
        }
        let _ = self.script.visit(Place::Submit);
        Some(self.script.state().tick.unwrap_or(now))
    }

    fn event(&mut self, _reactor: &mut Reactor, _event: ReactorEvent, _outcomes: &mut Outcomes<'_>) {
        let _ = self.script.visit(Place::Event);
    }

    fn poll(&mut self, _reactor: &mut Reactor, _now: Tick, outcomes: &mut Outcomes<'_>) -> Option<Tick> {
        for (attempt, answer) in std::mem::take(&mut self.taken) {
            self.end(attempt, &answer, outcomes);
        }
        let index = self.index;
        let contraband: Vec<_> =
            self.script.state().contraband.extract_if(.., |(queue, _)| *queue == index).collect();
        for (_, attempt) in contraband {
            let bytes = length(&attempt);
            outcomes.complete(attempt, Ok(bytes));
        }
        if self.script.state().released {
            for mut attempt in std::mem::take(&mut self.kept) {
                let bytes = self.serve(&mut attempt);
                outcomes.complete(attempt, Ok(bytes));
            }
        }
        let _ = self.script.visit(Place::Poll);
        self.script.state().tick
    }

    fn cancel(&mut self, _reactor: &mut Reactor, _attempt: AttemptId) {
        let _ = self.script.visit(Place::Cancel);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.script.visit(Place::DropQueue);
    }
}

impl Line {
    fn end(&mut self, mut attempt: Attempt, answer: &Answer, outcomes: &mut Outcomes<'_>) {
        let id = attempt.id();
        match *answer {
            Answer::Bytes(bytes) => {
                self.serve(&mut attempt);
                outcomes.complete(attempt, Ok(bytes));
            }
            Answer::Fail(fault) => outcomes.complete(attempt, Err(fault)),
            Answer::Keep => self.kept.push(attempt),
            Answer::Swap => match self.kept.pop() {
                None => self.kept.push(attempt),
                Some(mut other) => {
                    if let (Some(one), Some(two)) = (attempt.memory_mut(), other.memory_mut()) {
                        std::mem::swap(one, two);
                    }
                    for mut attempt in [attempt, other] {
                        let bytes = self.serve(&mut attempt);
                        outcomes.complete(attempt, Ok(bytes));
                    }
                }
            },
            Answer::GiveUp(fault) => {
                outcomes.give_up(id, fault);
                self.kept.push(attempt);
            }
            Answer::GiveUpAndServe(fault) => {
                outcomes.give_up(id, fault);
                outcomes.give_up(id, fault);
                let bytes = self.serve(&mut attempt);
                outcomes.complete(attempt, Ok(bytes));
            }
            Answer::EndTwice => {
                let bytes = self.serve(&mut attempt);
                outcomes.complete(attempt, Ok(bytes));
                outcomes.give_up(id, mpio::path::Fault::Final(mpio::DeviceError::Medium));
            }
            Answer::Serve | Answer::Lose | Answer::Decline | Answer::Smuggle(..) => {
                let bytes = self.serve(&mut attempt);
                outcomes.complete(attempt, Ok(bytes));
            }
        }
    }

    /// Carries the attempt out; the bytes that it moved.
    fn serve(&self, attempt: &mut Attempt) -> u32 {
        let medium = std::sync::Arc::clone(&self.script.state().medium);
        let mut medium = medium.lock().unwrap();
        let start = usize::try_from(attempt.extent().start().get()).unwrap() * BLOCK as usize;
        let blocks = attempt.extent().blocks().get() as usize * BLOCK as usize;
        let place = &mut medium[start..start + blocks];
        match attempt.operation() {
            Operation::Read => {
                let memory = attempt.memory_mut().unwrap();
                memory.bytes_mut().unwrap().copy_from_slice(place);
            }
            Operation::Write(_) => place.copy_from_slice(attempt.memory().unwrap().bytes()),
            Operation::Discard | Operation::WriteZeroes(_) => place.fill(0),
            _ => {}
        }
        length(attempt)
    }
}

fn length(attempt: &Attempt) -> u32 {
    u32::try_from(attempt.len()).unwrap()
}
