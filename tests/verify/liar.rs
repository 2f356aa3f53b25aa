//! A storage in memory behind a volatile cache, which keeps its promises in awkward ways or breaks one of them.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Mutex;

use crate::storage::{Source, Storage, Zeroing};

pub(crate) const BLOCK_SIZE: usize = 512;

/// What it does that others do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    // What is allowed.
    Honest,
    /// It puts a write down in two halves, and may be read in between.
    Halves,
    /// It puts a write down twice before it acknowledges it.
    Twice,
    /// It fails some writes, before or after they took effect.
    Errors,
    /// It goes away now and then, and loses some of what was not flushed.
    Outages,
    /// It fails a write, and puts it down later, over what it was to replace.
    LateErrors,

    // What is not.
    /// It puts an acknowledged write down once more, over a newer one.
    Ghost,
    /// It puts a failed write down over a later one.
    GhostOfFailed,
    /// As it comes back from an outage it waits; then it puts down a write from before.
    GhostAfterOutage,
    /// It acknowledges a write and forgets it.
    Loses,
    /// It reads an old image.
    Stale,
    /// It puts half of a block down and acknowledges the write.
    Tears,
    /// It writes to the next block.
    Misplaces,
    /// It acknowledges a flush and does nothing; then it goes away.
    IgnoresFlush,
    /// It goes away, and zeroes are all that is left of a block.
    Forgets,
    /// It goes away and does not come back.
    Dies,
}

pub(crate) struct Liar {
    habit: Habit,
    state: Mutex<State>,
}

struct State {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Writes, reads and flushes so far.
    writes: u64,
    reads: u64,
    /// Flushes that it said to have done, but for those with hardly a write since the last; the writes before it.
    ignored: u64,
    ignored_at: u64,
    /// Writes kept for later.
    kept: Vec<Kept>,
    /// The first image of each block, once it was replaced.
    first: BTreeMap<usize, Vec<u8>>,
    life: u32,
    is_gone: bool,
    /// Attempts to open it while it is gone.
    knocks: u32,
}

/// A write of one block that is put down later, or once more.
struct Kept {
    at: usize,
    bytes: Vec<u8>,
    /// Writes after which that is.
    until: u64,
}

/// The handle of one life.
struct Handle<'a> {
    liar: &'a Liar,
    life: u32,
}

impl Liar {
    pub(crate) fn new(habit: Habit, blocks: usize) -> &'static Self {
        let bytes = vec![0; blocks * BLOCK_SIZE];
        let state = State {
            durable: bytes.clone(),
            cached: bytes,
            writes: 0,
            reads: 0,
            ignored: 0,
            ignored_at: 0,
            kept: Vec::new(),
            first: BTreeMap::new(),
            life: 0,
            is_gone: false,
            knocks: 0,
        };
        Box::leak(Box::new(Self { habit, state: Mutex::new(state) }))
    }

    fn act<T>(&self, life: u32, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock().unwrap();
        if state.is_gone || state.life != life {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        act(&mut state)
    }
}

impl Source for &'static Liar {
    fn open(&self) -> io::Result<Box<dyn Storage>> {
        let mut state = self.state.lock().unwrap();
        if state.is_gone {
            state.knocks += 1;
            if state.knocks < 3 || self.habit == Habit::Dies {
                return Err(ErrorKind::NotFound.into());
            }
            state.is_gone = false;
            state.knocks = 0;
            state.life += 1;
        }
        Ok(Box::new(Handle { liar: self, life: state.life }))
    }
}

impl State {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.cached[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn go_away(&mut self, keeps: impl Fn(usize) -> bool) {
        self.is_gone = true;
        for block in blocks(0..self.cached.len()) {
            if keeps(block.start) {
                self.durable[block.clone()].copy_from_slice(&self.cached[block]);
            }
        }
        self.cached.clone_from(&self.durable);
    }

    /// Keeps a write of one block for so many writes.
    fn keep(&mut self, at: usize, bytes: &[u8], writes: u64) -> bool {
        let keeps = bytes.len() == BLOCK_SIZE;
        if keeps {
            self.kept.push(Kept { at, bytes: bytes.to_vec(), until: self.writes + writes });
        }
        keeps
    }

    /// Puts down what was kept, where it is time and something else is there by now.
    fn put_kept(&mut self) {
        let due = self.kept.extract_if(.., |kept| kept.until <= self.writes).collect::<Vec<_>>();
        for Kept { at, bytes, .. } in due {
            self.put(at, &bytes);
        }
    }

    /// The habits that end a life, at a write.
    fn may_go_away(&mut self, habit: Habit) -> io::Result<()> {
        let (writes, kept) = (self.writes, self.writes / 400);
        let goes = match habit {
            Habit::Outages | Habit::GhostAfterOutage => writes.is_multiple_of(400),
            Habit::IgnoresFlush => self.ignored >= 4 && self.life == 0,
            Habit::Forgets | Habit::Dies => writes == 1000,
            _ => false,
        };
        if !goes {
            return Ok(());
        }
        match habit {
            Habit::IgnoresFlush => self.go_away(|_| false),
            _ => self.go_away(|at| (at as u64 / 512 + kept).is_multiple_of(3)),
        }
        if habit == Habit::Forgets {
            self.cached[..BLOCK_SIZE].fill(0);
        }
        Err(io::Error::from_raw_os_error(libc::EIO))
    }

    /// Whether the write is to be put down as it is, after the habit had its way with it.
    fn bend(&mut self, habit: Habit, at: usize, bytes: &[u8]) -> io::Result<bool> {
        let due = self.writes.is_multiple_of(50) && self.writes > 200;
        let error = || Err(io::Error::from_raw_os_error(libc::EIO));
        match habit {
            Habit::Errors if due && self.writes.is_multiple_of(100) => return error(),
            Habit::Errors if due => {
                self.put(at, bytes);
                return error();
            }
            Habit::Ghost if due => drop(self.keep(at, bytes, 100)),
            Habit::GhostAfterOutage if due => drop(self.keep(at, bytes, 400)),
            Habit::GhostOfFailed if due && self.keep(at, bytes, 100) => return error(),
            Habit::LateErrors if due && self.keep(at, bytes, 1) => return error(),
            Habit::Loses => return Ok(!due),
            Habit::Tears if due => {
                self.put(at, &bytes[..BLOCK_SIZE / 2]);
                return Ok(false);
            }
            Habit::Misplaces if due && at + bytes.len() < self.cached.len() => {
                self.put(at + BLOCK_SIZE, bytes);
                return Ok(false);
            }
            _ => {}
        }
        Ok(true)
    }
}

impl Handle<'_> {
    fn put(&self, at: usize, bytes: &[u8]) -> io::Result<()> {
        let habit = self.liar.habit;
        let whole = self.liar.act(self.life, |state| {
            state.writes += 1;
            for block in blocks(at..at + bytes.len()) {
                let image = state.cached[block.clone()].to_vec();
                if image.iter().any(|&byte| byte != 0) {
                    state.first.entry(block.start).or_insert(image);
                }
            }
            // A failed write that is late comes before anything else is written, so that it replaces nothing newer.
            if habit == Habit::LateErrors {
                state.put_kept();
            }
            state.may_go_away(habit)?;
            if !state.bend(habit, at, bytes)? {
                return Ok(false);
            }
            let half = if habit == Habit::Halves { bytes.len() / 2 } else { bytes.len() };
            state.put(at, &bytes[..half]);
            Ok(true)
        })?;
        if whole && matches!(habit, Habit::Halves | Habit::Twice) {
            std::thread::yield_now();
            return self.liar.act(self.life, |state| {
                state.put(at, bytes);
                Ok(())
            });
        }
        self.liar.act(self.life, |state| {
            if habit != Habit::LateErrors {
                state.put_kept();
            }
            Ok(())
        })
    }
}

impl Storage for Handle<'_> {
    fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.liar.act(self.life, |state| {
            state.reads += 1;
            bytes.copy_from_slice(&state.cached[at..at + bytes.len()]);
            if self.liar.habit == Habit::Stale
                && state.reads.is_multiple_of(50)
                && state.writes > 1000
                && let Some(first) = state.first.get(&at)
            {
                bytes[..BLOCK_SIZE].copy_from_slice(first);
            }
            Ok(())
        })
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.put(usize::try_from(offset).unwrap(), bytes)
    }

    fn zero(&self, how: Zeroing, offset: u64, bytes: u64) -> io::Result<()> {
        if how == Zeroing::Punch && self.life == 0 {
            return Err(ErrorKind::Unsupported.into());
        }
        self.put(usize::try_from(offset).unwrap(), &vec![0; usize::try_from(bytes).unwrap()])
    }

    fn flush(&self) -> io::Result<()> {
        self.liar.act(self.life, |state| {
            if self.liar.habit == Habit::IgnoresFlush && state.writes >= 300 {
                // Several flushes may come between two writes.
                if state.writes >= state.ignored_at + 32 {
                    state.ignored += 1;
                    state.ignored_at = state.writes;
                }
            } else {
                let cached = state.cached.clone();
                state.durable = cached;
            }
            Ok(())
        })
    }
}

fn blocks(bytes: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    bytes.step_by(BLOCK_SIZE).map(|start| start..start + BLOCK_SIZE)
}
