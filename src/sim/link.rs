//! A link as a path: the simulator's side of `trait Path`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Cause, Error};
use crate::path::{
    Attempt, Attempts, ControlSink, Description, Fault, Identifier, IdentifierKind, Identity, Incarnation,
    OpenQueue, Outcomes, Path, PathQueue, QueueIndex,
};
use crate::reactor::{Port, Reactor};
use crate::time::Tick;

use super::array::Stamp;
use super::fabric::{Command, Fabric, LinkIndex, Token, cache_of};

pub(super) type SharedFabric = Arc<Mutex<Fabric>>;

pub(super) fn lock(fabric: &SharedFabric) -> MutexGuard<'_, Fabric> {
    fabric.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes at the start of a block that bear its stamp.
pub const STAMP_BYTES: usize = size_of::<Stamp>();

/// The stamps of a buffer's blocks.
pub(super) fn stamps(bytes: &[u8], block_size: u32) -> Vec<Stamp> {
    let stamp = |block: &[u8]| block.first_chunk().copied().map(Stamp::from_le_bytes);
    bytes.chunks(block_size as usize).filter_map(stamp).collect()
}

/// Puts one stamp at the start of each block.
pub(super) fn put_stamps(bytes: &mut [u8], block_size: u32, stamps: &[Stamp]) {
    for (block, stamp) in bytes.chunks_mut(block_size as usize).zip(stamps) {
        if let Some(head) = block.first_chunk_mut::<STAMP_BYTES>() {
            *head = stamp.to_le_bytes();
        }
    }
}

/// The control half of a simulated path.
pub(super) struct SimPath {
    link: LinkIndex,
    incarnation: Incarnation,
    fabric: SharedFabric,
    opened: u64,
}

impl SimPath {
    pub(super) fn new(link: LinkIndex, fabric: SharedFabric) -> Self {
        Self { link, incarnation: Incarnation::NONE, fabric, opened: 0 }
    }
}

impl Path for SimPath {
    fn name(&self) -> String {
        format!("link {}", self.link)
    }

    fn connect(&mut self, incarnation: Incarnation) -> Result<Description, Error> {
        let mut fabric = lock(&self.fabric);
        let Some(profile) = fabric.connect(self.link, incarnation) else {
            return Err(Error::unreachable(format!("link {}", self.link), "no connection"));
        };
        self.incarnation = incarnation;
        let id = Identifier { kind: IdentifierKind::Custom, value: "array".to_owned() };
        let identity = Identity::none().with(id.kind, id.value).with_node(self.link.to_string());
        let mut description = Description::new(identity, fabric.geometry, fabric.limits);
        description.cache = cache_of(&profile);
        description.access = profile.access;
        description.depth = profile.depth;
        description.fence = profile.fence;
        Ok(description)
    }

    fn open_queue(&mut self, queue: QueueIndex) -> Result<Box<dyn OpenQueue>, Error> {
        self.opened += 1;
        // A number of its own among all path queues of the simulation.
        let sender = (self.link as u64) << 48 | self.opened << 16 | u64::from(queue.0);
        Ok(Box::new(OpenSimQueue {
            link: self.link,
            sender,
            incarnation: self.incarnation,
            fabric: Arc::clone(&self.fabric),
        }))
    }

    fn fence(&mut self, through: Incarnation, sink: ControlSink) -> Result<(), Cause> {
        lock(&self.fabric).fence(self.link, through, sink)
    }

    fn probe(&mut self, sink: ControlSink) {
        lock(&self.fabric).probe(self.link, sink);
    }
}

struct OpenSimQueue {
    link: LinkIndex,
    sender: u64,
    incarnation: Incarnation,
    fabric: SharedFabric,
}

impl OpenQueue for OpenSimQueue {
    fn open(self: Box<Self>, reactor: &mut Reactor, port: Port) -> Result<Box<dyn PathQueue>, Error> {
        let mut fabric = lock(&self.fabric);
        fabric.open(self.sender, reactor.waker(port));
        let block_size = fabric.geometry.block_size();
        let depth = fabric.profile(self.link).depth as usize;
        drop(fabric);
        Ok(Box::new(SimQueue {
            link: self.link,
            sender: self.sender,
            incarnation: self.incarnation,
            block_size,
            depth,
            number: 0,
            out: BTreeMap::new(),
            refused: Vec::new(),
            told: Told::No,
            rests_until: Tick::ZERO,
            refused_at: None,
            fabric: self.fabric,
        }))
    }
}

/// The data half.
struct SimQueue {
    link: LinkIndex,
    sender: u64,
    incarnation: Incarnation,
    block_size: u32,
    depth: usize,
    number: u64,
    out: BTreeMap<u64, Attempt>,
    refused: Vec<Attempt>,
    /// Whether it has said that its connection is gone.
    told: Told,
    /// Until when it has asked to be left alone.
    rests_until: Tick,
    /// What was to be learnt of the access state when it last refused an attempt.
    refused_at: Option<u64>,
    fabric: SharedFabric,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    No,
    Yes,
}

impl SimQueue {
    fn crash_if_told(&self) {
        let crashes = lock(&self.fabric).crashes(self.link);
        if crashes {
            // A panic of which the panic hook says nothing.
            std::panic::resume_unwind(Box::new("the path's code was told to panic"));
        }
    }

    fn command(&self, attempt: &Attempt) -> Command {
        let memory = attempt.memory().map(crate::buffer::Lease::bytes).unwrap_or_default();
        let is_write = attempt.operation().is_write();
        Command {
            operation: attempt.operation(),
            extent: attempt.extent(),
            stamps: if is_write { stamps(memory, self.block_size) } else { Vec::new() },
            bytes: u32::try_from(attempt.len()).unwrap_or(u32::MAX),
        }
    }
}

impl PathQueue for SimQueue {
    fn submit(&mut self, _reactor: &mut Reactor, now: Tick, attempts: &mut Attempts<'_>) -> Option<Tick> {
        self.crash_if_told();
        let fabric = Arc::clone(&self.fabric);
        let mut fabric = lock(&fabric);
        if self.told == Told::Yes {
            let text = format!("link {}: a queue used a connection that it knew to be gone", self.link);
            fabric.violations.push(text);
        }
        if now < self.rests_until {
            let text = format!("link {}: a queue did not leave it alone when asked to", self.link);
            fabric.violations.push(text);
        }
        if self.refused_at == Some(fabric.news(self.link)) {
            let text = format!("link {}: a queue used it although it had refused to be used", self.link);
            fabric.violations.push(text);
        }
        while self.out.len() < self.depth {
            let Some(attempt) = attempts.next() else { break };
            self.number += 1;
            let token = Token { link: self.link, sender: self.sender, number: self.number };
            let command = self.command(&attempt);
            if fabric.send(token, self.incarnation, command) {
                self.out.insert(self.number, attempt);
            } else {
                self.refused.push(attempt);
            }
        }
        (!self.refused.is_empty()).then_some(now)
    }

    fn poll(&mut self, _reactor: &mut Reactor, now: Tick, outcomes: &mut Outcomes<'_>) -> Option<Tick> {
        self.crash_if_told();
        for attempt in self.refused.drain(..) {
            self.told = Told::Yes;
            outcomes.complete(attempt, Err(Fault::NotSent(Cause::NotConnected)));
        }
        let mut fabric = lock(&self.fabric);
        let (answers, news) = (fabric.take_answers(self.sender), fabric.news(self.link));
        drop(fabric);
        for answer in answers {
            let Some(mut attempt) = self.out.remove(&answer.number) else { continue };
            if let Some(memory) = attempt.memory_mut().and_then(crate::buffer::Lease::bytes_mut) {
                put_stamps(memory, self.block_size, &answer.found);
            }
            match answer.result {
                Err(Fault::Congested { retry_after }) => {
                    self.rests_until = self.rests_until.max(now.after(retry_after));
                }
                Err(Fault::Refused(_)) => self.refused_at = Some(news),
                _ => {}
            }
            outcomes.complete(attempt, answer.result);
        }
        None
    }
}

impl Drop for SimQueue {
    fn drop(&mut self) {
        lock(&self.fabric).close(self.sender);
    }
}
