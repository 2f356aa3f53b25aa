//! The files that paths have on the ring.

use std::fs::File;
use std::sync::Arc;

use crossbeam::queue::SegQueue;

use crate::reactor::{Port, ReactorEvent};

/// Files that the kernel's own table has room for; those beyond are named by descriptor, which costs a little more.
pub(super) const FIXED: u16 = 128;

/// A path queue's right to put I/O for one file on the ring. Dropping it gives the place up: the file stays open until
/// the last of that I/O has ended, whose results then go nowhere.
#[derive(Debug)]
pub(crate) struct Registered {
    slot: u16,
    departed: Arc<SegQueue<u16>>,
}

impl Registered {
    pub(super) fn slot(&self) -> u16 {
        self.slot
    }

    /// Names the ring among all that exist: the list of departed slots is kept by both.
    pub(super) fn ring(&self) -> usize {
        Arc::as_ptr(&self.departed).addr()
    }

    /// Whether the event is of an operation for this file. A path queue must look before it believes one: another path
    /// may have handed it on.
    pub(crate) fn owns(&self, event: &ReactorEvent) -> bool {
        event.slot == self.slot && event.ring == self.ring()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.departed.push(self.slot);
    }
}

/// One file in the table.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) port: Port,
    pub(super) file: Arc<File>,
    /// Whether the kernel's table has it, at the same place.
    pub(super) fixed: bool,
    /// Operations that were put on the ring and whose end was not seen.
    in_flight: u32,
    departed: bool,
}

/// All files, by slot. A slot is not given to another file before the last result for the old one was seen, so a
/// result always belongs to the file that has its slot.
#[derive(Debug, Default)]
pub(super) struct Files {
    entries: Vec<Option<Entry>>,
    departed: Arc<SegQueue<u16>>,
}

/// A result's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A path queue that waits for it.
    Port(Port),
    /// Nobody any more.
    Departed,
    /// Nobody any more, and it was the last: the slot can be freed.
    DepartedLast,
}

impl Files {
    /// Names the ring among all that exist.
    pub(super) fn ring(&self) -> usize {
        Arc::as_ptr(&self.departed).addr()
    }

    /// The slot that the next file gets, `None` if there are 65,536.
    pub(super) fn vacancy(&self) -> Option<u16> {
        let free = self.entries.iter().position(Option::is_none).unwrap_or(self.entries.len());
        u16::try_from(free).ok()
    }

    /// Puts a file into the slot that `vacancy` named.
    pub(super) fn insert(&mut self, slot: u16, port: Port, file: Arc<File>, fixed: bool) -> Registered {
        let entry = Some(Entry { port, file, fixed, in_flight: 0, departed: false });
        match self.entries.get_mut(usize::from(slot)) {
            Some(place) => *place = entry,
            None => self.entries.push(entry),
        }
        Registered { slot, departed: Arc::clone(&self.departed) }
    }

    pub(super) fn get(&self, slot: u16) -> Option<&Entry> {
        self.entries.get(usize::from(slot))?.as_ref()
    }

    fn get_mut(&mut self, slot: u16) -> Option<&mut Entry> {
        self.entries.get_mut(usize::from(slot))?.as_mut()
    }

    /// One more operation is on the ring.
    pub(super) fn started(&mut self, slot: u16) {
        if let Some(entry) = self.get_mut(slot) {
            entry.in_flight += 1;
        }
    }

    /// An operation has ended: whom to tell.
    pub(super) fn ended(&mut self, slot: u16) -> Owner {
        let Some(entry) = self.get_mut(slot) else { return Owner::Departed };
        entry.in_flight = entry.in_flight.saturating_sub(1);
        match (entry.departed, entry.in_flight) {
            (false, _) => Owner::Port(entry.port),
            (true, 0) => Owner::DepartedLast,
            (true, _) => Owner::Departed,
        }
    }

    /// The next slot that was given up and has nothing on the ring.
    pub(super) fn next_departed(&mut self) -> Option<u16> {
        // Cheaper than a `pop` that finds nothing.
        if self.departed.is_empty() {
            return None;
        }
        while let Some(slot) = self.departed.pop() {
            let Some(entry) = self.get_mut(slot) else { continue };
            entry.departed = true;
            if entry.in_flight == 0 {
                return Some(slot);
            }
        }
        None
    }

    /// Frees a slot.
    pub(super) fn remove(&mut self, slot: u16) -> Option<Entry> {
        self.entries.get_mut(usize::from(slot))?.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Arc<File> {
        Arc::new(File::open("/dev/null").unwrap())
    }

    #[test]
    fn a_slot_is_reused_only_after_its_last_result() {
        let mut files = Files::default();
        let registered = files.insert(0, Port::new(7), file(), false);
        files.started(0);
        files.started(0);
        assert_eq!(files.ended(0), Owner::Port(Port::new(7)));
        drop(registered);
        assert_eq!(files.next_departed(), None, "one is still on the ring");
        assert_eq!(files.vacancy(), Some(1));
        assert_eq!(files.ended(0), Owner::DepartedLast);
        assert!(files.remove(0).is_some());
        assert_eq!(files.vacancy(), Some(0));
    }

    #[test]
    fn an_idle_file_departs_at_once() {
        let mut files = Files::default();
        drop(files.insert(0, Port::new(7), file(), false));
        assert_eq!(files.next_departed(), Some(0));
    }
}
