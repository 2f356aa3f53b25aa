//! A path with nothing at its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mpio::path::{
    Attempt, Attempts, ControlSink, Description, IdentifierKind, Identity, Incarnation, OpenQueue, Outcomes,
    Path, PathQueue, QueueIndex,
};
use mpio::path::{Port, Reactor};
use mpio::{Error, Geometry, Limits, Tick};

use super::line::Line;
use super::shuffle::Shuffle;

/// Bytes in a block.
pub(crate) const BLOCK: u32 = 4096;
/// Blocks of the device: a tebibyte.
pub(crate) const CAPACITY: u64 = 1 << 28;

/// When a null path answers.
#[derive(Clone)]
pub(crate) enum Answers {
    /// As soon as more attempts than this wait for it, out of order. Until then it does not ask to be polled, as a path
    /// that is woken by events does not.
    BeyondWindow(usize),
    /// When as many as this have come after it, over all paths, more or less in order. All paths are equally fast then,
    /// however many attempts each is given; but they have to be polled each time to find out.
    InLine {
        /// How many have to come.
        window: usize,
        /// How many have come over all paths.
        arrivals: Arc<AtomicUsize>,
    },
}

/// A path that does nothing.
pub(crate) struct NullPath {
    number: usize,
    depth: u32,
    answers: Answers,
}

impl NullPath {
    /// Path `number` of a device, for at most `depth` attempts.
    pub(crate) const fn new(number: usize, depth: u32, answers: Answers) -> Self {
        Self { number, depth, answers }
    }
}

impl Path for NullPath {
    fn name(&self) -> String {
        format!("null{}", self.number)
    }

    fn connect(&mut self, _incarnation: Incarnation) -> Result<Description, Error> {
        let identity = Identity::none().with(IdentifierKind::Custom, "null").with_node(self.name());
        let mut description =
            Description::new(identity, Geometry::new(BLOCK, CAPACITY)?, Limits::new(16 * BLOCK));
        description.depth = self.depth;
        Ok(description)
    }

    fn open_queue(&mut self, _queue: QueueIndex) -> Result<Box<dyn OpenQueue>, Error> {
        let depth = self.depth as usize;
        Ok(match &self.answers {
            Answers::BeyondWindow(window) => {
                Box::new(Opening(EventQueue { attempts: Shuffle::new(*window) }))
            }
            Answers::InLine { window, arrivals } => Box::new(Opening(PolledQueue {
                attempts: Line::new(*window, depth),
                arrivals: Arc::clone(arrivals),
            })),
        })
    }

    fn probe(&mut self, sink: ControlSink) {
        sink.probed(Ok(()));
    }
}

struct Opening<Q>(Q);

impl<Q: PathQueue + 'static> OpenQueue for Opening<Q> {
    fn open(self: Box<Self>, _reactor: &mut Reactor, _port: Port) -> Result<Box<dyn PathQueue>, Error> {
        Ok(Box::new(self.0))
    }
}

struct EventQueue {
    attempts: Shuffle<Attempt>,
}

impl PathQueue for EventQueue {
    fn submit(&mut self, _reactor: &mut Reactor, now: Tick, attempts: &mut Attempts<'_>) -> Option<Tick> {
        while let Some(attempt) = attempts.next() {
            self.attempts.put(attempt);
        }
        (self.attempts.ended() > 0).then_some(now)
    }

    fn poll(&mut self, _reactor: &mut Reactor, _now: Tick, outcomes: &mut Outcomes<'_>) -> Option<Tick> {
        for _ in 0..self.attempts.ended() {
            if let Some(attempt) = self.attempts.take() {
                succeed(attempt, outcomes);
            }
        }
        None
    }
}

struct PolledQueue {
    attempts: Line<Attempt>,
    arrivals: Arc<AtomicUsize>,
}

impl PathQueue for PolledQueue {
    fn submit(&mut self, _reactor: &mut Reactor, now: Tick, attempts: &mut Attempts<'_>) -> Option<Tick> {
        let mut arrivals = self.arrivals.load(Ordering::Relaxed);
        while let Some(attempt) = attempts.next() {
            self.attempts.put(arrivals, attempt);
            arrivals += 1;
        }
        self.arrivals.store(arrivals, Ordering::Relaxed);
        Some(now)
    }

    fn poll(&mut self, _reactor: &mut Reactor, now: Tick, outcomes: &mut Outcomes<'_>) -> Option<Tick> {
        let arrivals = self.arrivals.load(Ordering::Relaxed);
        while let Some(attempt) = self.attempts.take(arrivals) {
            succeed(attempt, outcomes);
        }
        (!self.attempts.is_empty()).then_some(now)
    }
}

fn succeed(attempt: Attempt, outcomes: &mut Outcomes<'_>) {
    let bytes = u32::try_from(attempt.len()).unwrap_or(u32::MAX);
    outcomes.complete(attempt, Ok(bytes));
}
