//! The dispatcher's end of a client.

use std::sync::Arc;

use crate::buffer::Buffer;
use crate::error::{Error, Fate};
use crate::io::{Cookie, Memory};
use crate::volume::dispatcher::door::{Asked, Door};

use super::desk::Desk;
use super::op::{Home, Op, Waiter};

/// Lets at most so many requests in at once as it has places.
pub(in crate::volume) struct ClientDoor {
    desk: Arc<Desk>,
    places: Vec<Place>,
    free: Vec<u32>,
    /// Who is to be woken with the next call of `notify`.
    stirred: Vec<Waiter>,
}

/// A request that the queue has.
struct Place {
    /// `None` once it ended, and if there is none.
    op: Option<Arc<Op>>,
    memory: Option<Home>,
}

impl ClientDoor {
    pub(super) fn new(desk: Arc<Desk>, depth: u32) -> Self {
        Self {
            desk,
            places: (0..depth).map(|_| Place { op: None, memory: None }).collect(),
            free: (0..depth).rev().collect(),
            stirred: Vec::with_capacity(depth as usize),
        }
    }
}

impl Door for ClientDoor {
    fn next(&mut self) -> Option<Asked> {
        let number = *self.free.last()?;
        loop {
            let op = self.desk.intake.pop()?;
            // Else it was withdrawn.
            if let Some((mut request, home)) = op.take() {
                self.free.pop();
                let memory = request.buffer.is_some().then_some(home);
                self.places[number as usize] = Place { op: Some(op), memory };
                request.cookie = Cookie(number.into());
                return Some(Asked::Request(request));
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.free.is_empty() || self.desk.intake.is_empty()
    }

    fn is_left(&self) -> bool {
        // In this order: after the last client nothing comes.
        self.desk.ends.are_clients_gone() && self.desk.intake.is_empty()
    }

    fn end(&mut self, number: u32, result: Result<(), Error>, memory: Memory) {
        let place = &mut self.places[number as usize];
        if !matches!(memory, Memory::Quarantined) {
            self.free.push(number);
        }
        if let Some(op) = place.op.take() {
            self.stirred.extend(op.end(result, memory));
        }
    }

    fn release(&mut self, number: u32, buffer: Buffer) {
        self.free.push(number);
        match self.places[number as usize].memory {
            Some(Home::Pieces) => self.stirred.extend(self.desk.pieces.give(buffer)),
            Some(Home::Caller) | None => drop(buffer),
        }
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
        self.desk.refuse_rest();
        // What the queue took and did not answer, which only a defect of this crate can bring about.
        for place in &mut self.places {
            if let Some(op) = place.op.take() {
                let memory = if place.memory.is_some() { Memory::Quarantined } else { Memory::None };
                self.stirred.extend(op.end(Err(Error::Closed { fate: Fate::Unknown }), memory));
            }
        }
        self.notify();
    }
}
