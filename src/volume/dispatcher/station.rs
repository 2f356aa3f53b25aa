//! A queue that a dispatcher serves, with the doors through which requests come to it.

use crate::io::{Completion, Cookie, Memory};
use crate::reactor::Waker;
use crate::time::Tick;
use crate::volume::queue::Queue;

use super::door::{Asked, Door};

/// Most that is taken through one door before it is the next one's turn.
const QUOTA: usize = 32;

pub(super) struct Station {
    id: u64,
    /// Dropped after the doors: they are told first.
    doors: Vec<Option<Attended>>,
    queue: Queue,
    /// The door whose turn it is.
    next: usize,
    /// Whether there may be further doors.
    tenancy: Tenancy,
}

struct Attended {
    door: Box<dyn Door>,
    /// Requests that were taken through it and are not over, memory included.
    outstanding: u32,
    /// Whether something was handed out since it was last notified.
    is_stirred: bool,
}

impl Attended {
    /// Whether nobody wants anything of it any more.
    fn can_close(&self) -> bool {
        self.outstanding == 0 && self.door.is_left()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tenancy {
    Held,
    Left,
}

/// What a turn came to.
pub(super) struct Turn {
    /// Whether anything was done.
    pub(super) busy: bool,
    /// When the next turn is due at the latest.
    pub(super) due: Option<Tick>,
}

impl Station {
    pub(super) fn new(id: u64, queue: Queue) -> Self {
        Self { id, doors: Vec::new(), queue, next: 0, tenancy: Tenancy::Held }
    }

    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn bell(&self) -> Option<Waker> {
        self.queue.bell()
    }

    pub(super) fn queue(&mut self) -> &mut Queue {
        &mut self.queue
    }

    pub(super) fn open(&mut self, door: Box<dyn Door>) {
        let attended = Attended { door, outstanding: 0, is_stirred: false };
        match self.doors.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(attended),
            None => self.doors.push(Some(attended)),
        }
    }

    /// No further doors will be opened.
    pub(super) fn leave(&mut self) {
        self.tenancy = Tenancy::Left;
    }

    /// Takes requests in, turns the queue, hands answers out. `completions` is room to work in.
    pub(super) fn turn(&mut self, now: Tick, completions: &mut Vec<Completion>) -> Turn {
        let mut took = self.take_in(completions);
        if self.queue.is_full() {
            took |= self.take_cancels(completions);
            self.close_left();
        }
        let due = self.queue.poll(now, completions);
        let mut busy = took || !completions.is_empty();
        for completion in completions.drain(..) {
            self.end(completion);
        }
        while let Some((cookie, buffer)) = self.queue.poll_released() {
            busy = true;
            self.release(cookie, buffer);
        }
        let due = [due, self.expire(now)].into_iter().flatten().min();
        self.notify();
        if self.queue.is_finished() {
            // Each refuses what is left before it, and what still comes.
            self.doors.clear();
        }
        Turn { busy: busy || due.is_some_and(|due| due <= now), due }
    }

    /// A share from each door, one after the other, as long as the queue has room.
    fn take_in(&mut self, completions: &mut Vec<Completion>) -> bool {
        let mut took = false;
        if self.queue.is_full() {
            return took;
        }
        while let Some(None) = self.doors.last() {
            self.doors.pop();
        }
        let doors = self.doors.len();
        for step in 0..doors {
            let index = (self.next + step) % doors;
            for taken in 0..QUOTA {
                if self.queue.is_full() {
                    // Of one that was not asked it is still the turn.
                    self.next = if taken == 0 { index } else { (index + 1) % doors };
                    return took;
                }
                if !self.take_one(index, completions) {
                    break;
                }
                took = true;
            }
        }
        self.next = (self.next + 1) % doors.max(1);
        took
    }

    fn take_one(&mut self, index: usize, completions: &mut Vec<Completion>) -> bool {
        let Some(attended) = &mut self.doors[index] else { return false };
        match attended.door.next() {
            Some(Asked::Request(mut request)) => {
                attended.outstanding += 1;
                request.cookie = cookie(index, request.cookie);
                if let Err(rejected) = self.queue.submit(request) {
                    let (request, error) = (rejected.request, rejected.error);
                    let memory = request.buffer.map_or(Memory::None, Memory::Returned);
                    self.end(Completion::new(request.cookie, Err(error), memory));
                }
                true
            }
            Some(Asked::Cancel(number)) => {
                self.queue.cancel(cookie(index, Cookie(number.into())), completions);
                true
            }
            None => {
                if attended.can_close() {
                    self.doors[index] = None;
                }
                false
            }
        }
    }

    /// The queue is full: takes in what needs no room and may make some.
    #[cold]
    fn take_cancels(&mut self, completions: &mut Vec<Completion>) -> bool {
        let mut took = false;
        for (index, attended) in self.doors.iter_mut().enumerate() {
            let Some(attended) = attended.as_mut().filter(|attended| attended.door.is_unread()) else {
                continue;
            };
            // It may answer some by itself.
            attended.is_stirred = true;
            for _ in 0..QUOTA {
                let Some(number) = attended.door.next_cancel() else { break };
                self.queue.cancel(cookie(index, Cookie(number.into())), completions);
                took = true;
            }
        }
        took
    }

    /// Closes the doors that were left.
    fn close_left(&mut self) {
        for door in &mut self.doors {
            if door.as_ref().is_some_and(Attended::can_close) {
                *door = None;
            }
        }
    }

    fn end(&mut self, completion: Completion) {
        let Completion { cookie, result, memory } = completion;
        let (index, number) = place(cookie);
        let Some(Some(attended)) = self.doors.get_mut(index) else { return };
        if !matches!(memory, Memory::Quarantined) {
            attended.outstanding -= 1;
        }
        attended.is_stirred = true;
        attended.door.end(number, result, memory);
    }

    fn release(&mut self, cookie: Cookie, buffer: crate::buffer::Buffer) {
        let (index, number) = place(cookie);
        let Some(Some(attended)) = self.doors.get_mut(index) else { return };
        attended.outstanding -= 1;
        attended.is_stirred = true;
        attended.door.release(number, buffer);
    }

    /// Ends what waits before the doors for too long. When the next of it is due.
    fn expire(&mut self, now: Tick) -> Option<Tick> {
        self.doors.iter_mut().flatten().filter_map(|attended| attended.door.expire(now)).min()
    }

    fn notify(&mut self) {
        for attended in self.doors.iter_mut().flatten() {
            if std::mem::take(&mut attended.is_stirred) {
                attended.door.notify();
            }
        }
    }

    /// Whether a door has something that could be taken, or is to be closed. To be asked after the bell was armed.
    pub(super) fn has_news(&self) -> bool {
        let is_full = self.queue.is_full();
        self.doors.iter().flatten().any(|attended| {
            let waits = !attended.door.is_empty();
            (waits && !is_full) || attended.door.is_unread() || (!waits && attended.can_close())
        })
    }

    /// Whether nothing is left to serve.
    pub(super) fn is_over(&self) -> bool {
        let deserted = self.tenancy == Tenancy::Left && self.doors.iter().all(Option::is_none);
        self.queue.is_finished() || (deserted && self.queue.is_empty())
    }
}

/// A request's cookie at the queue: the door and the request's number there.
fn cookie(door: usize, number: Cookie) -> Cookie {
    Cookie((door as u64) << 32 | number.0)
}

#[allow(clippy::cast_possible_truncation, reason = "two halves of one word, put together by `cookie`")]
const fn place(cookie: Cookie) -> (usize, u32) {
    ((cookie.0 >> 32) as usize, cookie.0 as u32)
}
