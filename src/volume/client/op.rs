//! One request of a client, from where it is asked for until its end is collected.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::Thread;

use crate::buffer::Buffer;
use crate::error::Error;
use crate::io::{Memory, Request};
use crate::sync::{AtomicU32, Ordering};

/// Whose a request's buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// The caller's.
    Caller,
    /// The client's own, for calls on borrowed slices.
    Pieces,
}

/// How a request ended.
pub(super) type End = (Result<(), Error>, Memory);

/// A request as its owner, the lane and the door know it. The lock does all the ordering; it is held for some moves and
/// never while foreign code runs.
#[derive(Debug)]
pub(super) struct Op {
    state: Mutex<State>,
    /// Whether its owner has something to take. Written under the lock; read without it by an owner that polls, who
    /// then takes the lock: publishes nothing.
    is_ready: AtomicU32,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Who waits for it. Only while something is to come.
    waiter: Option<Waiter>,
}

#[derive(Debug)]
enum Phase {
    /// Its owner's alone.
    Idle,
    /// Waits for a buffer.
    InLine,
    /// Here is the buffer.
    Given(Buffer),
    /// On the lane, not taken yet.
    Queued(Request, Home),
    /// The dispatcher has it.
    Out,
    /// Over, and not collected.
    Ended(End),
    /// Its owner has gone: the end is nobody's.
    Left,
}

impl Op {
    const UNREADY: u32 = 0;
    const READY: u32 = 1;

    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State { phase: Phase::Idle, waiter: None }),
            is_ready: AtomicU32::new(Self::UNREADY),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins something, of which [`is_ready`](Self::is_ready) will tell. For its owner.
    fn begin(&self, phase: Phase) {
        let mut state = self.lock();
        self.is_ready.store(Self::UNREADY, Ordering::Relaxed);
        state.phase = phase;
    }

    /// Something came, under the lock; the result is to be woken outside of it.
    fn make_ready(&self, state: &mut State, phase: Phase) -> Option<Waiter> {
        state.phase = phase;
        self.is_ready.store(Self::READY, Ordering::Relaxed);
        state.waiter.take()
    }

    /// Whether there is something for its owner. A hint.
    #[inline]
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed) == Self::READY
    }

    /// From here on it is in line for a buffer.
    pub(super) fn line_up(&self) {
        self.begin(Phase::InLine);
    }

    /// Gives it the buffer that it is in line for.
    pub(super) fn give(&self, buffer: Buffer) -> Option<Waiter> {
        self.make_ready(&mut self.lock(), Phase::Given(buffer))
    }

    /// The buffer that it was given.
    pub(super) fn take_given(&self) -> Option<Buffer> {
        let mut state = self.lock();
        match std::mem::replace(&mut state.phase, Phase::Idle) {
            Phase::Given(buffer) => Some(buffer),
            other => {
                state.phase = other;
                None
            }
        }
    }

    /// From here on it can be taken by the door.
    pub(super) fn queue(&self, request: Request, home: Home) {
        self.begin(Phase::Queued(request, home));
    }

    /// For the door: the request, unless its owner has gone.
    pub(super) fn take(&self) -> Option<(Request, Home)> {
        let mut state = self.lock();
        match std::mem::replace(&mut state.phase, Phase::Out) {
            Phase::Queued(request, home) => Some((request, home)),
            other => {
                state.phase = other;
                None
            }
        }
    }

    /// Whether its owner has gone.
    pub(super) fn is_left(&self) -> bool {
        matches!(self.lock().phase, Phase::Left)
    }

    /// The end. What comes of it is to be woken.
    pub(super) fn end(&self, result: Result<(), Error>, memory: Memory) -> Option<Waiter> {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Left) {
            // The memory goes back to its pool, outside the lock: arguments outlive it.
            return None;
        }
        self.make_ready(&mut state, Phase::Ended((result, memory)))
    }

    /// Its end, once.
    pub(super) fn collect(&self) -> Option<End> {
        Self::collect_from(&mut self.lock())
    }

    fn collect_from(state: &mut State) -> Option<End> {
        match std::mem::replace(&mut state.phase, Phase::Idle) {
            Phase::Ended(end) => Some(end),
            other => {
                state.phase = other;
                None
            }
        }
    }

    /// Its end; without one, `waker` is woken when it comes.
    pub(super) fn collect_or_wait(&self, waker: &Waker, first: &mut bool) -> Option<End> {
        // Whoever made the waker runs code of his own when it is cloned or dropped: not under the lock.
        let mut fresh = std::mem::take(first).then(|| Waiter::Task(waker.clone()));
        loop {
            let mut state = self.lock();
            if let Some(end) = Self::collect_from(&mut state) {
                let previous = state.waiter.take();
                drop(state);
                drop(previous);
                return Some(end);
            }
            if matches!(&state.waiter, Some(Waiter::Task(known)) if known.will_wake(waker)) {
                return None;
            }
            if let Some(fresh) = fresh.take() {
                let previous = state.waiter.replace(fresh);
                drop(state);
                drop(previous);
                return None;
            }
            drop(state);
            fresh = Some(Waiter::Task(waker.clone()));
        }
    }

    /// Has the calling thread unparked when something comes; `false` if it is there.
    pub(super) fn enlist(&self, thread: Thread) -> bool {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Given(_) | Phase::Ended(_)) {
            return false;
        }
        let previous = state.waiter.replace(Waiter::Thread(thread));
        drop(state);
        drop(previous);
        true
    }

    /// Its owner goes. What is known of the end by then.
    pub(super) fn leave(&self) -> Parting {
        let mut state = self.lock();
        let (phase, previous) = (std::mem::replace(&mut state.phase, Phase::Left), state.waiter.take());
        drop(state);
        drop(previous);
        // Their memory goes back to its pool here.
        if let Phase::Ended(_) = phase { Parting::Over } else { Parting::UnderWay }
    }
}

/// What becomes of an op whose owner goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parting {
    /// Nobody else has it: it can be used again.
    Over,
    /// The lane or the door still has it.
    UnderWay,
}

/// Who waits for an op.
#[derive(Debug)]
pub(super) enum Waiter {
    Task(Waker),
    Thread(Thread),
}

impl Waiter {
    /// To be called without a lock. A waker that panics harms nobody else.
    pub(super) fn wake(self) {
        match self {
            Self::Task(waker) => {
                let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
            }
            Self::Thread(thread) => thread.unpark(),
        }
    }
}
