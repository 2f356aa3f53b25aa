//! A stand-in for a queue and a supervisor: it polls when told to, and takes note of every attempt's end.

use std::cmp::Reverse;
use std::time::Duration;

use crossbeam::channel::{Sender, unbounded};

use super::memory::{self, BLOCK, Disk, MemoryPath};
use crate::block::{BlockCount, Extent, Lba};
use crate::buffer::{Direction, Lent, Pool};
use crate::error::Error;
use crate::io::{Durability, Operation, PathId};
use crate::path::{
    Attempt, AttemptId, Attempts, ControlReport, ControlSink, Fault, FaultHandle, Faulty, Incarnation, News,
    Outcome, Outcomes, Path, PathQueue, QueueIndex,
};
use crate::reactor::{Port, Reactor, ReactorEvent};
use crate::time::Tick;

pub(super) const WRITE: Operation = Operation::Write(Durability::Cached);

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// There was no room for it.
    Left,
    Out,
    GivenUp(Fault),
    /// Handed back, whether or not it was given up before.
    Done(Result<u32, Fault>),
    Released,
}

struct Slot {
    lent: Option<Lent>,
    status: Status,
    gave_up: Option<Fault>,
}

struct OpenedQueue {
    queue: Box<dyn PathQueue>,
    port: Port,
    due: Option<Tick>,
}

pub(super) struct Rig {
    pub(super) path: Faulty<MemoryPath>,
    pub(super) faults: FaultHandle,
    disk: memory::Shared,
    reports: Sender<ControlReport>,
    reactor: Reactor,
    queues: Vec<Option<OpenedQueue>>,
    incarnation: Incarnation,
    pool: Pool,
    slots: Vec<Slot>,
    now: Tick,
}

impl Rig {
    /// Connected, with one queue.
    pub(super) fn new() -> Self {
        let mut rig = Self::unconnected(7);
        rig.connect().unwrap();
        rig
    }

    pub(super) fn unconnected(seed: u64) -> Self {
        let (reports, receiver) = unbounded();
        let disk = memory::disk(receiver);
        let (path, faults) = Faulty::new(MemoryPath::new(disk.clone()), seed);
        Self {
            path,
            faults,
            disk,
            reports,
            reactor: Reactor::new(Vec::new(), 8).unwrap(),
            queues: Vec::new(),
            incarnation: Incarnation::NONE,
            pool: Pool::with_reserve(4 * BLOCK, 1024, 1).unwrap(),
            slots: Vec::new(),
            now: Tick::from_nanos(1),
        }
    }

    /// A new connection and a queue on it; older queues go on.
    pub(super) fn connect(&mut self) -> Result<(), Error> {
        self.path.connect(self.incarnation.next())?;
        self.incarnation = self.incarnation.next();
        let open = self.path.open_queue(QueueIndex(0))?;
        let port = Port::new(u8::try_from(self.queues.len()).unwrap());
        let queue = open.open(&mut self.reactor, port)?;
        self.queues.push(Some(OpenedQueue { queue, port, due: None }));
        Ok(())
    }

    pub(super) fn disk(&self) -> std::sync::MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    pub(super) fn news(&self) -> Vec<News> {
        self.disk().news()
    }

    pub(super) fn sink(&self) -> ControlSink {
        let reports = self.reports.clone();
        ControlSink::new(PathId::new(0, 0), self.incarnation, move |report| {
            let _ = reports.send(report);
        })
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    pub(super) fn fence(&mut self) {
        let sink = self.sink();
        self.path.fence(self.incarnation, sink).unwrap();
    }

    pub(super) fn probe(&mut self) {
        let sink = self.sink();
        self.path.probe(sink);
    }

    pub(super) fn write(&mut self, block: u64, fill: u8) -> usize {
        self.submit(WRITE, block, 1, fill)
    }

    pub(super) fn read(&mut self, block: u64) -> usize {
        self.submit(Operation::Read, block, 1, 0)
    }

    /// Submits on the newest queue, alone in its batch.
    pub(super) fn submit(&mut self, operation: Operation, block: u64, blocks: u32, fill: u8) -> usize {
        self.submit_all([(operation, block, blocks, fill)])
    }

    /// Submits one batch on the newest queue. The result is the place of the first.
    pub(super) fn submit_all(&mut self, all: impl IntoIterator<Item = (Operation, u64, u32, u8)>) -> usize {
        let first = self.slots.len();
        let mut batch: Vec<Attempt> = all.into_iter().map(|(o, b, n, f)| self.attempt(o, b, n, f)).collect();
        batch.reverse();
        let opened = self.queues.last_mut().unwrap().as_mut().unwrap();
        let due = opened.queue.submit(&mut self.reactor, self.now, &mut Attempts::new(&mut batch));
        opened.due = opened.due.into_iter().chain(due).min();
        let newest_first = batch.is_sorted_by_key(|attempt| Reverse(attempt.id().index as usize));
        assert!(newest_first, "what has no room is left in its order");
        for attempt in batch {
            self.take_back(attempt, Status::Left);
        }
        first
    }

    fn attempt(&mut self, operation: Operation, block: u64, blocks: u32, fill: u8) -> Attempt {
        let id = AttemptId::new(QueueIndex(0), u32::try_from(self.slots.len()).unwrap(), 1);
        let direction = if operation.is_write() { Direction::Source } else { Direction::Sink };
        let mut lent = operation.has_data().then(|| {
            let mut buffer = self.pool.take(blocks * BLOCK).unwrap();
            buffer.fill(fill);
            Lent::new(buffer, direction)
        });
        let lease = lent.as_mut().map(|lent| lent.lend(0).unwrap());
        self.slots.push(Slot { lent, status: Status::Out, gave_up: None });
        let extent = Extent::new(Lba::new(block), BlockCount::new(blocks)).unwrap();
        Attempt::new(id, operation, if lease.is_some() { extent } else { Extent::NONE }, lease)
    }

    /// Polls every queue that was woken or is due, until none is.
    pub(super) fn run(&mut self) {
        for _ in 0..100 {
            let ready = self.reactor.take_ready();
            let mut idle = true;
            for index in 0..self.queues.len() {
                let Some(opened) = &self.queues[index] else { continue };
                let woken = ready >> opened.port.index() & 1 == 1;
                if woken || opened.due.is_some_and(|due| due <= self.now) {
                    idle = false;
                    self.poll(index);
                }
            }
            if idle {
                return;
            }
        }
        panic!("the path wants to be polled for ever");
    }

    fn poll(&mut self, index: usize) {
        let mut list = Vec::new();
        let opened = self.queues[index].as_mut().unwrap();
        opened.due = opened.queue.poll(&mut self.reactor, self.now, &mut Outcomes::new(&mut list));
        self.absorb(list);
    }

    /// An event for the newest queue.
    pub(super) fn event(&mut self) {
        let mut list = Vec::new();
        let event = ReactorEvent::of_no_ring();
        let opened = self.queues.last_mut().unwrap().as_mut().unwrap();
        opened.queue.event(&mut self.reactor, event, &mut Outcomes::new(&mut list));
        self.absorb(list);
    }

    pub(super) fn cancel(&mut self, place: usize) {
        let id = AttemptId::new(QueueIndex(0), u32::try_from(place).unwrap(), 1);
        let opened = self.queues.last_mut().unwrap().as_mut().unwrap();
        opened.queue.cancel(&mut self.reactor, id);
    }

    /// Drops the newest queue with what it holds.
    pub(super) fn drop_queue(&mut self) {
        *self.queues.last_mut().unwrap() = None;
    }

    pub(super) fn advance(&mut self, span: Duration) {
        self.now = self.now.after(span);
        self.run();
    }

    fn absorb(&mut self, list: Vec<Outcome>) {
        for outcome in list {
            match outcome {
                Outcome::Complete(attempt, result) => self.take_back(attempt, Status::Done(result)),
                Outcome::Released(attempt) => {
                    assert!(matches!(self.status(attempt.id().index as usize), Status::GivenUp(_)));
                    self.take_back(attempt, Status::Released);
                }
                Outcome::GaveUp(id, fault) => {
                    let slot = &mut self.slots[id.index as usize];
                    assert_eq!(slot.status, Status::Out, "{id:?} is given up once, while it is out");
                    slot.status = Status::GivenUp(fault);
                    slot.gave_up = Some(fault);
                }
            }
        }
    }

    fn take_back(&mut self, attempt: Attempt, status: Status) {
        let slot = &mut self.slots[attempt.id().index as usize];
        let out = matches!(slot.status, Status::Out | Status::GivenUp(_));
        assert!(out, "{:?} comes back a second time as {status:?}", attempt.id());
        slot.status = status;
        match (&mut slot.lent, attempt.into_memory()) {
            (Some(lent), Some(lease)) => lent.give_back(lease).unwrap(),
            (None, None) => {}
            _ => panic!("memory of another attempt"),
        }
    }

    pub(super) fn status(&self, place: usize) -> Status {
        self.slots[place].status
    }

    /// How it was given up, if it was.
    pub(super) fn gave_up(&self, place: usize) -> Option<Fault> {
        self.slots[place].gave_up
    }

    pub(super) fn statuses(&self) -> impl Iterator<Item = (usize, Status)> {
        self.slots.iter().map(|slot| slot.status).enumerate()
    }

    /// The first byte that a read brought.
    pub(super) fn byte(&mut self, place: usize) -> u8 {
        let mut lent = self.slots[place].lent.take().unwrap();
        lent.reclaim().unwrap()[0]
    }
}
