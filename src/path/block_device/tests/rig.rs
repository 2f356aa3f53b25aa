//! One connected path on one reactor, driven by hand.

use std::os::fd::AsRawFd;

use crate::block::{BlockCount, Extent, Lba};
use crate::buffer::{Buffer, Direction, Lent, Pool};
use crate::io::Operation;
use crate::path::{
    Attempt, AttemptId, Attempts, BlockDevice, Description, Fault, Incarnation, Outcome, Outcomes, Path,
    PathQueue, QueueIndex,
};
use crate::reactor::{Port, Reactor};
use crate::time::Tick;

const PORT: Port = Port::new(5);

/// The connection that every test makes.
pub(super) const FIRST: Incarnation = Incarnation::NONE.next();

/// How reads and writes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Ring,
    Threads,
}

pub(super) const MODES: [Mode; 2] = [Mode::Ring, Mode::Threads];

/// What became of one attempt.
#[derive(Debug)]
pub(super) struct End {
    pub(super) id: AttemptId,
    pub(super) result: Result<u32, Fault>,
    pub(super) buffer: Option<Buffer>,
}

pub(super) struct Rig {
    pub(super) device: BlockDevice,
    pub(super) description: Description,
    pub(super) pool: Pool,
    pub(super) reactor: Reactor,
    queue: Box<dyn PathQueue>,
    lent: Vec<(AttemptId, Option<Lent>)>,
    started: u32,
}

impl Rig {
    pub(super) fn new(device: BlockDevice, mode: Mode) -> Self {
        let pool = Pool::new(1 << 20, 64).unwrap();
        let reactor = match mode {
            Mode::Ring => Reactor::new(vec![pool.clone()], 8).unwrap(),
            Mode::Threads => Reactor::without_ring().unwrap(),
        };
        let mut rig = Self::with(device, pool, reactor);
        if mode == Mode::Ring {
            assert_eq!(rig.reactor.take_warning(), None, "io_uring works here");
        }
        rig
    }

    pub(super) fn with(mut device: BlockDevice, pool: Pool, mut reactor: Reactor) -> Self {
        let description = device.connect(FIRST).unwrap();
        let queue = device.open_queue(QueueIndex(0)).unwrap().open(&mut reactor, PORT).unwrap();
        Self { device, description, pool, reactor, queue, lent: Vec::new(), started: 0 }
    }

    pub(super) fn buffer(&self, blocks: u32, fill: u8) -> Buffer {
        let mut buffer = self.pool.take(blocks * self.description.geometry.block_size()).unwrap();
        buffer.fill(fill);
        buffer
    }

    /// Submits one attempt; whether the path took it.
    pub(super) fn submit(
        &mut self,
        operation: Operation,
        extent: Extent,
        buffer: Option<Buffer>,
    ) -> Option<AttemptId> {
        let id = AttemptId::new(QueueIndex(0), self.started, 1);
        self.started += 1;
        let direction = if operation == Operation::Read { Direction::Sink } else { Direction::Source };
        let mut lent = buffer.map(|buffer| Lent::new(buffer, direction));
        let lease = lent.as_mut().map(|lent| lent.lend(0).unwrap());
        let mut batch = vec![Attempt::new(id, operation, extent, lease)];
        self.queue.submit(&mut self.reactor, Tick::now(), &mut Attempts::new(&mut batch));
        if let Some(refused) = batch.pop() {
            let lease = refused.into_memory();
            if let (Some(lent), Some(lease)) = (lent.as_mut(), lease) {
                lent.give_back(lease).unwrap();
            }
            return None;
        }
        self.lent.push((id, lent));
        Some(id)
    }

    pub(super) fn cancel(&mut self, id: AttemptId) {
        self.queue.cancel(&mut self.reactor, id);
    }

    /// What has come in, without waiting.
    pub(super) fn poll(&mut self) -> Vec<End> {
        let mut outcomes = Vec::new();
        self.reactor.flush();
        while let Some((port, event)) = self.reactor.next_event() {
            assert_eq!(port, PORT);
            self.queue.event(&mut self.reactor, event, &mut Outcomes::new(&mut outcomes));
        }
        let ready = self.reactor.take_ready();
        assert_eq!(ready & !PORT.bit(), 0);
        if ready != 0 {
            self.queue.poll(&mut self.reactor, Tick::now(), &mut Outcomes::new(&mut outcomes));
        }
        outcomes.into_iter().map(|outcome| self.end(outcome)).collect()
    }

    /// Sleeps until the reactor says that there is something to do, as an event loop of the user's own would.
    #[allow(unsafe_code)]
    pub(super) fn sleep_on_wake_fd(&mut self) {
        let fd = self.reactor.wake_fd().unwrap().as_raw_fd();
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry. A signal ends the sleep early, which the caller's loop takes.
        unsafe { libc::poll(&raw mut poll, 1, -1) };
    }

    /// Waits for `count` ends.
    pub(super) fn ends(&mut self, count: usize) -> Vec<End> {
        let mut ends = self.poll();
        while ends.len() < count {
            self.reactor.wait(None);
            ends.extend(self.poll());
        }
        ends
    }

    fn end(&mut self, outcome: Outcome) -> End {
        let Outcome::Complete(attempt, result) = outcome else { panic!("{outcome:?}") };
        let id = attempt.id();
        let place = self.lent.iter().position(|(lent, _)| *lent == id).expect("completes once");
        let (_, lent) = self.lent.swap_remove(place);
        let buffer = lent.map(|mut lent| {
            lent.give_back(attempt.into_memory().unwrap()).unwrap();
            lent.reclaim().unwrap()
        });
        End { id, result, buffer }
    }

    /// One operation there and back.
    pub(super) fn run(&mut self, operation: Operation, extent: Extent, buffer: Option<Buffer>) -> End {
        self.submit(operation, extent, buffer).unwrap();
        self.ends(1).pop().unwrap()
    }

    pub(super) fn write(&mut self, operation: Operation, at: Extent, fill: u8) {
        let buffer = self.buffer(at.blocks().get(), fill);
        let bytes = buffer.len();
        assert_eq!(self.run(operation, at, Some(buffer)).result, Ok(u32::try_from(bytes).unwrap()));
    }

    /// The one byte that all of the extent has.
    pub(super) fn fill_of(&mut self, at: Extent) -> u8 {
        let buffer = self.buffer(at.blocks().get(), 0xa5);
        let end = self.run(Operation::Read, at, Some(buffer));
        let buffer = end.buffer.unwrap();
        assert_eq!(end.result, Ok(u32::try_from(buffer.len()).unwrap()));
        assert!(buffer.iter().all(|&byte| byte == buffer[0]), "one fill");
        buffer[0]
    }
}

pub(super) fn extent(start: u64, blocks: u32) -> Extent {
    Extent::new(Lba::new(start), BlockCount::new(blocks)).unwrap()
}
