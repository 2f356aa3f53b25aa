//! The control side of a volume: brings together the supervisor, the paths' helpers and the queues. It runs on a thread
//! of its own, or, in the simulator, wherever virtual time is turned.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam::channel::{Sender, TrySendError};

use crate::control::{Action, Event, EventKind, Supervisor};
use crate::engine::{PathCounters, Totals};
use crate::error::Error;
use crate::io::PathId;
use crate::path::{ControlSink, Description, Incarnation};
use crate::time::Tick;

use super::settled::Settling;
use super::shared::{Absentee, Connection, Line, Message, Newcomer, Opening, Shared};
use super::status::{PathStatus, Status};

/// Calls the control half of one path, so that it cannot hold up anything else.
pub(crate) trait Helper: Send {
    /// Connects, and opens a path queue for each queue.
    fn connect(&mut self, incarnation: Incarnation, deliver: Deliver);
    fn probe(&mut self, sink: ControlSink);
    fn fence(&mut self, through: Incarnation, sink: ControlSink);
    /// Drops the path, and then what waits for that.
    fn close(self: Box<Self>, waiting: Vec<Settling>);
}

/// Where the result of connecting goes.
pub(crate) type Deliver = Box<dyn FnOnce(Result<Connection, Error>) + Send>;

/// Who is told of events, and how many each has missed.
struct Subscriber {
    events: Sender<Event>,
    missed: u64,
}

pub(crate) struct Conductor {
    supervisor: Supervisor,
    helpers: BTreeMap<PathId, Box<dyn Helper>>,
    shared: Arc<Shared>,
    lines: Vec<Line>,
    counters: BTreeMap<PathId, Arc<[PathCounters]>>,
    subscribers: Vec<Subscriber>,
    /// To be given when what they are about is published.
    answers: Vec<Box<dyn FnOnce() + Send>>,
    removals: Vec<(PathId, Settling)>,
    closing: Vec<Settling>,
}

impl Conductor {
    pub(crate) fn new(supervisor: Supervisor, shared: Arc<Shared>, lines: Vec<Line>) -> Self {
        Self {
            supervisor,
            helpers: BTreeMap::new(),
            shared,
            lines,
            counters: BTreeMap::new(),
            subscribers: Vec::new(),
            answers: Vec::new(),
            removals: Vec::new(),
            closing: Vec::new(),
        }
    }

    /// Takes in a path that has connected.
    ///
    /// # Errors
    /// Why it does not belong to the volume.
    pub(crate) fn join(&mut self, now: Tick, newcomer: Newcomer) -> Result<PathId, Error> {
        let Newcomer { name, terms, connection, helper } = newcomer;
        let path = self.supervisor.join(now, name, terms, connection.description.clone())?;
        self.add_helper(path, helper);
        self.ship(path, Incarnation::NONE.next(), connection);
        Ok(path)
    }

    /// Takes in a path that has yet to connect.
    ///
    /// # Errors
    /// Why it does not belong to the volume.
    pub(crate) fn expect(&mut self, now: Tick, absentee: Absentee) -> Result<PathId, Error> {
        let Absentee { name, terms, helper } = absentee;
        let path = self.supervisor.expect(now, name, terms)?;
        self.add_helper(path, helper);
        Ok(path)
    }

    /// Removes a path; `settling` hears when it is gone.
    ///
    /// # Errors
    /// If there is no such path (any more).
    pub(crate) fn remove(&mut self, now: Tick, path: PathId, settling: Settling) -> Result<(), Error> {
        self.supervisor.remove(now, path)?;
        self.removals.push((path, settling));
        Ok(())
    }

    fn add_helper(&mut self, path: PathId, helper: Box<dyn Helper>) {
        let counters = self.lines.iter().map(|_| PathCounters::default()).collect();
        self.counters.insert(path, counters);
        self.helpers.insert(path, helper);
    }

    /// Sends a connection to the queues; they take it up when they see it in a snapshot.
    fn ship(&self, path: PathId, incarnation: Incarnation, connection: Connection) {
        let Some(counters) = self.counters.get(&path) else { return };
        for (line, queue) in self.lines.iter().zip(connection.queues) {
            let counters = Arc::clone(counters);
            // A queue that is gone wants nothing.
            let _ = line.inbox.send(Opening { path, incarnation, queue, counters });
        }
    }

    /// Takes in a message.
    pub(crate) fn handle(&mut self, now: Tick, message: Message) {
        match message {
            Message::Evidence(queue, evidence) => self.supervisor.evidence(now, queue, evidence),
            Message::Report(report) => self.supervisor.report(now, &report),
            Message::Connected { path, incarnation, result } => {
                self.connected(now, path, incarnation, result);
            }
            Message::Join(newcomer, reply) => {
                let result = self.join(now, newcomer);
                self.answer(reply, result);
            }
            Message::Remove(path, reply, settling) => {
                let result = self.remove(now, path, settling);
                self.answer(reply, result);
            }
            Message::Take(queue, reply) => {
                self.supervisor.take(queue);
                self.answer(reply, ());
            }
            Message::Retry(path, reply) => {
                let _ = reply.send(self.supervisor.retry(now, path));
            }
            Message::Look(path) => self.supervisor.look(now, path),
            Message::Grow(reply) => {
                let _ = reply.send(self.supervisor.grow(now));
            }
            Message::Vouch(path) => self.supervisor.vouch(now, path),
            Message::SetPolicy(make) => self.supervisor.set_policy(make),
            Message::Close(end, settling) => {
                self.supervisor.close(now, end);
                self.closing.push(settling);
            }
            Message::Subscribe(events) => self.subscribers.push(Subscriber { events, missed: 0 }),
            Message::Status(reply) => {
                let _ = reply.send(self.status());
            }
            Message::Detach => self.supervisor.detach(now),
        }
    }

    /// Answers when every queue can see what was done.
    fn answer<T: Send + 'static>(&mut self, reply: Sender<T>, result: T) {
        self.answers.push(Box::new(move || {
            // Who gave up waiting wants to know nothing.
            let _ = reply.send(result);
        }));
    }

    fn connected(
        &mut self,
        now: Tick,
        path: PathId,
        incarnation: Incarnation,
        result: Result<Connection, Error>,
    ) {
        let mut queues = Vec::new();
        let described: Result<Description, Error> = result.map(|connection| {
            queues = connection.queues;
            connection.description
        });
        let description = described.as_ref().ok().cloned();
        if self.supervisor.connected(now, path, incarnation, described)
            && let Some(description) = description
        {
            self.ship(path, incarnation, Connection { description, queues });
        }
    }

    /// Carries out what the supervisor decided, until there is nothing left to do; the next deadline.
    pub(crate) fn turn(&mut self, now: Tick) -> Option<Tick> {
        self.supervisor.advance(now);
        while let Some(action) = self.supervisor.take_action() {
            self.carry_out(action);
        }
        if let Some(snapshot) = self.supervisor.take_snapshot() {
            self.shared.snapshot.store(snapshot);
            for line in &self.lines {
                line.bell.wake();
            }
        }
        for answer in self.answers.drain(..) {
            answer();
        }
        for event in self.supervisor.take_events() {
            self.tell(&event);
        }
        if self.supervisor.is_closed() {
            // Everyone was told. From here on it is the paths' threads that hold it up.
            self.closing.clear();
        }
        self.supervisor.next_deadline()
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Connect { path, incarnation } => {
                let messages = self.shared.messages.clone();
                let deliver = Box::new(move |result| {
                    let _ = messages.send(Message::Connected { path, incarnation, result });
                });
                self.call(path, |helper| helper.connect(incarnation, deliver));
            }
            Action::Probe { path, incarnation } => {
                let sink = self.sink(path, incarnation);
                self.call(path, |helper| helper.probe(sink));
            }
            Action::Fence { path, through } => {
                let sink = self.sink(path, through);
                self.call(path, |helper| helper.fence(through, sink));
            }
            Action::Close { path } => {
                self.counters.remove(&path);
                if let Some(helper) = self.helpers.remove(&path) {
                    let waiting = self.removals.extract_if(.., |(leaving, _)| *leaving == path);
                    let mut waiting: Vec<Settling> = waiting.map(|(_, settling)| settling).collect();
                    waiting.extend(self.closing.iter().cloned());
                    helper.close(waiting);
                }
            }
        }
    }

    fn call(&mut self, path: PathId, call: impl FnOnce(&mut dyn Helper)) {
        if let Some(helper) = self.helpers.get_mut(&path) {
            call(&mut **helper);
        }
    }

    fn sink(&self, path: PathId, incarnation: Incarnation) -> ControlSink {
        let messages = self.shared.messages.clone();
        ControlSink::new(path, incarnation, move |report| {
            // Nobody listens only when the volume is gone: then nobody wants to know.
            let _ = messages.send(Message::Report(report));
        })
    }

    fn tell(&mut self, event: &Event) {
        self.subscribers.retain_mut(|subscriber| {
            if subscriber.missed > 0 {
                let kind = EventKind::Missed(subscriber.missed);
                if subscriber.events.try_send(Event { at: event.at, path: None, kind }).is_ok() {
                    subscriber.missed = 0;
                }
            }
            match subscriber.events.try_send(event.clone()) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    subscriber.missed += 1;
                    true
                }
                Err(TrySendError::Disconnected(_)) => false,
            }
        });
    }

    /// Grows with each snapshot that is published.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn epoch(&self) -> u64 {
        self.shared.snapshot.load().epoch
    }

    /// Whether everything has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.supervisor.is_closed()
    }

    fn status(&self) -> Status {
        let mut paths: Vec<PathStatus> =
            self.supervisor.roster().map(|standing| self.path_status(&standing)).collect();
        paths.sort_by_key(|path| path.id.serial());
        Status { paths, ghosts: self.shared.common.ghosts.len(), waiting: self.shared.common.waiting() }
    }

    fn path_status(&self, standing: &crate::control::Standing<'_>) -> PathStatus {
        let mut totals = Totals::default();
        for counters in self.counters.get(&standing.id).into_iter().flat_map(|counters| counters.iter()) {
            counters.add_to(&mut totals);
        }
        PathStatus {
            id: standing.id,
            name: standing.name.to_owned(),
            health: standing.health,
            why_down: standing.why_down.filter(|why| !why.is_empty()).map(str::to_owned),
            held_back_until: standing.held_back_until,
            access: standing.access,
            incarnation: standing.incarnation,
            leaving: standing.leaving,
            fence: standing.description.fence,
            fence_derivation: standing.description.fence_derivation.clone(),
            transport: standing.description.transport.clone(),
            place: standing.description.place.clone(),
            identity: standing.description.identity.clone(),
            cache: standing.description.cache.clone(),
            unfenced_since: standing.unfenced_since,
            totals,
        }
    }
}
