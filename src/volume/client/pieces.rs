//! The buffers through which calls on borrowed slices copy.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::buffer::Buffer;
use crate::error::{Error, Fate};
use crate::io::Memory;

use super::op::{Op, Waiter};

/// A fixed number of buffers, given out in the order in which they were asked for.
#[derive(Debug)]
pub(super) struct Pieces {
    line: Mutex<Line>,
    /// Most bytes in one.
    size: u32,
}

#[derive(Debug)]
struct Line {
    free: Vec<Buffer>,
    /// Only while none is free.
    waiting: VecDeque<Arc<Op>>,
    access: Access,
}

#[derive(Debug, PartialEq, Eq)]
enum Access {
    Open,
    Closed,
}

/// What becomes of a call that asks for a buffer.
pub(super) enum Turn {
    Given(Buffer),
    /// It will be given one.
    InLine,
}

impl Pieces {
    pub(super) fn new(free: Vec<Buffer>, size: u32) -> Self {
        let waiting = VecDeque::with_capacity(64);
        Self { line: Mutex::new(Line { free, waiting, access: Access::Open }), size }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) const fn size(&self) -> u32 {
        self.size
    }

    /// A buffer, if one is free: then nobody waits for it.
    pub(super) fn take_now(&self) -> Option<Buffer> {
        self.lock().free.pop()
    }

    /// A buffer, or a place in the line for one.
    ///
    /// # Errors
    /// [`Error::Closed`] if nothing will come of it.
    pub(super) fn take(&self, op: &Arc<Op>) -> Result<Turn, Error> {
        let mut line = self.lock();
        if line.access == Access::Closed {
            return Err(Error::Closed { fate: Fate::NotSent });
        }
        if let Some(buffer) = line.free.pop() {
            return Ok(Turn::Given(buffer));
        }
        op.line_up();
        line.waiting.push_back(Arc::clone(op));
        Ok(Turn::InLine)
    }

    /// Leaves the line; the buffer, if it was given one meanwhile.
    pub(super) fn leave(&self, op: &Arc<Op>) -> Option<Buffer> {
        let mut line = self.lock();
        line.waiting.retain(|waiting| !Arc::ptr_eq(waiting, op));
        op.take_given()
    }

    /// Takes a buffer back, for the next in line, who is to be woken.
    pub(super) fn give(&self, buffer: Buffer) -> Option<Waiter> {
        let mut line = self.lock();
        if let Some(next) = line.waiting.pop_front() {
            // Under the lock, so that one who leaves the line either is still in it or has the buffer.
            next.give(buffer)
        } else {
            line.free.push(buffer);
            None
        }
    }

    /// Ends the waiting, for good; those who waited are to be woken.
    pub(super) fn close(&self, stirred: &mut Vec<Waiter>) {
        let mut line = self.lock();
        line.access = Access::Closed;
        for op in line.waiting.drain(..) {
            stirred.extend(op.end(Err(Error::Closed { fate: Fate::NotSent }), Memory::None));
        }
    }
}
