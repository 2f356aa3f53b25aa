//! What a client's handles, its responses and its door share.

use std::sync::Arc;
use std::thread::{current, park, park_timeout, yield_now};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use crate::block::{Limits, LiveGeometry};
use crate::buffer::Buffer;
use crate::error::{Error, Fate};
use crate::io::{Memory, Request};
use crate::sync::{AtomicU64, Ordering};
use crate::time::Tick;
use crate::volume::bell::Bell;
use crate::volume::pulse::{Pause, Pulse};

use super::ends::Ends;
use super::intake::Intake;
use super::op::{End, Home, Op, Parting, Waiter};
use super::pieces::{Pieces, Turn};

pub(super) struct Desk {
    pub(super) geometry: LiveGeometry,
    pub(super) limits: Limits,
    pub(super) ends: Ends,
    pub(super) intake: Intake<Waiting>,
    pub(super) pieces: CachePadded<Pieces>,
    /// Ops that are not in use.
    spare: ArrayQueue<Arc<Op>>,
    /// How long threads waited of late, in nanoseconds. Any of them writes it, none relies on it; publishes nothing.
    usual_wait: CachePadded<AtomicU64>,
    /// The dispatcher's.
    bell: Arc<Bell>,
}

/// A request that waits to be taken.
pub(super) struct Waiting {
    pub(super) op: Arc<Op>,
    /// `Tick::MAX` for none.
    pub(super) deadline: Tick,
}

impl Waiting {
    /// Ends it, unless it was withdrawn, with an error that says that it was never sent. Who is to be woken.
    pub(super) fn refuse(&self, error: Error) -> Option<Waiter> {
        let (request, _) = self.op.take()?;
        let memory = request.buffer.map_or(Memory::None, Memory::Returned);
        self.op.end(Err(error), memory)
    }
}

impl Desk {
    /// For `depth` requests at once, and as many that wait before they line up beside the lane.
    pub(super) fn new(shape: (LiveGeometry, Limits), depth: u32, pieces: Pieces, bell: Arc<Bell>) -> Self {
        let (geometry, limits) = shape;
        let room = depth.max(64) as usize * 2;
        Self {
            geometry,
            limits,
            ends: Ends::new(),
            intake: Intake::new(room),
            pieces: CachePadded::new(pieces),
            spare: ArrayQueue::new(room),
            usual_wait: CachePadded::new(AtomicU64::new(0)),
            bell,
        }
    }

    /// An op that nobody else has.
    pub(super) fn op(&self) -> Arc<Op> {
        self.spare.pop().unwrap_or_else(|| Arc::new(Op::new()))
    }

    /// Takes an op back that nobody else has.
    pub(super) fn put_back(&self, op: Arc<Op>) {
        // One more than there is room for is dropped.
        let _ = self.spare.push(op);
    }

    /// The owner of an op goes, whatever has become of it.
    pub(super) fn abandon(&self, op: Arc<Op>) {
        if op.leave() == Parting::Over {
            self.put_back(op);
        }
    }

    /// Sends a request on its way, with its op.
    pub(super) fn send(&self, op: &Arc<Op>, request: Request, home: Home) {
        let deadline = request.deadline.unwrap_or(Tick::MAX);
        op.queue(request, home);
        self.intake.push(Waiting { op: Arc::clone(op), deadline });
        // A fence too, which orders the lane against what is asked next.
        self.bell.ring();
        if self.ends.is_shut() {
            self.refuse_rest();
        }
    }

    /// Ends what is on the lane: the door is gone.
    #[cold]
    pub(super) fn refuse_rest(&self) {
        while let Some(waiting) = self.intake.pop() {
            if let Some(waiter) = waiting.refuse(Error::Closed { fate: Fate::NotSent }) {
                waiter.wake();
            }
        }
    }

    /// The last client goes.
    pub(super) fn leave(&self) {
        self.ends.leave();
        self.bell.ring();
    }

    /// Has the calling thread wait for the end of a request that was sent with this op, and puts the op back.
    pub(super) fn wait_for_end(&self, op: Arc<Op>) -> End {
        loop {
            self.wait(&op, None);
            if let Some(end) = op.collect() {
                self.put_back(op);
                return end;
            }
        }
    }

    /// A buffer of the client's own, in turn: the calling thread waits for it, with this op, which is of no use to others
    /// if that fails.
    pub(super) fn piece(&self, op: &Arc<Op>, deadline: Option<Tick>) -> Result<Buffer, Error> {
        if let Turn::Given(buffer) = self.pieces.take(op)? {
            return Ok(buffer);
        }
        loop {
            if !self.wait(op, deadline) {
                let late = Error::DeadlineExceeded { fate: Fate::NotSent };
                return self.pieces.leave(op).ok_or(late);
            }
            if let Some(buffer) = op.take_given() {
                return Ok(buffer);
            }
            if let Some((result, _)) = op.collect() {
                result?;
            }
        }
    }

    /// Has the calling thread wait until the op has something for it; `false` if `until` came first.
    pub(super) fn wait(&self, op: &Op, until: Option<Tick>) -> bool {
        if op.is_ready() {
            return true;
        }
        let mut pulse = Pulse::expecting(self.usual_wait.load(Ordering::Relaxed));
        while !op.is_ready() {
            let now = Tick::now();
            if until.is_some_and(|until| until <= now) {
                return false;
            }
            match pulse.idle(now) {
                Pause::Look => std::hint::spin_loop(),
                Pause::Yield => yield_now(),
                // Others may unpark this thread too, for reasons of their own: it looks again.
                Pause::Sleep if op.enlist(current()) => match until {
                    Some(until) => park_timeout(until.since(now)),
                    None => park(),
                },
                Pause::Sleep => {}
            }
        }
        pulse.busy(Tick::now());
        self.usual_wait.store(pulse.expected(), Ordering::Relaxed);
        true
    }
}
