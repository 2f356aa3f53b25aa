//! Paths that may have to wait for a predecessor's last writes.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mpio::path::{
    BlockDevice, ControlSink, Description, FenceSupport, Incarnation, OpenQueue, Path, QueueIndex,
};
use mpio::{Cause, Error, Tick};

/// Once a path has been connected, a claim that is taken is tried again by and by, without holding up its removal.
const RECLAIM: Duration = Duration::from_secs(1);

/// A block device or file that is waited for at first, for as long as it takes.
pub(crate) struct Claiming {
    file: PathBuf,
    device: BlockDevice,
    board: Arc<Board>,
}

/// Shows how far the start has come: its step, and which paths are connecting for the first time, and since when.
pub(crate) struct Board {
    step: Mutex<&'static str>,
    since: Mutex<BTreeMap<PathBuf, Tick>>,
}

impl Default for Board {
    fn default() -> Self {
        Self { step: Mutex::new("starting"), since: Mutex::default() }
    }
}

impl Board {
    /// The start has come to this step.
    pub(crate) fn begin(&self, step: &'static str) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = step;
    }

    /// The present step, in words.
    pub(crate) fn step(&self) -> &'static str {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that have been connecting for some time.
    pub(crate) fn waiting(&self, now: Tick, patience: Duration) -> Vec<PathBuf> {
        let waiting = self.lock();
        let late = waiting.iter().filter(|&(_, &since)| now.since(since) >= patience);
        late.map(|(file, _)| file.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Tick>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claiming {
    /// `file`, for which the first connection waits for as long as `patience`.
    pub(crate) fn new(
        file: &FilePath,
        patience: Duration,
        fence: Option<FenceSupport>,
        board: Arc<Board>,
    ) -> Self {
        let device = BlockDevice::new(file).claim_timeout(patience);
        let device = match fence {
            Some(support) => device.fenced_by(support),
            None => device,
        };
        Self { file: file.to_owned(), device, board }
    }
}

impl Path for Claiming {
    fn name(&self) -> String {
        self.device.name()
    }

    fn connect(&mut self, incarnation: Incarnation) -> Result<Description, Error> {
        if incarnation > Incarnation::NONE.next() {
            return self.device.connect(incarnation);
        }
        self.board.lock().insert(self.file.clone(), Tick::now());
        let connected = self.device.connect(incarnation);
        self.board.lock().remove(&self.file);
        let device = std::mem::replace(&mut self.device, BlockDevice::new(&self.file));
        self.device = device.claim_timeout(RECLAIM);
        connected
    }

    fn open_queue(&mut self, queue: QueueIndex) -> Result<Box<dyn OpenQueue>, Error> {
        self.device.open_queue(queue)
    }

    fn fence(&mut self, through: Incarnation, sink: ControlSink) -> Result<(), Cause> {
        self.device.fence(through, sink)
    }

    fn probe(&mut self, sink: ControlSink) {
        self.device.probe(sink);
    }
}
