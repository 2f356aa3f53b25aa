//! Memory that a request has left to its attempts: a read that went on in other memory, or a request that has ended while
//! a path could still touch its buffer.

use crate::buffer::{Buffer, Lent};
use crate::io::Cookie;

/// Who gets the memory when no path has it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heir {
    /// Its pool: the request has had other memory since.
    Pool,
    /// The caller, whose completion said that it is quarantined.
    Caller(Cookie),
}

#[derive(Debug)]
struct Stray {
    memory: Lent,
    heir: Heir,
    /// Attempts that have it.
    holders: u32,
}

/// All of a queue's strays. Grows with what paths hold, which their depth bounds.
#[derive(Debug, Default)]
pub(super) struct Strays {
    places: Vec<Option<Stray>>,
    free: Vec<u32>,
    /// Those that callers wait for.
    awaited: usize,
}

impl Strays {
    /// Takes memory in, which nobody [holds](Self::hold) so far; its place.
    pub(super) fn leave(&mut self, memory: Lent, heir: Heir) -> u32 {
        self.awaited += usize::from(heir != Heir::Pool);
        let stray = Some(Stray { memory, heir, holders: 0 });
        if let Some(place) = self.free.pop() {
            self.places[place as usize] = stray;
            return place;
        }
        self.places.push(stray);
        u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
    }

    /// One more attempt has it.
    pub(super) fn hold(&mut self, place: u32) {
        if let Some(stray) = self.at(place) {
            stray.holders += 1;
        }
    }

    /// The memory in a place, to take a lease back.
    pub(super) fn memory(&mut self, place: u32) -> Option<&mut Lent> {
        self.at(place).map(|stray| &mut stray.memory)
    }

    /// One attempt less has it. The caller's buffer, if that was the last.
    pub(super) fn let_go(&mut self, place: u32) -> Option<(Cookie, Buffer)> {
        let stray = self.at(place)?;
        stray.holders = stray.holders.saturating_sub(1);
        if stray.holders > 0 {
            return None;
        }
        let Stray { mut memory, heir, .. } = self.remove(place)?;
        let Heir::Caller(cookie) = heir else { return None };
        // A lease that was lost keeps it for good.
        memory.reclaim().map(|buffer| (cookie, buffer))
    }

    /// Takes memory out again, whoever had it.
    pub(super) fn take(&mut self, place: u32) -> Option<Lent> {
        self.remove(place).map(|stray| stray.memory)
    }

    /// How many callers wait for.
    pub(super) const fn awaited(&self) -> usize {
        self.awaited
    }

    fn at(&mut self, place: u32) -> Option<&mut Stray> {
        self.places.get_mut(place as usize)?.as_mut()
    }

    fn remove(&mut self, place: u32) -> Option<Stray> {
        let stray = self.places.get_mut(place as usize)?.take()?;
        self.free.push(place);
        self.awaited -= usize::from(stray.heir != Heir::Pool);
        Some(stray)
    }
}
