//! What may legally be read: a shadow of every block, kept from what was submitted and how it ended.
//!
//! While a write is in flight it may be seen or not. When it has succeeded, what had ended before it was submitted can
//! never be seen again. A write that ended as of unknown fate may be seen until a later one succeeds. One that ended as
//! not sent can never be seen.

use std::collections::{BTreeMap, BTreeSet};

use crate::block::Extent;
use crate::error::{Error, Fate};
use crate::io::{Cookie, Operation};

use super::array::{Stamp, blocks};

/// A write that a block may hold.
#[derive(Clone, Copy, Debug)]
struct Writing {
    cookie: Cookie,
    stamp: Stamp,
    /// When it ended, other than as not sent.
    ended: Option<u64>,
}

/// A request that has not ended.
#[derive(Debug)]
struct Open {
    operation: Operation,
    extent: Extent,
    accepted: u64,
    /// What each block of a read, or every block for a flush, may hold.
    allowed: BTreeMap<usize, BTreeSet<Stamp>>,
}

/// Checks that requests end exactly once, and that what is read, what is durable and what remains is legal.
#[derive(Debug)]
pub struct History {
    blocks: Vec<Vec<Writing>>,
    open: BTreeMap<Cookie, Open>,
    clock: u64,
    violations: Vec<String>,
}

impl History {
    /// Of a device of `blocks` blocks, all zeroes.
    pub fn new(blocks: u64) -> Self {
        let zero = Writing { cookie: Cookie(u64::MAX), stamp: 0, ended: Some(0) };
        let blocks = usize::try_from(blocks).unwrap_or(usize::MAX);
        Self { blocks: vec![vec![zero]; blocks], open: BTreeMap::new(), clock: 0, violations: Vec::new() }
    }

    /// A request was accepted. Every block of a write bears `stamp`; discards and write zeroes leave 0.
    pub fn accepted(&mut self, cookie: Cookie, operation: Operation, extent: Extent, stamp: Stamp) {
        self.clock += 1;
        let mut open = Open { operation, extent, accepted: self.clock, allowed: BTreeMap::new() };
        if operation.is_write() {
            self.write(cookie, extent, stamp);
        } else {
            let all = 0..self.blocks.len();
            let seen: Vec<usize> =
                if operation == Operation::Flush { all.collect() } else { blocks(extent).collect() };
            open.allowed = seen.into_iter().map(|block| (block, self.possible(block))).collect();
        }
        if self.open.insert(cookie, open).is_some() {
            self.violations.push(format!("{cookie:?} was accepted twice"));
        }
    }

    fn write(&mut self, cookie: Cookie, extent: Extent, stamp: Stamp) {
        for block in blocks(extent) {
            self.blocks[block].push(Writing { cookie, stamp, ended: None });
            for open in self.open.values_mut() {
                if let Some(allowed) = open.allowed.get_mut(&block) {
                    allowed.insert(stamp);
                }
            }
        }
    }

    fn possible(&self, block: usize) -> BTreeSet<Stamp> {
        self.blocks[block].iter().map(|writing| writing.stamp).collect()
    }

    /// A request ended. `found` is what a read found, block by block; for a flush, what is durable of every block.
    pub fn ended(&mut self, cookie: Cookie, result: &Result<(), Error>, found: &[Stamp]) {
        self.clock += 1;
        let Some(open) = self.open.remove(&cookie) else {
            return self.violations.push(format!("{cookie:?} ended without being under way"));
        };
        match result {
            _ if open.operation.is_write() => self.write_ended(cookie, &open, result),
            Ok(()) => self.check(cookie, &open, found),
            Err(_) => {}
        }
    }

    fn write_ended(&mut self, cookie: Cookie, open: &Open, result: &Result<(), Error>) {
        let now = self.clock;
        let not_sent = result.as_ref().is_err_and(|error| error.fate() == Fate::NotSent);
        for block in blocks(open.extent) {
            let writings = &mut self.blocks[block];
            if not_sent {
                writings.retain(|writing| writing.cookie != cookie);
                continue;
            }
            if result.is_ok() {
                let superseded = |writing: &Writing| writing.ended.is_some_and(|ended| ended < open.accepted);
                writings.retain(|writing| !superseded(writing));
            }
            for writing in writings.iter_mut().filter(|writing| writing.cookie == cookie) {
                writing.ended = Some(now);
            }
        }
    }

    fn check(&mut self, cookie: Cookie, open: &Open, found: &[Stamp]) {
        let operation = open.operation;
        if open.allowed.len() != found.len() {
            let text =
                format!("{cookie:?}: {operation} found {} of {} blocks", found.len(), open.allowed.len());
            self.violations.push(text);
        }
        for ((block, allowed), stamp) in open.allowed.iter().zip(found) {
            if !allowed.contains(stamp) {
                let text =
                    format!("{cookie:?}: {operation} found {stamp} in block {block}, legal are {allowed:?}");
                self.violations.push(text);
            }
        }
    }

    /// A read that is under way found `stamp` in part of a block: a real device can show a block half-written.
    pub fn glimpsed(&mut self, cookie: Cookie, block: u64, stamp: Stamp) {
        let block = usize::try_from(block).unwrap_or(usize::MAX);
        let Some(open) = self.open.get(&cookie) else { return };
        if open.allowed.get(&block).is_none_or(|allowed| !allowed.contains(&stamp)) {
            let text = format!("{cookie:?}: {} found {stamp} in part of block {block}", open.operation);
            self.violations.push(text);
        }
    }

    /// Checks what the device holds in the end, when nothing is under way.
    pub fn check_content(&mut self, content: &[Stamp]) {
        for cookie in self.open.keys() {
            self.violations.push(format!("{cookie:?} never ended"));
        }
        for (block, stamp) in content.iter().enumerate() {
            let possible = self.possible(block);
            if !possible.contains(stamp) {
                self.violations
                    .push(format!("block {block} holds {stamp} in the end, legal are {possible:?}"));
            }
        }
    }

    /// Requests under way.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// What was illegal so far.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockCount, Lba};
    use crate::io::Durability;

    const WRITE: Operation = Operation::Write(Durability::Cached);

    fn one() -> Extent {
        Extent::new(Lba::new(0), BlockCount::new(1)).unwrap()
    }

    fn written(history: &mut History, cookie: u64, result: &Result<(), Error>) {
        history.accepted(Cookie(cookie), WRITE, one(), cookie);
        history.ended(Cookie(cookie), result, &[]);
    }

    fn reads(history: &mut History, stamp: Stamp) -> bool {
        let before = history.violations().len();
        history.accepted(Cookie(1000), Operation::Read, one(), 0);
        history.ended(Cookie(1000), &Ok(()), &[stamp]);
        history.violations().len() == before
    }

    #[test]
    fn a_superseded_write_may_not_be_seen() {
        let mut history = History::new(1);
        written(&mut history, 1, &Ok(()));
        assert!(reads(&mut history, 1) && !reads(&mut history, 0));
        written(&mut history, 2, &Ok(()));
        assert!(reads(&mut history, 2) && !reads(&mut history, 1));
    }

    #[test]
    fn a_write_of_unknown_fate_may_be_seen_until_a_later_one_succeeds() {
        let mut history = History::new(1);
        written(&mut history, 1, &Err(Error::Closed { fate: Fate::Unknown }));
        assert!(reads(&mut history, 0) && reads(&mut history, 1));
        written(&mut history, 2, &Ok(()));
        assert!(!reads(&mut history, 1));
    }

    #[test]
    fn a_write_that_was_not_sent_may_never_be_seen() {
        let mut history = History::new(1);
        written(&mut history, 1, &Err(Error::Closed { fate: Fate::NotSent }));
        assert!(!reads(&mut history, 1));
    }

    #[test]
    fn overlapping_writes_have_no_order() {
        let mut history = History::new(1);
        history.accepted(Cookie(1), WRITE, one(), 1);
        history.accepted(Cookie(2), WRITE, one(), 2);
        history.ended(Cookie(2), &Ok(()), &[]);
        history.ended(Cookie(1), &Ok(()), &[]);
        assert!(reads(&mut history, 1) && reads(&mut history, 2) && !reads(&mut history, 0));
    }

    #[test]
    fn a_flush_must_find_what_was_completed_before_it() {
        let mut history = History::new(1);
        written(&mut history, 1, &Ok(()));
        history.accepted(Cookie(9), Operation::Flush, Extent::NONE, 0);
        history.ended(Cookie(9), &Ok(()), &[0]);
        assert_eq!(history.violations().len(), 1);
    }

    #[test]
    fn a_glimpse_must_be_legal_too() {
        let mut history = History::new(1);
        written(&mut history, 1, &Ok(()));
        history.accepted(Cookie(2), WRITE, one(), 2);
        history.accepted(Cookie(9), Operation::Read, one(), 0);
        history.glimpsed(Cookie(9), 0, 1);
        history.glimpsed(Cookie(9), 0, 2);
        assert!(history.violations().is_empty());
        history.glimpsed(Cookie(9), 0, 0);
        assert_eq!(history.violations().len(), 1);
    }

    #[test]
    fn a_second_end_is_noticed() {
        let mut history = History::new(1);
        written(&mut history, 1, &Ok(()));
        history.ended(Cookie(1), &Ok(()), &[]);
        assert_eq!(history.violations().len(), 1);
    }
}
