//! The dispatcher's end of a client.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::buffer::Buffer;
use crate::error::{Error, Fate};
use crate::io::{Cookie, Memory};
use crate::time::Tick;
use crate::volume::dispatcher::door::{Asked, Door};

use super::desk::{Desk, Waiting};
use super::op::{Home, Op, Waiter};

/// Most that is taken from the lane at a time to learn its deadlines, or passed over: further ones may come faster than one
/// can look.
const BATCH: usize = 1024;

/// Lets at most so many requests in at once as it has places.
pub(in crate::volume) struct ClientDoor {
    desk: Arc<Desk>,
    /// What was taken from the lane for its deadline to be known, and waits for a place.
    waiting: VecDeque<Waiting>,
    /// At how many it is to be looked for those that were withdrawn.
    crowd: usize,
    /// Not after the first deadline among them.
    due: Tick,
    /// Most requests at once that have not ended.
    depth: u32,
    /// How many there are.
    out: u32,
    /// By number. One whose memory is quarantined keeps its number and no place: what hangs is not to keep others from
    /// being answered when the volume is closed.
    taken: Vec<Taken>,
    /// Numbers that are not in use.
    free: Vec<u32>,
    /// Who is to be woken with the next call of `notify`.
    stirred: Vec<Waiter>,
}

/// A request that the queue has.
#[derive(Default)]
struct Taken {
    /// `None` once it ended, and if there is none.
    op: Option<Arc<Op>>,
    memory: Option<Home>,
}

impl ClientDoor {
    pub(super) fn new(desk: Arc<Desk>, depth: u32) -> Self {
        Self {
            desk,
            // What is taken at a time has room: nothing is allocated for a request.
            waiting: VecDeque::with_capacity(BATCH),
            crowd: BATCH,
            due: Tick::MAX,
            depth,
            out: 0,
            taken: (0..depth).map(|_| Taken::default()).collect(),
            free: (0..depth).rev().collect(),
            stirred: Vec::with_capacity(depth as usize),
        }
    }

    /// Gives it a place, and a number.
    fn enter(&mut self, taken: Taken) -> u32 {
        self.out += 1;
        if let Some(number) = self.free.pop() {
            self.taken[number as usize] = taken;
            return number;
        }
        self.taken.push(taken);
        // The queue has no more requests than a `u32` counts.
        u32::try_from(self.taken.len() - 1).unwrap_or(u32::MAX)
    }

    /// How much was taken from the lane and waits.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    fn is_deserted(&self) -> bool {
        self.waiting.is_empty() && self.desk.intake.is_empty()
    }

    /// Forgets what was withdrawn: who gives up and asks again, and again, for as long as a path hangs, is not to fill the
    /// memory.
    #[cold]
    fn thin_out(&mut self) {
        self.waiting.retain(|waiting| !waiting.op.is_left());
        self.crowd = (self.waiting.len() * 2).max(BATCH);
    }

    #[cold]
    fn end_late(&mut self, now: Tick) {
        let (mut due, stirred) = (Tick::MAX, &mut self.stirred);
        self.waiting.retain(|waiting| {
            let is_late = waiting.deadline <= now;
            if is_late {
                stirred.extend(waiting.refuse(Error::DeadlineExceeded { fate: Fate::NotSent }));
            } else {
                due = due.min(waiting.deadline);
            }
            !is_late
        });
        self.due = due;
        self.notify();
    }
}

impl Door for ClientDoor {
    fn next(&mut self) -> Option<Asked> {
        if self.out == self.depth {
            return None;
        }
        // Others go on withdrawing: it does not look for ever.
        for _ in 0..BATCH {
            let Waiting { op, .. } = self.waiting.pop_front().or_else(|| self.desk.intake.pop())?;
            // Else its owner has gone.
            if let Some((mut request, home)) = op.take() {
                let memory = request.buffer.is_some().then_some(home);
                let number = self.enter(Taken { op: Some(op), memory });
                request.cookie = Cookie(number.into());
                return Some(Asked::Request(request));
            }
        }
        None
    }

    fn is_empty(&self) -> bool {
        self.out == self.depth || self.is_deserted()
    }

    fn is_left(&self) -> bool {
        // In this order: after the last client nothing comes.
        self.desk.ends.are_clients_gone() && self.is_deserted()
    }

    fn end(&mut self, number: u32, result: Result<(), Error>, memory: Memory) {
        if !matches!(memory, Memory::Quarantined) {
            self.free.push(number);
        }
        if let Some(op) = self.taken[number as usize].op.take() {
            self.out -= 1;
            self.stirred.extend(op.end(result, memory));
        }
    }

    fn release(&mut self, number: u32, buffer: Buffer) {
        self.free.push(number);
        match self.taken[number as usize].memory {
            Some(Home::Pieces) => self.stirred.extend(self.desk.pieces.give(buffer)),
            Some(Home::Caller) | None => drop(buffer),
        }
    }

    fn expire(&mut self, now: Tick) -> Option<Tick> {
        for _ in 0..BATCH {
            let Some(waiting) = self.desk.intake.pop() else { break };
            self.due = self.due.min(waiting.deadline);
            self.waiting.push_back(waiting);
        }
        if self.due <= now {
            self.end_late(now);
        }
        if self.waiting.len() >= self.crowd {
            self.thin_out();
        }
        (self.due < Tick::MAX).then_some(self.due)
    }

    fn is_unread(&self) -> bool {
        !self.desk.intake.is_empty()
    }

    fn notify(&mut self) {
        for waiter in self.stirred.drain(..) {
            waiter.wake();
        }
    }
}

impl Drop for ClientDoor {
    fn drop(&mut self) {
        self.desk.ends.shut();
        self.desk.pieces.close(&mut self.stirred);
        for waiting in self.waiting.drain(..) {
            self.stirred.extend(waiting.refuse(Error::Closed { fate: Fate::NotSent }));
        }
        self.desk.refuse_rest();
        // What the queue took and did not answer, which only a defect of this crate can bring about.
        for taken in &mut self.taken {
            if let Some(op) = taken.op.take() {
                let memory = if taken.memory.is_some() { Memory::Quarantined } else { Memory::None };
                self.stirred.extend(op.end(Err(Error::Closed { fate: Fate::Unknown }), memory));
            }
        }
        self.notify();
    }
}
