//! A device in memory: a path that does as it is told, and remembers what it was asked.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use mpio::path::{
    Attempt, Attempts, Cache, ControlSink, Description, Fault, IdentifierKind, Identity, Incarnation,
    OpenQueue, Outcomes, Path, PathQueue, Port, QueueIndex, Reactor, Waker,
};
use mpio::{Durability, Error, Geometry, Limits, Operation, Tick, Unmap};

/// How long to wait for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for what comes in a moment; `still` says what is the case until then.
pub(crate) fn soon(still: &str, mut done: impl FnMut() -> bool) {
    let end = Tick::now().after(PATIENCE);
    while !done() {
        assert!(Tick::now() < end, "{still} still after {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// The device.
#[derive(Clone)]
pub(crate) struct Medium {
    shared: Arc<Shared>,
    geometry: Geometry,
    limits: Limits,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// What it holds, and what it is to do.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) data: Vec<u8>,
    /// Every operation that was carried out or refused, with its blocks.
    pub(crate) seen: Vec<(Operation, u32)>,
    pub(crate) fail_reads: Option<Fault>,
    pub(crate) fail_writes: Option<Fault>,
    pub(crate) fail_flushes: Option<Fault>,
    pub(crate) fail_zeroes: Option<Fault>,
    /// Nothing is carried out.
    held: bool,
    waiting: usize,
    wakers: Vec<Waker>,
}

impl State {
    pub(crate) fn count(&self, operation: Operation) -> usize {
        self.seen.iter().filter(|seen| seen.0 == operation).count()
    }
}

impl Medium {
    /// A device of `capacity` blocks, all of them `0xee`.
    pub(crate) fn new(block_size: u32, capacity: u64, limits: Limits) -> Self {
        let geometry = Geometry::new(block_size, capacity).unwrap();
        let data = vec![0xee; usize::try_from(geometry.bytes()).unwrap()];
        let shared = Shared { state: Mutex::new(State { data, ..State::default() }), ..Shared::default() };
        Self { shared: Arc::new(shared), geometry, limits }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// From now on nothing is carried out.
    pub(crate) fn hold(&self) {
        self.state().held = true;
    }

    /// What was held is carried out.
    pub(crate) fn release(&self) {
        let mut state = self.state();
        state.held = false;
        state.wakers.iter().for_each(Waker::wake);
    }

    /// Waits until so many attempts are held.
    pub(crate) fn wait_for_held(&self, attempts: usize) {
        let waiting = |state: &mut State| state.waiting < attempts;
        let (state, timeout) =
            self.shared.changed.wait_timeout_while(self.state(), PATIENCE, waiting).unwrap();
        assert!(!timeout.timed_out(), "{} attempts came of {attempts}", state.waiting);
    }
}

impl Path for Medium {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn connect(&mut self, _incarnation: Incarnation) -> Result<Description, Error> {
        let identity = Identity::none().with(IdentifierKind::Custom, "memory").with_node("memory");
        let mut description = Description::new(identity, self.geometry, self.limits);
        description.cache = Cache::Private;
        Ok(description)
    }

    fn open_queue(&mut self, _queue: QueueIndex) -> Result<Box<dyn OpenQueue>, Error> {
        Ok(Box::new(self.clone()))
    }

    fn probe(&mut self, sink: ControlSink) {
        sink.probed(Ok(()));
    }
}

impl OpenQueue for Medium {
    fn open(self: Box<Self>, reactor: &mut Reactor, port: Port) -> Result<Box<dyn PathQueue>, Error> {
        self.state().wakers.push(reactor.waker(port));
        Ok(Box::new(MediumQueue { medium: *self, attempts: Vec::new() }))
    }
}

struct MediumQueue {
    medium: Medium,
    attempts: Vec<Attempt>,
}

impl PathQueue for MediumQueue {
    fn submit(&mut self, _reactor: &mut Reactor, now: Tick, attempts: &mut Attempts<'_>) -> Option<Tick> {
        let before = self.attempts.len();
        while let Some(attempt) = attempts.next() {
            self.attempts.push(attempt);
        }
        let mut state = self.medium.state();
        state.waiting += self.attempts.len() - before;
        self.medium.shared.changed.notify_all();
        (!state.held).then_some(now)
    }

    fn poll(&mut self, _reactor: &mut Reactor, _now: Tick, outcomes: &mut Outcomes<'_>) -> Option<Tick> {
        let mut state = self.medium.state();
        if state.held {
            return None;
        }
        // The other way round than they came.
        while let Some(mut attempt) = self.attempts.pop() {
            state.waiting -= 1;
            let result = state.carry_out(&mut attempt, self.medium.geometry);
            outcomes.complete(attempt, result);
        }
        None
    }
}

impl State {
    fn carry_out(&mut self, attempt: &mut Attempt, geometry: Geometry) -> Result<u32, Fault> {
        let (operation, extent) = (attempt.operation(), attempt.extent());
        self.seen.push((operation, extent.blocks().get()));
        let start = usize::try_from(geometry.offset_of(extent)).unwrap();
        let len = usize::try_from(geometry.bytes_of(extent)).unwrap();
        let fault = match operation {
            Operation::Read => self.fail_reads,
            Operation::Write(_) => self.fail_writes,
            Operation::Flush => self.fail_flushes,
            _ => self.fail_zeroes,
        };
        if let Some(fault) = fault {
            return Err(fault);
        }
        let place = &mut self.data[start..][..len];
        match operation {
            Operation::Read => {
                attempt.memory_mut().and_then(|memory| memory.bytes_mut()).unwrap().copy_from_slice(place);
            }
            Operation::Write(_) => place.copy_from_slice(attempt.memory().unwrap().bytes()),
            Operation::WriteZeroes(_) => place.fill(0),
            Operation::Discard => place.fill(0xdd),
            _ => {}
        }
        Ok(u32::try_from(attempt.len()).unwrap())
    }
}

pub(crate) const WRITE: Operation = Operation::Write(Durability::Cached);
pub(crate) const ZERO: Operation = Operation::WriteZeroes(Unmap::Forbidden);
pub(crate) const UNMAP: Operation = Operation::WriteZeroes(Unmap::Allowed);
