//! A volume over one file in memory, with faults, and the dispatcher that serves it.

use std::fs::{File, remove_file};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mpio::path::{BlockDevice, FaultHandle, Faulty, QueueIndex};
use mpio::{BlockCount, Client, Dispatcher, Extent, Lba, NoPath, Served, Volume};

/// Bytes of the file.
pub(crate) const BYTES: u64 = 16 << 20;
/// Longest that anything is waited for.
pub(crate) const BOUND: Duration = Duration::from_mins(1);

pub(crate) struct Rig {
    pub(crate) volume: Volume,
    pub(crate) faults: FaultHandle,
    pub(crate) served: Served,
    /// Removed with the last who has it.
    pub(crate) file: TempFile,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let file = TempFile::new();
        let (path, faults) = Faulty::new(BlockDevice::new(file.0.clone()), 7);
        let hold = NoPath::hold(BOUND * 2);
        let volume = Volume::builder()
            .path(path)
            .no_path(hold)
            .suspect_after(BOUND)
            .late_after(BOUND)
            .build()
            .unwrap();
        let queue = volume.take_queue(QueueIndex(0)).unwrap();
        let served = Dispatcher::start().unwrap().serve(queue).unwrap();
        Self { volume, faults, served, file }
    }

    pub(crate) fn client(&self, depth: u32) -> Client {
        self.served.client(depth).unwrap()
    }

    pub(crate) fn block(&self) -> usize {
        self.served.geometry().block_size() as usize
    }

    /// Closes the volume, and asserts that everything ends.
    pub(crate) fn close(&self) {
        assert!(self.volume.close(Duration::ZERO).wait(BOUND), "something has not ended");
    }
}

/// One block.
pub(crate) fn extent(block: u64) -> Extent {
    Extent::new(Lba::new(block), BlockCount::new(1)).unwrap()
}

pub(crate) struct TempFile(PathBuf);

impl TempFile {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let base = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(base).join(format!("mpio-client-{}-{number}", std::process::id()));
        File::create(&path).unwrap().set_len(BYTES).unwrap();
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = remove_file(&self.0);
    }
}

/// Random numbers from a seed (Knuth's generator).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(((self.0 >> 32) * bound as u64) >> 32).unwrap()
    }

    pub(crate) fn fill(&mut self, data: &mut [u8]) {
        for word in data.chunks_exact_mut(8) {
            word.copy_from_slice(&(self.below(usize::MAX >> 32) as u64).to_le_bytes());
        }
    }
}
