//! A path to a disk in memory, which does what it is told when it is polled.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use crossbeam::channel::Receiver;

use crate::block::{Geometry, Limits};
use crate::error::{Cause, Error};
use crate::io::Operation;
use crate::path::{
    Attempt, AttemptId, Attempts, ControlReport, ControlSink, Description, Fault, FaultHandle, FenceGrade,
    FenceSupport, Identity, Incarnation, News, OpenQueue, Outcomes, Path, PathQueue, QueueIndex,
};
use crate::reactor::{Port, Reactor, ReactorEvent};
use crate::time::Tick;

pub(super) const BLOCK: u32 = 512;
pub(super) const BLOCKS: u32 = 64;

/// What all connections share, and what tests look at and set.
pub(super) struct Disk {
    pub(super) bytes: Vec<u8>,
    /// While set, nothing is done and nothing answered.
    pub(super) frozen: bool,
    /// Attempts that a queue takes at once.
    pub(super) room: usize,
    /// What the next attempts meet after they were done.
    pub(super) next: VecDeque<Ending>,
    /// Places of the attempts that were done.
    pub(super) done: BTreeSet<usize>,
    pub(super) cancelled: Vec<AttemptId>,
    pub(super) fence: FenceSupport,
    /// Fails the path while it connects.
    pub(super) saboteur: Option<FaultHandle>,
    /// Probes that were asked for while it was frozen.
    pub(super) probes: Vec<ControlSink>,
    /// What the supervisor hears.
    reports: Receiver<ControlReport>,
    heard: Vec<News>,
    fenced: Incarnation,
    out: BTreeMap<Incarnation, usize>,
    fences: Vec<(Incarnation, ControlSink)>,
}

pub(super) enum Ending {
    Fails(Fault),
    GivesUp(Fault),
}

pub(super) type Shared = Arc<Mutex<Disk>>;

pub(super) fn disk(reports: Receiver<ControlReport>) -> Shared {
    Arc::new(Mutex::new(Disk {
        bytes: vec![0; BLOCK as usize * BLOCKS as usize],
        frozen: false,
        room: usize::MAX,
        next: VecDeque::new(),
        done: BTreeSet::new(),
        cancelled: Vec::new(),
        fence: FenceSupport::None,
        saboteur: None,
        probes: Vec::new(),
        reports,
        heard: Vec::new(),
        fenced: Incarnation::NONE,
        out: BTreeMap::new(),
        fences: Vec::new(),
    }))
}

impl Disk {
    /// What was reported since the last call.
    pub(super) fn news(&mut self) -> Vec<News> {
        self.listen();
        std::mem::take(&mut self.heard)
    }

    pub(super) fn byte(&self, block: usize) -> u8 {
        self.bytes[block * BLOCK as usize]
    }

    fn listen(&mut self) {
        for report in self.reports.try_iter() {
            if let News::Fenced { through, .. } = report.news {
                self.fenced = self.fenced.max(through);
            }
            self.heard.push(report.news);
        }
    }

    fn perform(&mut self, attempt: &mut Attempt, incarnation: Incarnation) {
        self.listen();
        assert!(incarnation > self.fenced, "{:?} took effect after its fence", attempt.id());
        assert!(self.done.insert(attempt.id().index as usize), "{:?} was done twice", attempt.id());
        let start = usize::try_from(attempt.extent().start().get()).unwrap() * BLOCK as usize;
        let span = start..start + attempt.len();
        let operation = attempt.operation();
        match (operation, attempt.memory_mut()) {
            (Operation::Write(_), Some(memory)) => self.bytes[span].copy_from_slice(memory.bytes()),
            (Operation::Read, Some(memory)) => memory.bytes_mut().unwrap().copy_from_slice(&self.bytes[span]),
            _ => {}
        }
    }

    fn serve_fences(&mut self) {
        let out = &self.out;
        let quiet = |through: Incarnation| out.range(..=through).all(|(_, &count)| count == 0);
        for (through, sink) in self.fences.extract_if(.., |(through, _)| quiet(*through)) {
            sink.fenced(through, FenceGrade::Proven);
        }
    }
}

pub(super) struct MemoryPath {
    pub(super) disk: Shared,
    incarnation: Incarnation,
}

impl MemoryPath {
    pub(super) fn new(disk: Shared) -> Self {
        Self { disk, incarnation: Incarnation::NONE }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }
}

impl Path for MemoryPath {
    fn name(&self) -> String {
        "memory".into()
    }

    fn connect(&mut self, _: Incarnation) -> Result<Description, Error> {
        self.incarnation = self.incarnation.next();
        if let Some(saboteur) = self.disk().saboteur.take() {
            saboteur.fail();
        }
        let geometry = Geometry::new(BLOCK, u64::from(BLOCKS))?;
        let mut description = Description::new(Identity::none(), geometry, Limits::new(65_536));
        description.fence = self.disk().fence;
        Ok(description)
    }

    fn open_queue(&mut self, _: QueueIndex) -> Result<Box<dyn OpenQueue>, Error> {
        Ok(Box::new(MemoryQueue {
            disk: Arc::clone(&self.disk),
            incarnation: self.incarnation,
            pending: VecDeque::new(),
            given_up: Vec::new(),
        }))
    }

    fn fence(&mut self, through: Incarnation, sink: ControlSink) -> Result<(), Cause> {
        let mut disk = self.disk();
        disk.fences.push((through, sink));
        disk.serve_fences();
        Ok(())
    }

    fn probe(&mut self, sink: ControlSink) {
        let mut disk = self.disk();
        if disk.frozen {
            disk.probes.push(sink);
        } else {
            sink.probed(Ok(()));
        }
    }
}

struct MemoryQueue {
    disk: Shared,
    incarnation: Incarnation,
    pending: VecDeque<Attempt>,
    /// Released at the next poll.
    given_up: Vec<Attempt>,
}

impl OpenQueue for MemoryQueue {
    fn open(self: Box<Self>, _: &mut Reactor, _: Port) -> Result<Box<dyn PathQueue>, Error> {
        Ok(self)
    }
}

impl MemoryQueue {
    fn serve(&mut self, outcomes: &mut Outcomes<'_>) {
        let mut disk = self.disk.lock().unwrap();
        if disk.frozen {
            return;
        }
        for attempt in self.given_up.drain(..) {
            outcomes.release(attempt);
        }
        for mut attempt in self.pending.drain(..) {
            disk.perform(&mut attempt, self.incarnation);
            *disk.out.get_mut(&self.incarnation).unwrap() -= 1;
            match disk.next.pop_front() {
                Some(Ending::Fails(fault)) => outcomes.complete(attempt, Err(fault)),
                Some(Ending::GivesUp(fault)) => {
                    outcomes.give_up(attempt.id(), fault);
                    self.given_up.push(attempt);
                }
                None => {
                    let bytes = u32::try_from(attempt.len()).unwrap();
                    outcomes.complete(attempt, Ok(bytes));
                }
            }
        }
        disk.serve_fences();
    }
}

impl PathQueue for MemoryQueue {
    fn submit(&mut self, _: &mut Reactor, now: Tick, attempts: &mut Attempts<'_>) -> Option<Tick> {
        let mut disk = self.disk.lock().unwrap();
        while self.pending.len() < disk.room {
            let Some(attempt) = attempts.next() else { break };
            *disk.out.entry(self.incarnation).or_default() += 1;
            self.pending.push_back(attempt);
        }
        (!disk.frozen).then_some(now)
    }

    fn event(&mut self, _: &mut Reactor, _: ReactorEvent, outcomes: &mut Outcomes<'_>) {
        self.serve(outcomes);
    }

    fn poll(&mut self, _: &mut Reactor, now: Tick, outcomes: &mut Outcomes<'_>) -> Option<Tick> {
        self.serve(outcomes);
        let frozen = self.disk.lock().unwrap().frozen;
        (!frozen && !self.given_up.is_empty()).then_some(now)
    }

    fn cancel(&mut self, _: &mut Reactor, attempt: AttemptId) {
        self.disk.lock().unwrap().cancelled.push(attempt);
    }
}
