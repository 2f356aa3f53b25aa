//! A path of one's own, data half: what one queue of the volume has of a port. A thread does the blocking system
//! calls; the queue's thread only passes attempts to it and takes results back.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Builder;

use mpio::path::{Attempt, Attempts, Fault, OpenQueue, Outcomes, PathQueue};
use mpio::path::{Port, Reactor, Waker};
use mpio::{Cause, DeviceError, Error, Operation, Tick};

use crate::array::Array;
use crate::port::Link;

/// A [`Lane`] on its way to the queue's thread.
pub(crate) struct OpenLane {
    pub(crate) name: String,
    pub(crate) array: Arc<Array>,
    pub(crate) link: Arc<Link>,
}

impl OpenQueue for OpenLane {
    fn open(self: Box<Self>, reactor: &mut Reactor, port: Port) -> Result<Box<dyn PathQueue>, Error> {
        let (jobs, inbox) = channel();
        let (outbox, done) = channel();
        let waker = reactor.waker(port);
        let worker = Worker { array: self.array, link: self.link, outbox, waker };
        // The thread ends when the lane drops its end of the channel.
        match Builder::new().name(self.name.clone()).spawn(move || worker.serve(&inbox)) {
            Ok(_detached) => Ok(Box::new(Lane { jobs, done })),
            Err(source) => {
                Err(Error::Os { attempted: format!("starting a thread for {}", self.name), source })
            }
        }
    }
}

/// An attempt with its result.
type Done = (Attempt, Result<u32, Fault>);

struct Lane {
    jobs: Sender<Attempt>,
    done: Receiver<Done>,
}

impl PathQueue for Lane {
    fn submit(&mut self, _: &mut Reactor, _now: Tick, attempts: &mut Attempts<'_>) -> Option<Tick> {
        while let Some(attempt) = attempts.next() {
            if let Err(refused) = self.jobs.send(attempt) {
                attempts.put_back(refused.0);
                break;
            }
        }
        // No need to be polled at a certain time: the worker wakes the queue.
        None
    }

    fn poll(&mut self, _: &mut Reactor, _now: Tick, outcomes: &mut Outcomes<'_>) -> Option<Tick> {
        for (attempt, result) in self.done.try_iter() {
            outcomes.complete(attempt, result);
        }
        None
    }
}

struct Worker {
    array: Arc<Array>,
    link: Arc<Link>,
    outbox: Sender<Done>,
    waker: Waker,
}

impl Worker {
    fn serve(self, jobs: &Receiver<Attempt>) {
        for mut attempt in jobs {
            // What comes after the link was cut was never done, and never will be.
            let not_sent = Err(Fault::NotSent(Cause::NotConnected));
            let result = self.link.carry(|| self.carry_out(&mut attempt)).unwrap_or(not_sent);
            if self.outbox.send((attempt, result)).is_err() {
                break;
            }
            self.waker.wake();
        }
    }

    /// The bytes that were moved, or what went wrong, said as no more than is known.
    fn carry_out(&self, attempt: &mut Attempt) -> Result<u32, Fault> {
        let (operation, extent) = (attempt.operation(), attempt.extent());
        let bytes = u32::try_from(attempt.len()).unwrap_or(u32::MAX);
        let result = match (operation, attempt.memory_mut()) {
            (Operation::Read, Some(memory)) => match memory.bytes_mut() {
                Some(memory) => self.array.read(extent, memory),
                None => return Err(Fault::Final(DeviceError::Rejected)),
            },
            (Operation::Write(durability), Some(memory)) => {
                self.array.write(extent, memory.bytes(), durability)
            }
            (Operation::Flush, None) => self.array.flush(),
            // Discard and write zeroes: the limits say that there are none.
            _ => return Err(Fault::Final(DeviceError::Unsupported)),
        };
        result.map(|()| bytes).map_err(|error| answer(&error))
    }
}

/// The array itself has answered with an error: no other port would do better.
fn answer(error: &io::Error) -> Fault {
    Fault::Final(match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::StorageFull, _) => DeviceError::NoSpace,
        (_, Some(errno)) => DeviceError::Other(errno),
        (_, None) => DeviceError::Target,
    })
}
