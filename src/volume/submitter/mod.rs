//! A lane of one's own to a served queue.

mod door;
#[cfg(all(test, loom))]
mod loom_models;

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::yield_now;

use crate::block::{Geometry, Limits, LiveGeometry};
use crate::buffer::Buffer;
use crate::error::{Error, Fate};
use crate::io::{Completion, Cookie, Memory, Rejected, Request};
#[cfg(feature = "fuse")]
use crate::reactor::Waker;
use crate::ring::lane::{Receiver, Sender, lane};
use crate::time::Tick;

use super::bell::{Bed, Bell};
use super::dispatcher::Served;
use super::dispatcher::door::{Asked, Descriptor};
use super::pulse::{Pause, Pulse};
use door::{Answer, Ending, LaneDoor};

/// Most requests at once on a lane.
const MAX_DEPTH: u32 = 65_536;

/// A lock-free lane to a queue that a [`Dispatcher`](crate::Dispatcher) serves, with the verbs of
/// [`Queue`](crate::Queue): it is polled for completions, by the thread that owns it.
///
/// `Send` and not `Sync`. A request is on its way as soon as it was submitted. Every accepted request has exactly one
/// completion, also when the volume is closed or the dispatcher ends. Nothing is allocated for a request that succeeds.
///
/// # When it is dropped
/// Requests that are under way run on; their completions are lost, their buffers go back to their pools.
pub struct Submitter {
    depth: u32,
    geometry: LiveGeometry,
    limits: Limits,
    requests: Sender<Descriptor>,
    answers: Receiver<Answer>,
    /// The dispatcher's.
    bell: Arc<Bell>,
    bed: Bed,
    pulse: Pulse,
    slots: Vec<Slot>,
    free: Vec<u32>,
    released: VecDeque<(Cookie, Buffer)>,
    wakes: Wakes,
}

/// What is known of a request that was sent.
#[derive(Clone, Copy, Debug)]
struct Slot {
    cookie: Cookie,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// Sent, with or without memory.
    Out {
        has_memory: bool,
    },
    /// Completed; its memory is still to come.
    Quarantined,
}

/// Whether somebody sleeps on the descriptor between two polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wakes {
    NotUsed,
    Used,
    /// Used, and the bell is armed.
    Armed,
}

impl Submitter {
    /// A submitter, and its door for the dispatcher.
    pub(super) fn open(depth: u32, served: &Served) -> Result<(Self, LaneDoor), Error> {
        if !(1..=MAX_DEPTH).contains(&depth) {
            return Err(Error::setting("depth", format!("{depth} is not between 1 and {MAX_DEPTH}")));
        }
        Self::with(depth, (served.live_geometry(), served.limits()), Arc::clone(served.bell()))
    }

    fn with(depth: u32, shape: (LiveGeometry, Limits), bell: Arc<Bell>) -> Result<(Self, LaneDoor), Error> {
        // For each request a cancel, and as much again that was taken out and not told of.
        let (requests, inbox) = lane(depth * 4);
        // One for the end of each and, of those that are quarantined then, another for the memory.
        let (outbox, answers) = lane(depth * 4);
        let bed = Bed::new()?;
        let door = LaneDoor::new(depth, inbox, outbox, Arc::clone(bed.bell()));
        let submitter = Self {
            depth,
            geometry: shape.0,
            limits: shape.1,
            requests,
            answers,
            bell,
            bed,
            pulse: Pulse::default(),
            slots: vec![Slot { cookie: Cookie(0), state: State::Free }; depth as usize],
            free: (0..depth).rev().collect(),
            released: VecDeque::with_capacity(depth as usize),
            wakes: Wakes::NotUsed,
        };
        Ok((submitter, door))
    }

    /// Block size and capacity, which [`Volume::grow`](crate::Volume::grow) may change.
    pub fn geometry(&self) -> Geometry {
        self.geometry.get()
    }

    #[cfg(feature = "fuse")]
    pub(crate) fn live_geometry(&self) -> LiveGeometry {
        self.geometry.clone()
    }

    /// What one request may ask for.
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Sends a request to the queue.
    ///
    /// # Errors
    /// The request comes back with the reason: malformed, out of range, beyond the limits, no room
    /// ([`Error::QueueFull`]) or closed.
    #[allow(clippy::result_large_err, reason = "what could not be taken is given back")]
    pub fn submit(&mut self, request: Request) -> Result<(), Rejected> {
        if let Err(error) = request.check(self.geometry.get(), &self.limits) {
            return Err(Rejected { request, error });
        }
        if self.requests.is_abandoned() {
            return Err(Rejected { request, error: Error::Closed { fate: Fate::NotSent } });
        }
        let Some(number) = self.free.pop() else {
            return Err(Rejected { request, error: Error::QueueFull { depth: self.depth } });
        };
        let slot =
            Slot { cookie: request.cookie, state: State::Out { has_memory: request.buffer.is_some() } };
        if let Err(back) = self.requests.push(Descriptor::request(request, number)) {
            // A lane full of cancels that the dispatcher has yet to take.
            self.free.push(number);
            return Err(self.give_back(back, slot.cookie));
        }
        self.slots[number as usize] = slot;
        self.bell.ring();
        Ok(())
    }

    fn give_back(&self, back: Descriptor, cookie: Cookie) -> Rejected {
        let error = Error::QueueFull { depth: self.depth };
        match back.into_asked() {
            Asked::Request(request) => Rejected { request: Request { cookie, ..request }, error },
            Asked::Cancel(_) => Rejected { request: Request::flush(cookie), error },
        }
    }

    /// Appends what has ended to `completions`. Never blocks.
    pub fn poll(&mut self, completions: &mut Vec<Completion>) {
        if self.wakes == Wakes::Armed {
            self.wakes = Wakes::Used;
            self.bed.disarm();
        }
        self.take_answers(completions);
        if self.wakes == Wakes::Used {
            self.wakes = Wakes::Armed;
            self.bed.arm();
            // What came before the bell was armed.
            self.take_answers(completions);
        }
    }

    fn take_answers(&mut self, completions: &mut Vec<Completion>) {
        // Looked at first: what was sent before the other end went is in the lane then.
        let is_over = self.requests.is_abandoned();
        while let Some(answer) = self.answers.pop() {
            self.settle(answer, completions);
        }
        if is_over && self.free.len() < self.slots.len() {
            self.fail_rest(completions);
        }
    }

    fn settle(&mut self, answer: Answer, completions: &mut Vec<Completion>) {
        let Answer { number, ending } = answer;
        let Some(slot) = self.slots.get_mut(number as usize) else { return };
        let cookie = slot.cookie;
        let is_over = match ending {
            Ending::Completed(result, memory) => {
                let is_over = !matches!(memory, Memory::Quarantined);
                completions.push(Completion::new(cookie, result.map_err(|error| *error), memory));
                is_over
            }
            Ending::Released(buffer) => {
                self.released.push_back((cookie, buffer));
                true
            }
        };
        if is_over {
            slot.state = State::Free;
            self.free.push(number);
        } else {
            slot.state = State::Quarantined;
        }
    }

    /// The dispatcher is gone, or the queue has ended: what it never took was not sent; what it took and did not answer,
    /// which only a defect of this crate can bring about, may have been.
    #[cold]
    fn fail_rest(&mut self, completions: &mut Vec<Completion>) {
        while let Some(descriptor) = self.requests.reclaim() {
            let Asked::Request(request) = descriptor.into_asked() else { continue };
            #[allow(clippy::cast_possible_truncation, reason = "it is a slot's number")]
            let number = request.cookie.0 as u32;
            let memory = request.buffer.map_or(Memory::None, Memory::Returned);
            let result = Err(Box::new(Error::Closed { fate: Fate::NotSent }));
            self.settle(Answer { number, ending: Ending::Completed(result, memory) }, completions);
        }
        for (number, slot) in (0..).zip(&mut self.slots) {
            let State::Out { has_memory } = slot.state else { continue };
            let memory = if has_memory { Memory::Quarantined } else { Memory::None };
            completions.push(Completion::new(
                slot.cookie,
                Err(Error::Closed { fate: Fate::Unknown }),
                memory,
            ));
            slot.state = State::Quarantined;
            if !has_memory {
                slot.state = State::Free;
                self.free.push(number);
            }
        }
    }

    /// Polls, and, as long as nothing has ended, waits until something does or `until` is reached (`None`: for as long as
    /// it takes). One that [is finished](Self::is_finished) does not wait: nothing is left to happen.
    pub fn wait(&mut self, until: Option<Tick>, completions: &mut Vec<Completion>) {
        let before = (completions.len(), self.released.len());
        loop {
            self.poll(completions);
            let now = Tick::now();
            if before != (completions.len(), self.released.len()) {
                return self.pulse.busy(now);
            }
            if self.is_finished() || until.is_some_and(|until| until <= now) {
                return;
            }
            match self.pulse.idle(now) {
                Pause::Look => std::hint::spin_loop(),
                Pause::Yield => yield_now(),
                Pause::Sleep => self.sleep(until),
            }
        }
    }

    fn sleep(&mut self, until: Option<Tick>) {
        self.bed.arm();
        if self.answers.is_empty() && !self.requests.is_abandoned() {
            self.bed.sleep(until);
        }
        self.bed.disarm();
        if self.wakes == Wakes::Armed {
            self.wakes = Wakes::Used;
        }
    }

    /// A buffer whose completion said [`Memory::Quarantined`], now that no path can touch it any more, with the
    /// request's cookie.
    pub fn poll_released(&mut self) -> Option<(Cookie, Buffer)> {
        self.released.pop_front()
    }

    /// Asks for the end of the requests with this cookie, as [`Queue::cancel`](crate::Queue::cancel) does; their
    /// completions come with a later [`poll`](Self::poll). The number of requests that it was asked for.
    pub fn cancel(&mut self, cookie: Cookie) -> usize {
        let mut asked = 0;
        for (number, slot) in (0..).zip(&self.slots) {
            let is_out = matches!(slot.state, State::Out { .. });
            if is_out && slot.cookie == cookie && self.requests.push(Descriptor::cancel(number)).is_ok() {
                asked += 1;
            }
        }
        if asked > 0 {
            self.bell.ring();
        }
        asked
    }

    /// Requests that have not been completed, and completed ones whose buffer is still quarantined.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the volume was closed, or the dispatcher has ended, and everything of this lane has.
    pub fn is_finished(&self) -> bool {
        self.requests.is_abandoned()
            && self.slots.iter().all(|slot| !matches!(slot.state, State::Out { .. }))
            && self.answers.is_empty()
    }

    /// Ends a sleep on the descriptor, from another thread.
    #[cfg(feature = "fuse")]
    pub(crate) fn waker(&self) -> Waker {
        self.bed.waker()
    }

    /// A file descriptor that is readable when [`poll`](Self::poll) has something to do, for a daemon's own `poll` or
    /// `epoll`. It stays the same.
    pub fn wake_fd(&mut self) -> BorrowedFd<'_> {
        self.keep_armed();
        self.bed.as_fd()
    }

    /// From now on the bell is armed between two polls.
    fn keep_armed(&mut self) {
        if self.wakes == Wakes::NotUsed {
            // Whoever polled before this did not arm the bell: the first sleep is to end at once.
            self.wakes = Wakes::Armed;
            self.bed.arm();
            if !self.answers.is_empty() || self.requests.is_abandoned() {
                self.bed.bell().ring();
            }
        }
    }
}

impl Drop for Submitter {
    fn drop(&mut self) {
        while self.answers.pop().is_some() {}
        // The dispatcher looks whether this end is gone: it has to be, before the bell is rung.
        let (nowhere, _) = lane(1);
        drop(std::mem::replace(&mut self.requests, nowhere));
        self.bell.ring();
    }
}

impl std::fmt::Debug for Submitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Submitter")
            .field("depth", &self.depth)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
