//! What was done and what was found, counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Most mismatches that are described.
const NOTES: usize = 10;

/// What is wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Something older came back after something newer had been read.
    Ghost,
    /// One read gave something older; another, right after it, did not.
    Stale,
    /// An acknowledged write is not there, and no read has ever found it.
    Lost,
    /// Parts of several writes, of which one at least may not be there.
    Torn,
    /// What no write of this run put there, or what belongs to another block.
    Foreign,
}

impl Fault {
    pub(crate) const ALL: [Self; 5] = [Self::Ghost, Self::Stale, Self::Lost, Self::Torn, Self::Foreign];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ghost => "ghost",
            Self::Stale => "stale",
            Self::Lost => "lost",
            Self::Torn => "torn",
            Self::Foreign => "foreign",
        }
    }
}

/// A number that many threads add to.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) writes: Count,
    /// Writes of zeroes and discards among them.
    pub(crate) zeroes: Count,
    pub(crate) reads: Count,
    pub(crate) flushes: Count,
    pub(crate) bytes: Count,
    /// Blocks that were read and checked.
    pub(crate) checked: Count,
    /// Blocks that were rewritten while another write to them was in flight.
    pub(crate) overlapped: Count,
    /// Blocks that were torn, and might be.
    pub(crate) mixed: Count,
    /// I/Os that failed.
    pub(crate) errors: Count,
    pub(crate) outages: Count,
    /// Grows whenever anything ends: where it stands still, the device hangs.
    pub(crate) steps: Count,
    /// As [`Fault::ALL`].
    faults: [Count; 5],
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    doing: String,
    mismatches: Vec<String>,
    first_error: Option<String>,
    /// What the user should hear of, until it was shown.
    news: Vec<String>,
}

impl Tally {
    pub(crate) fn fault(&self, fault: Fault, note: String) {
        self.faults[fault as usize].add(1);
        self.with(|notes| {
            if notes.mismatches.len() < NOTES {
                let place = note.lines().next().unwrap_or_default();
                notes.news.push(format!("MISMATCH, {place}"));
                notes.mismatches.push(note);
            }
        });
    }

    /// An I/O failed.
    pub(crate) fn error(&self, what: String) {
        self.errors.add(1);
        self.steps.add(1);
        self.with(|notes| {
            if notes.first_error.is_none() {
                notes.news.push(what.clone());
                notes.first_error = Some(what);
            }
        });
    }

    pub(crate) fn news(&self, text: String) {
        self.with(|notes| notes.news.push(text));
    }

    pub(crate) fn take_news(&self) -> Vec<String> {
        self.with(|notes| std::mem::take(&mut notes.news))
    }

    /// What is being done now, for the progress line and for mismatches.
    pub(crate) fn begin(&self, doing: &str) {
        self.with(|notes| doing.clone_into(&mut notes.doing));
    }

    pub(crate) fn doing(&self) -> String {
        self.with(|notes| notes.doing.clone())
    }

    pub(crate) fn faults(&self, fault: Fault) -> u64 {
        self.faults[fault as usize].get()
    }

    /// Mismatches of all kinds.
    pub(crate) fn wrong(&self) -> u64 {
        self.faults.iter().map(Count::get).sum()
    }

    pub(crate) fn mismatches(&self) -> Vec<String> {
        self.with(|notes| notes.mismatches.clone())
    }

    pub(crate) fn first_error(&self) -> Option<String> {
        self.with(|notes| notes.first_error.clone())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Notes) -> T) -> T {
        act(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
