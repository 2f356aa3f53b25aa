//! What all threads work with: the storage, the model of its blocks, and the I/O that keeps the two in step.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use mpio::{Buffer, Pool, Tick};

use crate::block::{End, Moment, Verdict, Writing, Wrong};
use crate::content::{Content, Found};
use crate::ledger::Ledger;
use crate::portion::Portion;
use crate::stamp::{self, Stamp};
use crate::state::State;
use crate::storage::{Source, Storage, Zeroing};
use crate::tally::{Fault, Tally};

/// What is checked at once.
pub(crate) const CHECK_BYTES: u32 = 1 << 20;

pub(crate) struct Rig<'a> {
    pub(crate) run: u64,
    pub(crate) portion: Portion,
    pub(crate) source: &'a dyn Source,
    /// Whoever does I/O holds it for reading until the model knows how the I/O ended; whoever reopens the storage
    /// holds it for writing, so that nothing is in flight then.
    pub(crate) open: RwLock<Open>,
    pub(crate) ledger: Ledger,
    pub(crate) state: Option<State>,
    pub(crate) tally: Tally,
    /// How long the storage may be away.
    pub(crate) patience: Duration,
    /// What a torn block is whose parts may all be there.
    pub(crate) tearing: Tearing,
    /// Whether the storage knows how to write zeroes, and to discard.
    pub(crate) can_zero: [AtomicBool; 2],
    /// The load is to end.
    pub(crate) ending: AtomicBool,
    /// Why the run cannot go on.
    pub(crate) over: Mutex<Option<Stop>>,
    pub(crate) began: Tick,
}

/// Whether a block may be torn while it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tearing {
    Allowed,
    Mismatch,
}

/// The storage as opened last.
pub(crate) struct Open {
    pub(crate) storage: Option<Box<dyn Storage>>,
    /// +1 whenever it is opened again.
    pub(crate) life: u32,
    pub(crate) opened: Tick,
}

/// Why an I/O was not done.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// In this life of the storage.
    Storage {
        life: u32,
        error: io::Error,
    },
    Stop(Stop),
}

/// Why a run cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The storage is gone for good.
    Gone(String),
    /// Something on this machine failed: the state file, memory.
    Failed(String),
}

/// What one thread needs for its I/O.
pub(crate) struct Desk {
    writer: u64,
    buffer: Buffer,
    /// One block, to look at again.
    pub(crate) again: Buffer,
    generations: Vec<u64>,
    moments: Vec<Moment>,
}

impl Desk {
    /// For I/O of up to `bytes`.
    ///
    /// # Errors
    /// If there is no memory.
    pub(crate) fn new(writer: u64, portion: &Portion, bytes: u32) -> Result<Self, Stop> {
        let pool = Pool::with_reserve(bytes.max(portion.block_size), 2, 0);
        let pool = pool.map_err(|error| Stop::Failed(error.to_string()))?;
        let take = |bytes| pool.take(bytes).ok_or_else(|| Stop::Failed("a pool of two gave one".to_owned()));
        let (buffer, again) = (take(pool.size())?, take(portion.block_size)?);
        Ok(Self { writer, buffer, again, generations: Vec::new(), moments: Vec::new() })
    }

    /// Most blocks in one I/O.
    pub(crate) fn blocks(&self, portion: &Portion) -> u64 {
        self.buffer.len() as u64 / u64::from(portion.block_size)
    }
}

impl Rig<'_> {
    /// Writes stamps to `extent`.
    pub(crate) fn write(&self, desk: &mut Desk, extent: Range<u64>) -> Result<(), Trouble> {
        let open = self.storage();
        let storage = open.get()?;
        let bytes = self.begin_write(desk, &extent, Writing::Stamp)?;
        let generations = (extent.start..).zip(&desk.generations);
        let blocks = desk.buffer.chunks_exact_mut(self.portion.block_size as usize);
        for ((block, &generation), bytes) in generations.zip(blocks) {
            Stamp { run: self.run, block, generation, writer: desk.writer }.put(bytes);
        }
        let result = storage.write(&desk.buffer[..bytes], self.portion.at(extent.start));
        self.end_write(desk, &extent, &result);
        result.map_err(|error| self.trouble(&open, "writing", &extent, error))
    }

    /// Writes zeroes to `extent`, if the storage knows how.
    pub(crate) fn zero(&self, desk: &mut Desk, extent: Range<u64>, how: Zeroing) -> Result<(), Trouble> {
        let can = &self.can_zero[how as usize];
        if !can.load(Ordering::Relaxed) {
            return Ok(());
        }
        let open = self.storage();
        let storage = open.get()?;
        let bytes = self.begin_write(desk, &extent, Writing::Zero)?;
        let result = storage.zero(how, self.portion.at(extent.start), bytes as u64);
        self.end_write(desk, &extent, &result);
        match result {
            Ok(()) => self.tally.zeroes.add(1),
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported) => {
                if can.swap(false, Ordering::Relaxed) {
                    self.tally.news(format!("the device does not know how to {}", how.name()));
                }
            }
            Err(error) => return Err(self.trouble(&open, "writing zeroes to", &extent, error)),
        }
        Ok(())
    }

    /// Reads `extent` and checks what is there.
    pub(crate) fn read(&self, desk: &mut Desk, extent: Range<u64>) -> Result<(), Trouble> {
        let open = self.storage();
        let result = self.check(open.get()?, desk, &extent);
        result.map_err(|error| self.trouble(&open, "reading", &extent, error))
    }

    /// Makes durable what was acknowledged so far.
    pub(crate) fn flush(&self) -> Result<(), Trouble> {
        let open = self.storage();
        let storage = open.get()?;
        self.ledger.mark();
        let result = storage.flush();
        result.map_err(|error| self.trouble(&open, "flushing", &(0..self.portion.blocks), error))?;
        self.ledger.flushed();
        self.tally.flushes.add(1);
        self.tally.steps.add(1);
        self.save()
    }

    /// Writes the state file, if there is to be one.
    pub(crate) fn save(&self) -> Result<(), Trouble> {
        let saved = self.state.as_ref().map_or(Ok(()), |state| state.save(0, &self.ledger));
        saved.map_err(|error| Trouble::Stop(Stop::Failed(error)))
    }

    /// Reads all blocks and checks them.
    pub(crate) fn check_all(&self, storage: &dyn Storage, desk: &mut Desk) -> io::Result<()> {
        let pieces = self.portion.pieces(desk.blocks(&self.portion));
        pieces.into_iter().try_for_each(|extent| self.check(storage, desk, &extent))
    }

    /// Reads `extent` and checks what is there.
    fn check(&self, storage: &dyn Storage, desk: &mut Desk, extent: &Range<u64>) -> io::Result<()> {
        let block_size = self.portion.block_size as usize;
        let bytes = self.bytes(extent);
        self.ledger.begin_read(extent.clone(), &mut desk.moments);
        let result = storage.read(&mut desk.buffer[..bytes], self.portion.at(extent.start));
        let block = |place: usize| &desk.buffer[place * block_size..][..block_size];
        let number = |place: usize| extent.start + place as u64;
        let found = |place| result.is_ok().then(|| stamp::read(block(place), self.run, number(place)));
        let mut odd = Vec::new();
        let moments = &desk.moments;
        self.ledger.end_read(extent.clone(), moments, found, |place, verdict| odd.push((place, verdict)));
        result?;
        for (place, verdict) in odd {
            let bytes = &desk.buffer[place * block_size..][..block_size];
            self.report(storage, (number(place), verdict), bytes, &mut desk.again);
        }
        self.tally.reads.add(1);
        self.tally.checked.add(extent.end - extent.start);
        self.tally.bytes.add(bytes as u64);
        self.tally.steps.add(1);
        Ok(())
    }

    fn report(
        &self,
        storage: &dyn Storage,
        (block, verdict): (u64, Verdict),
        bytes: &[u8],
        again: &mut [u8],
    ) {
        let wrong = match verdict {
            Verdict::Right => return,
            Verdict::Mixed if self.tearing == Tearing::Allowed => return self.tally.mixed.add(1),
            Verdict::Mixed => Wrong { expected: "one write's worth".to_owned(), seen: 0 },
            Verdict::Wrong(wrong) => wrong,
        };
        let found = stamp::read(bytes, self.run, block);
        let (now, offset) = (Tick::now(), self.portion.at(block));
        let second = storage.read(again, offset).map(|()| stamp::read(again, self.run, block));
        let fault = classify(&found, second.as_ref().ok(), wrong.seen);
        let then = match second {
            Ok(second) if second == found => "the same".to_owned(),
            Ok(_) => stamp::describe(again, self.run, block),
            Err(error) => format!("the second read failed: {error}"),
        };
        let at = now.since(self.began);
        self.tally.fault(
            fault,
            format!(
                "{}: block {block} (byte {offset}) at {}.{:03} s, {}\n    may hold  {}\n    found     {}\n    and then  {then}",
                fault.name(),
                at.as_secs(),
                at.subsec_millis(),
                self.tally.doing(),
                wrong.expected,
                stamp::describe(bytes, self.run, block),
            ),
        );
    }

    /// Enters a write of `extent`, and gives its bytes.
    fn begin_write(&self, desk: &mut Desk, extent: &Range<u64>, writing: Writing) -> Result<usize, Trouble> {
        let overlapped = self.ledger.begin_write(extent.clone(), writing, &mut desk.generations);
        self.tally.overlapped.add(overlapped);
        let highest = desk.generations.iter().copied().max().unwrap_or(0);
        if let Some(state) = &self.state
            && let Err(error) = state.cover(highest, &self.ledger)
        {
            self.ledger.end_write(extent.clone(), &desk.generations, End::Failed);
            return Err(Trouble::Stop(Stop::Failed(error)));
        }
        Ok(self.bytes(extent))
    }

    fn end_write(&self, desk: &Desk, extent: &Range<u64>, result: &io::Result<()>) {
        let end = if result.is_ok() { End::Acknowledged } else { End::Failed };
        self.ledger.end_write(extent.clone(), &desk.generations, end);
        if result.is_ok() {
            self.tally.writes.add(1);
            self.tally.bytes.add(self.bytes(extent) as u64);
        }
        self.tally.steps.add(1);
    }

    /// Bytes of `extent`, which fits in a buffer.
    fn bytes(&self, extent: &Range<u64>) -> usize {
        usize::try_from(self.portion.bytes(extent)).unwrap_or(usize::MAX)
    }

    fn storage(&self) -> InUse<'_> {
        InUse(self.open.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn trouble(&self, open: &InUse<'_>, doing: &str, extent: &Range<u64>, error: io::Error) -> Trouble {
        let Range { start, end } = extent;
        self.tally.error(format!("{doing} blocks {start} to {} failed: {error}", end - 1));
        Trouble::Storage { life: open.0.life, error }
    }
}

/// The storage, which is not reopened meanwhile.
struct InUse<'a>(RwLockReadGuard<'a, Open>);

impl InUse<'_> {
    fn get(&self) -> Result<&dyn Storage, Trouble> {
        let gone = || Trouble::Storage { life: self.0.life, error: ErrorKind::NotConnected.into() };
        self.0.storage.as_deref().ok_or_else(gone)
    }
}

impl Zeroing {
    fn name(self) -> &'static str {
        match self {
            Self::Write => "write zeroes",
            Self::Punch => "discard such that zeroes are read",
        }
    }
}

/// What is wrong, by what a first read found and what a second one finds there now.
fn classify(found: &Found, second: Option<&Found>, seen: u64) -> Fault {
    match found.first {
        _ if found.is_torn() => Fault::Torn,
        Content::Foreign => Fault::Foreign,
        _ if second.is_some_and(|second| second != found) => Fault::Stale,
        Content::Stamp(generation) if generation < seen => Fault::Ghost,
        Content::Stamp(_) | Content::Zero => Fault::Lost,
    }
}
