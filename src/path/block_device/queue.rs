//! The data half: attempts to the ring or to threads, results back.

#![allow(unsafe_code)]

use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::calls::{Call, Memory};
use super::connection::Connection;
use super::slab::Slab;
use super::sys::Bytes;
use super::workers::{End, Finished, Job, Reply, Workers};
use crate::error::Error;
use crate::io::{Durability, Operation};
use crate::path::{AccessState, Attempt, AttemptId, Attempts, Fault, OpenQueue, Outcomes, PathQueue};
use crate::reactor::{NoRoom, Port, Reactor, ReactorEvent, Registered, Span, Waker};
use crate::time::Tick;

/// The threads of a path, shared by its data halves.
#[derive(Clone, Debug)]
pub(super) struct Threads {
    /// One, for calls that no ring does.
    pub(super) helper: Arc<Workers>,
    /// Some, for reads and writes where there is no ring.
    pub(super) transfer: Arc<Workers>,
}

impl Threads {
    /// For `depth` attempts at once.
    pub(super) fn new(depth: u32) -> Self {
        Self {
            helper: Arc::new(Workers::new("mpio-helper", 1, depth)),
            transfer: Arc::new(Workers::new("mpio-transfer", 8, depth)),
        }
    }
}

/// The data half on its way to the queue's thread.
pub(super) struct Opening {
    pub(super) connection: Arc<Connection>,
    pub(super) threads: Threads,
    pub(super) depth: u32,
}

impl OpenQueue for Opening {
    fn open(self: Box<Self>, reactor: &mut Reactor, port: Port) -> Result<Box<dyn PathQueue>, Error> {
        let route = if let Some(file) = reactor.register(port, Arc::clone(&self.connection.file)) {
            Route::Ring(file)
        } else {
            self.threads.transfer.start()?;
            Route::Threads(self.threads.transfer)
        };
        let (sender, results) = bounded(self.depth as usize);
        Ok(Box::new(Queue {
            route,
            slab: Slab::new(self.depth),
            results,
            sender,
            waker: reactor.waker(port),
            connection: self.connection,
            helper: self.threads.helper,
        }))
    }
}

/// How reads and writes go.
enum Route {
    Ring(Registered),
    Threads(Arc<Workers>),
}

/// An attempt, and when it was sent.
struct Sent {
    attempt: Attempt,
    at: Tick,
}

/// Attempts of one queue on one connection.
///
/// It holds each attempt, and with it the lease of its memory, from the moment when the kernel or a thread gets the
/// address until the result has come. Dropped before that it loses the leases: their memory is never used again.
struct Queue {
    connection: Arc<Connection>,
    route: Route,
    helper: Arc<Workers>,
    slab: Slab<Sent>,
    /// From threads. Has room for every attempt that can be out.
    results: Receiver<Finished>,
    sender: Sender<Finished>,
    waker: Waker,
}

impl PathQueue for Queue {
    fn submit(&mut self, reactor: &mut Reactor, now: Tick, attempts: &mut Attempts<'_>) -> Option<Tick> {
        while let Some(mut attempt) = attempts.next() {
            let started = match self.slab.vacancy() {
                Some(token) => self.start(reactor, token, &mut attempt),
                None => Err(NoRoom),
            };
            if started.is_err() {
                attempts.put_back(attempt);
                break;
            }
            self.slab.insert(Sent { attempt, at: now });
        }
        None
    }

    fn event(&mut self, _reactor: &mut Reactor, event: ReactorEvent, outcomes: &mut Outcomes<'_>) {
        if let Route::Ring(file) = &self.route
            && file.owns(&event)
        {
            self.finish(event.token, event.result, outcomes);
        }
    }

    fn poll(&mut self, _reactor: &mut Reactor, _now: Tick, outcomes: &mut Outcomes<'_>) -> Option<Tick> {
        while let Ok(Finished { token, end }) = self.results.try_recv() {
            match end {
                End::Result(result) => self.finish(token, result, outcomes),
                End::Judged(state) => self.judged(token, state, outcomes),
            }
        }
        None
    }

    fn cancel(&mut self, reactor: &mut Reactor, attempt: AttemptId) {
        let Route::Ring(file) = &self.route else { return };
        if let Some(token) =
            self.slab.find(|one| one.attempt.id() == attempt && one.attempt.operation().has_data())
        {
            reactor.cancel(file, token);
        }
    }
}

impl Queue {
    /// Sends an attempt. If that succeeds the caller must put it into the slab, under `token`.
    fn start(&self, reactor: &mut Reactor, token: u32, attempt: &mut Attempt) -> Result<(), NoRoom> {
        let bytes = self.bytes(attempt);
        match (attempt.operation(), span(attempt)) {
            (Operation::Read, Some(memory)) => self.read(reactor, token, memory, bytes.offset),
            (Operation::Write(durability), Some(memory)) => {
                self.write(reactor, token, memory, bytes.offset, durability)
            }
            (Operation::Flush, None) => self.call(&self.helper, token, Call::Flush),
            (Operation::Discard, None) => self.call(&self.helper, token, Call::Discard(bytes)),
            (Operation::WriteZeroes(unmap), None) => {
                self.call(&self.helper, token, Call::WriteZeroes(bytes, unmap))
            }
            // What this path does not know, or an attempt that lacks its memory.
            _ => {
                self.reply(token).send(End::Result(-libc::EINVAL));
                Ok(())
            }
        }
    }

    fn read(&self, reactor: &mut Reactor, token: u32, memory: Span, offset: u64) -> Result<(), NoRoom> {
        match &self.route {
            // SAFETY: the lease of `memory`, the only one of a sink, is in the slab from here until the event is
            // handled in `finish`; if this is dropped before, it is lost and the memory is never used again.
            Route::Ring(file) => unsafe { reactor.read(file, token, memory, offset) },
            Route::Threads(workers) => {
                // SAFETY: as above, with the thread's result for the event.
                let memory = unsafe { Memory::new(memory) };
                self.call(workers, token, Call::Read(memory, offset))
            }
        }
    }

    fn write(
        &self,
        reactor: &mut Reactor,
        token: u32,
        memory: Span,
        offset: u64,
        durability: Durability,
    ) -> Result<(), NoRoom> {
        match &self.route {
            // SAFETY: as in `read`; under leases of a source nobody writes.
            Route::Ring(file) => unsafe { reactor.write(file, token, memory, offset, durability) },
            Route::Threads(workers) => {
                // SAFETY: as above, with the thread's result for the event.
                let memory = unsafe { Memory::new(memory) };
                self.call(workers, token, Call::Write(memory, offset, durability))
            }
        }
    }

    fn call(&self, workers: &Workers, token: u32, call: Call) -> Result<(), NoRoom> {
        let job = Job { call, connection: Arc::clone(&self.connection), reply: self.reply(token) };
        workers.submit(job)
    }

    fn reply(&self, token: u32) -> Reply {
        Reply { token, results: self.sender.clone(), waker: self.waker.clone() }
    }

    fn bytes(&self, attempt: &Attempt) -> Bytes {
        let (extent, block) = (attempt.extent(), u64::from(self.connection.block_size));
        Bytes {
            offset: extent.start().get().saturating_mul(block),
            len: u64::from(extent.blocks().get()) * block,
        }
    }

    fn finish(&mut self, token: u32, result: i32, outcomes: &mut Outcomes<'_>) {
        let Some(sent) = self.slab.remove(token) else { return };
        let result = match u32::try_from(result) {
            Ok(bytes) => Ok(bytes),
            Err(_) => Err(self.fault(&sent.attempt, result.wrapping_neg())),
        };
        if result == Err(self.connection.nature.unanswered(libc::EIO))
            && result.is_err_and(Fault::may_land)
            && sent.attempt.operation().is_write()
            && self.connection.has_access_states
        {
            return self.judge(sent, outcomes);
        }
        outcomes.complete(sent.attempt, result);
    }

    /// Has the helper ask the array whether it has refused a write: it may have done so before the kernel has heard of its new access
    /// state.
    #[cold]
    fn judge(&mut self, sent: Sent, outcomes: &mut Outcomes<'_>) {
        let unknown = Err(self.connection.nature.unanswered(libc::EIO));
        let is_young = Tick::now().since(sent.at) < self.connection.refused_at_once;
        let Some(token) = self.slab.vacancy().filter(|_| is_young) else {
            return outcomes.complete(sent.attempt, unknown);
        };
        self.slab.insert(sent);
        if self.call(&self.helper, token, Call::Judge).is_err()
            && let Some(sent) = self.slab.remove(token)
        {
            outcomes.complete(sent.attempt, unknown);
        }
    }

    fn judged(&mut self, token: u32, state: Option<AccessState>, outcomes: &mut Outcomes<'_>) {
        let Some(sent) = self.slab.remove(token) else { return };
        let fault = state.map_or(self.connection.nature.unanswered(libc::EIO), Fault::Refused);
        outcomes.complete(sent.attempt, Err(fault));
    }

    /// What a failure means. What reads as the device's own answer is said by the kernel too, of a device that was removed or has
    /// shrunk (`ENOSPC` by `blkdev_write_iter`, `EINVAL` by `blkdev_issue_discard`), and `EIO` of one to which it sends nothing for
    /// its access state: device and state are looked at before it is believed.
    fn fault(&self, attempt: &Attempt, errno: i32) -> Fault {
        let (operation, nature) = (attempt.operation(), self.connection.nature);
        let fault = match operation {
            Operation::Flush => nature.flush_fault(errno),
            _ => nature.fault(operation, errno),
        };
        match (fault, errno) {
            (Fault::Final(_), libc::ENOSPC | libc::EINVAL) if self.connection.lacks(self.bytes(attempt)) => {
                nature.unanswered(errno)
            }
            (Fault::Unknown { .. }, libc::EIO) => match self.connection.place.refusal() {
                Some(state) => Fault::Refused(state),
                None => fault,
            },
            _ => fault,
        }
    }
}

/// The memory of an attempt: for a read only if it may be filled.
fn span(attempt: &mut Attempt) -> Option<Span> {
    let operation = attempt.operation();
    let lease = attempt.memory_mut()?;
    if operation == Operation::Read {
        lease.bytes_mut()?;
    }
    Some(Span { start: lease.address(), len: u32::try_from(lease.len()).ok()? })
}
