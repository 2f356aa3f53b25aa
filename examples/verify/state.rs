//! The state file: what another process needs in order to go on where this one was killed.
//!
//! It promises two things, which stay true for as long as nobody replaces it:
//! - No block bears a generation above the *ceiling*. It is raised, and the file is on disk, before a write with a
//!   higher generation is issued. It goes up in large steps, so that this is rare.
//! - No block bears a generation below its *durable* bound, unless data was lost. The bounds are written after a flush
//!   has completed. They only ever rise, so an old file is not wrong, it merely allows more.
//!
//! So whatever moment this process is killed at, a block holds a generation from its durable bound to the ceiling, and
//! the next process, which begins above the ceiling, reads all blocks to find which. The file is written beside the old
//! one, synced and renamed over it: there is always a whole one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::ledger::Ledger;
use crate::portion::Portion;

/// "mpiovst1" in the file.
const MAGIC: u64 = u64::from_le_bytes(*b"mpiovst1");
const HEAD: usize = 8;
/// Generations by which the ceiling is raised.
const STEP: u64 = 1 << 16;

/// What a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) run: u64,
    /// Processes that the run has had.
    pub(crate) processes: u64,
    pub(crate) portion: Portion,
    /// No block bears a generation above.
    pub(crate) ceiling: u64,
    /// The oldest generation that each block may bear. 0: what was there before the run.
    pub(crate) durable: Vec<u64>,
}

/// The file of this process.
pub(crate) struct State {
    path: PathBuf,
    run: u64,
    processes: u64,
    portion: Portion,
    /// What the file says. Written under `writing` after the file was; read by writers before they issue a write.
    ceiling: AtomicU64,
    writing: Mutex<()>,
}

impl State {
    /// The state of a run that `saved` describes; nothing is written yet.
    pub(crate) fn new(path: PathBuf, saved: &Saved) -> Self {
        let Saved { run, processes, portion, ceiling, .. } = *saved;
        Self { path, run, processes, portion, ceiling: AtomicU64::new(ceiling), writing: Mutex::new(()) }
    }

    /// To be called before a write of this generation is issued.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn cover(&self, generation: u64, ledger: &Ledger) -> Result<(), String> {
        // Acquire: pairs with the release in `save`, which comes after the file was written.
        if generation <= self.ceiling.load(Ordering::Acquire) {
            return Ok(());
        }
        self.save(generation, ledger)
    }

    /// Writes the file, with room for generations up to `generation` and beyond.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn save(&self, generation: u64, ledger: &Ledger) -> Result<(), String> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ceiling = self.ceiling.load(Ordering::Relaxed);
        if generation > ceiling {
            ceiling = generation + STEP;
        }
        let Self { run, processes, portion, .. } = *self;
        let saved = Saved { run, processes, portion, ceiling, durable: ledger.durable() };
        saved
            .write(&self.path)
            .map_err(|error| format!("the state file {} cannot be written: {error}", self.path.display()))?;
        self.ceiling.store(ceiling, Ordering::Release);
        Ok(())
    }
}

impl Saved {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// If there is none, or it is not one.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(|error| format!("the state file {} cannot be read: {error}", path.display()))?;
        Self::parse(&bytes)
            .ok_or_else(|| format!("{} is not a state file of verify, or damaged", path.display()))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (pieces, rest) = bytes.as_chunks::<8>();
        let mut words: Vec<u64> = pieces.iter().map(|piece| u64::from_le_bytes(*piece)).collect();
        let sum = words.pop()?;
        if !rest.is_empty() || words.len() < HEAD || sum != checksum(&words) || words[0] != MAGIC {
            return None;
        }
        let sizes = 512..=1 << 20;
        let block_size =
            u32::try_from(words[3]).ok().filter(|size| size.is_power_of_two() && sizes.contains(size))?;
        let portion = Portion { offset: words[4], block_size, blocks: words[5] };
        let bytes = portion.blocks.checked_mul(words[3])?;
        portion.offset.checked_add(bytes)?;
        let (run, processes, ceiling, durable) = (words[1], words[2], words[6], words[HEAD..].to_vec());
        let whole = u64::try_from(durable.len()).is_ok_and(|blocks| blocks == portion.blocks && blocks > 0);
        whole.then_some(Self { run, processes, portion, ceiling, durable })
    }

    /// Replaces the file at `path`.
    fn write(&self, path: &Path) -> io::Result<()> {
        let Portion { offset, block_size, blocks } = self.portion;
        let head = [MAGIC, self.run, self.processes, u64::from(block_size), offset, blocks, self.ceiling, 0];
        let mut words = head.to_vec();
        words.extend(&self.durable);
        words.push(checksum(&words));
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let mut file = File::create(&beside)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        std::fs::rename(&beside, path)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn checksum(words: &[u64]) -> u64 {
    words.iter().fold(MAGIC, |sum, word| {
        let mixed = (sum ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ mixed >> 29
    })
}
