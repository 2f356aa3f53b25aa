//! A volume over one file, whose path can be made to fail.

use std::path::PathBuf;
use std::time::Duration;

use mpio::path::{BlockDevice, FaultHandle, Faulty};
use mpio::{
    BlockCount, Buffer, Completion, Cookie, Dispatcher, Durability, Extent, Lba, Pool, QueueIndex, Request,
    Served, Submitter, Tick, Volume,
};

use crate::testing_support::TempDir;

pub(crate) const BLOCK: u32 = 4096;
pub(crate) const BLOCKS: u32 = 256;

/// A volume, with what is needed to use it and to disturb it.
pub(crate) struct Rig {
    pub(crate) volume: Volume,
    pub(crate) faults: FaultHandle,
    pub(crate) pool: Pool,
    pub(crate) file: PathBuf,
    _directory: TempDir,
}

impl Rig {
    /// One queue, so deep.
    pub(crate) fn new(depth: u32) -> Self {
        let directory = TempDir::in_memory();
        let file = directory.file("disk", u64::from(BLOCK) * u64::from(BLOCKS));
        let (path, faults) = Faulty::new(BlockDevice::new(&file).block_size(BLOCK), 1);
        let pool = Pool::new(BLOCK, 512).unwrap();
        let volume = Volume::builder()
            .path(path)
            .pool(&pool)
            .queue_depth(depth)
            .suspect_after(Duration::from_mins(10))
            .late_after(Duration::from_mins(10))
            .build()
            .unwrap();
        Self { volume, faults, pool, file, _directory: directory }
    }

    pub(crate) fn serve(&self, dispatcher: &Dispatcher) -> Served {
        dispatcher.serve(self.volume.take_queue(QueueIndex(0)).unwrap()).unwrap()
    }

    pub(crate) fn buffer(&self, fill: u8) -> Buffer {
        let mut buffer = self.pool.take(BLOCK).unwrap();
        buffer.fill(fill);
        buffer
    }

    pub(crate) fn write(&self, block: u32, fill: u8, cookie: u64) -> Request {
        Request::write(extent(block), self.buffer(fill), Durability::Cached, Cookie(cookie))
    }

    pub(crate) fn read(&self, block: u32, cookie: u64) -> Request {
        Request::read(extent(block), self.buffer(0), Cookie(cookie))
    }

    /// Waits until the pool has all its buffers again: they come back on another thread.
    pub(crate) fn regain_buffers(&self) {
        self.regain(512);
    }

    /// Waits until the pool has so many of its 512 buffers again.
    pub(crate) fn regain(&self, count: usize) {
        let patience = Tick::now().after(Duration::from_secs(30));
        while self.pool.available() < count {
            assert!(Tick::now() < patience, "{} of 512 buffers are back", self.pool.available());
            std::thread::yield_now();
        }
    }
}

pub(crate) fn extent(block: u32) -> Extent {
    Extent::new(Lba::new(block.into()), BlockCount::new(1)).unwrap()
}

/// The next completion.
pub(crate) fn next(submitter: &mut Submitter) -> Completion {
    let mut completions = Vec::new();
    while completions.is_empty() {
        assert!(!submitter.is_finished(), "nothing more would come");
        submitter.wait(None, &mut completions);
    }
    assert_eq!(completions.len(), 1);
    completions.remove(0)
}

/// All that is out.
pub(crate) fn rest(submitter: &mut Submitter, count: usize) -> Vec<Completion> {
    let mut completions = Vec::new();
    while completions.len() < count {
        submitter.wait(None, &mut completions);
    }
    assert_eq!(completions.len(), count);
    completions
}
