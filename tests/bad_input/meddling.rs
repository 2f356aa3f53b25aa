//! A path over another that meddles with what the kernel has to say.

use mpio::path::{
    AttemptId, Attempts, ControlSink, Description, Incarnation, OpenQueue, Outcomes, Path, PathQueue, Port,
    QueueIndex, Reactor, ReactorEvent,
};
use mpio::{Cause, Error, Tick};

use crate::script::{Place, Script};

/// The path within; its data half visits the script at each event of the ring, before it hears of it.
pub(crate) struct Meddling<P> {
    pub(crate) inner: P,
    pub(crate) script: Script,
}

impl<P: Path> Path for Meddling<P> {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn connect(&mut self, incarnation: Incarnation) -> Result<Description, Error> {
        self.inner.connect(incarnation)
    }

    fn open_queue(&mut self, queue: QueueIndex) -> Result<Box<dyn OpenQueue>, Error> {
        Ok(Box::new(Opening { inner: self.inner.open_queue(queue)?, script: self.script.clone() }))
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
    script: Script,
}

impl OpenQueue for Opening {
    fn open(self: Box<Self>, reactor: &mut Reactor, port: Port) -> Result<Box<dyn PathQueue>, Error> {
        Ok(Box::new(Line { inner: self.inner.open(reactor, port)?, script: self.script }))
    }
}

struct Line {
    inner: Box<dyn PathQueue>,
    script: Script,
}

impl PathQueue for Line {
    fn submit(&mut self, reactor: &mut Reactor, now: Tick, attempts: &mut Attempts<'_>) -> Option<Tick> {
        self.inner.submit(reactor, now, attempts)
    }

    fn event(&mut self, reactor: &mut Reactor, event: ReactorEvent, outcomes: &mut Outcomes<'_>) {
        let _ = self.script.visit(Place::Event);
        self.inner.event(reactor, event, outcomes);
    }

    fn poll(&mut self, reactor: &mut Reactor, now: Tick, outcomes: &mut Outcomes<'_>) -> Option<Tick> {
        self.inner.poll(reactor, now, outcomes)
    }

    fn cancel(&mut self, reactor: &mut Reactor, attempt: AttemptId) {
        self.inner.cancel(reactor, attempt);
    }
}
