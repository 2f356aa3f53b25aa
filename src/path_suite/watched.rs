//! A path that looks over another's shoulder: whether it does with attempts what it must.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Cause, Error};
use crate::io::QueueIndex;
use crate::path::{
    Attempt, AttemptId, Attempts, ControlSink, Description, Fault, Incarnation, OpenQueue, Outcome, Outcomes,
    Path, PathQueue,
};
use crate::reactor::{Port, Reactor, ReactorEvent};
use crate::time::Tick;

/// What was seen of a path, over all its queues and connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Attempts that it has taken and not handed back.
    pub(super) out: usize,
    /// The most that were out at once.
    pub(super) most: usize,
    pub(super) connections: u32,
    /// What it did that no path may do.
    pub(super) wrong: Vec<String>,
    /// The next batch finds the connection lost.
    lost: bool,
}

impl Watch {
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the next batch find the connection lost.
    pub(super) fn lose_connection(&self) {
        self.seen().lost = true;
    }

    fn blame(&self, what: String) {
        self.seen().wrong.push(what);
    }
}

/// The path within, watched.
pub(super) struct Watched<P> {
    inner: P,
    watch: Watch,
}

impl<P: Path> Watched<P> {
    pub(super) fn new(inner: P, watch: &Watch) -> Self {
        Self { inner, watch: watch.clone() }
    }
}

impl<P: Path> Path for Watched<P> {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn connect(&mut self, incarnation: Incarnation) -> Result<Description, Error> {
        let description = self.inner.connect(incarnation)?;
        self.watch.seen().connections += 1;
        Ok(description)
    }

    fn open_queue(&mut self, queue: QueueIndex) -> Result<Box<dyn OpenQueue>, Error> {
        Ok(Box::new(Opening { inner: self.inner.open_queue(queue)?, watch: self.watch.clone() }))
    }

    fn fence(&mut self, through: Incarnation, sink: ControlSink) -> Result<(), Cause> {
        self.inner.fence(through, sink)
    }

    fn probe(&mut self, sink: ControlSink) {
        self.inner.probe(sink);
    }
}

struct Opening {
    inner: Box<dyn OpenQueue>,
    watch: Watch,
}

impl OpenQueue for Opening {
    fn open(self: Box<Self>, reactor: &mut Reactor, port: Port) -> Result<Box<dyn PathQueue>, Error> {
        let inner = self.inner.open(reactor, port)?;
        Ok(Box::new(Line {
            inner,
            watch: self.watch,
            out: Vec::new(),
            given_up: Vec::new(),
            lost: Vec::new(),
        }))
    }
}

/// The data half.
struct Line {
    inner: Box<dyn PathQueue>,
    watch: Watch,
    /// Attempts that the path within has.
    out: Vec<AttemptId>,
    given_up: Vec<AttemptId>,
    /// Attempts that find the connection lost.
    lost: Vec<Attempt>,
}

impl PathQueue for Line {
    fn submit(&mut self, reactor: &mut Reactor, now: Tick, attempts: &mut Attempts<'_>) -> Option<Tick> {
        if std::mem::take(&mut self.watch.seen().lost) {
            self.lost.extend(std::iter::from_fn(|| attempts.next()));
            return Some(now);
        }
        let mut batch: Vec<Attempt> = std::iter::from_fn(|| attempts.next()).collect();
        batch.reverse();
        let offered: Vec<AttemptId> = batch.iter().map(Attempt::id).collect();
        let next = self.inner.submit(reactor, now, &mut Attempts::new(&mut batch));
        let left: Vec<AttemptId> = batch.iter().map(Attempt::id).collect();
        for attempt in batch {
            attempts.put_back(attempt);
        }
        let taken: Vec<AttemptId> = offered.iter().filter(|id| !left.contains(id)).copied().collect();
        if taken.is_empty() && !offered.is_empty() && self.out.is_empty() {
            self.watch.blame(format!("took none of {} attempts although it had none", offered.len()));
        }
        if offered.len() - taken.len() != left.len() {
            self.watch.blame("put back attempts that it was not offered".to_owned());
        }
        self.out.extend(&taken);
        let mut seen = self.watch.seen();
        seen.out += taken.len();
        seen.most = seen.most.max(seen.out);
        next
    }

    fn event(&mut self, reactor: &mut Reactor, event: ReactorEvent, outcomes: &mut Outcomes<'_>) {
        let mut list = Vec::new();
        self.inner.event(reactor, event, &mut Outcomes::new(&mut list));
        self.pass_on(list, outcomes);
    }

    fn poll(&mut self, reactor: &mut Reactor, now: Tick, outcomes: &mut Outcomes<'_>) -> Option<Tick> {
        for attempt in self.lost.drain(..) {
            outcomes.complete(attempt, Err(Fault::NotSent(Cause::Disconnected)));
        }
        let mut list = Vec::new();
        let next = self.inner.poll(reactor, now, &mut Outcomes::new(&mut list));
        self.pass_on(list, outcomes);
        next
    }

    fn cancel(&mut self, reactor: &mut Reactor, attempt: AttemptId) {
        self.inner.cancel(reactor, attempt);
    }
}

impl Line {
    fn pass_on(&mut self, list: Vec<Outcome>, outcomes: &mut Outcomes<'_>) {
        for outcome in list {
            match &outcome {
                Outcome::Complete(attempt, result) => {
                    self.back(attempt.id());
                    if result.is_ok_and(|bytes| bytes as usize > attempt.len()) {
                        self.watch.blame(format!("{result:?} of {} bytes asked for", attempt.len()));
                    }
                }
                Outcome::Released(attempt) => self.back(attempt.id()),
                Outcome::GaveUp(id, _) => self.gave_up(*id),
            }
            outcomes.push(outcome);
        }
    }

    fn back(&mut self, id: AttemptId) {
        self.given_up.retain(|given_up| *given_up != id);
        match self.out.iter().position(|out| *out == id) {
            Some(place) => {
                self.out.swap_remove(place);
                self.watch.seen().out -= 1;
            }
            None => self.watch.blame(format!("handed back {id:?}, which it did not have")),
        }
    }

    fn gave_up(&mut self, id: AttemptId) {
        if !self.out.contains(&id) || self.given_up.contains(&id) {
            self.watch.blame(format!("gave up {id:?}, which it did not have or had given up before"));
        }
        self.given_up.push(id);
    }
}
