//! The model of all blocks, shared by all threads.
//!
//! Neighbouring blocks share a lock, which is held for moments and never during I/O. Extents are not entered at once,
//! since the model of a block is about that block alone.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::block::{Block, End, Moment, Verdict, Writing};
use crate::content::Found;

const TOGETHER: u64 = 32;

pub(crate) struct Ledger {
    groups: Vec<Mutex<Vec<Block>>>,
    blocks: u64,
}

impl Ledger {
    /// Of as many blocks as there are.
    pub(crate) fn new(blocks: impl Iterator<Item = Block>) -> Self {
        let (mut groups, mut count) = (Vec::new(), 0);
        let mut group = Vec::new();
        for block in blocks {
            count += 1;
            group.push(block);
            if count % TOGETHER == 0 {
                groups.push(Mutex::new(std::mem::take(&mut group)));
            }
        }
        groups.push(Mutex::new(group));
        Self { groups, blocks: count }
    }

    /// A write of `extent` is about to be issued: puts the generation of each block into `generations`, and says
    /// how many blocks have other writes in flight.
    pub(crate) fn begin_write(
        &self,
        extent: Range<u64>,
        writing: Writing,
        generations: &mut Vec<u64>,
    ) -> u64 {
        let mut overlapped = 0;
        generations.clear();
        self.each(extent, |_, block| {
            let (generation, overlaps) = block.begin_write(writing);
            generations.push(generation);
            overlapped += u64::from(overlaps);
        });
        overlapped
    }

    pub(crate) fn end_write(&self, extent: Range<u64>, generations: &[u64], end: End) {
        self.each(extent, |place, block| block.end_write(generations[place], end));
    }

    /// A read of `extent` is about to be issued: puts its beginning on each block into `moments`.
    pub(crate) fn begin_read(&self, extent: Range<u64>, moments: &mut Vec<Moment>) {
        moments.clear();
        self.each(extent, |_, block| moments.push(block.begin_read()));
    }

    /// The read has ended; `found` says what it found in the block at a place in the extent, or that it failed. The
    /// verdicts that are not [`Verdict::Right`] go to `report`, with the place.
    pub(crate) fn end_read(
        &self,
        extent: Range<u64>,
        moments: &[Moment],
        found: impl Fn(usize) -> Option<Found>,
        mut report: impl FnMut(usize, Verdict),
    ) {
        for (place, number) in extent.enumerate() {
            let found = found(place);
            let verdict = self.on(number, |block| block.end_read(moments[place], found.as_ref()));
            if let Some(verdict) = verdict.filter(|verdict| *verdict != Verdict::Right) {
                report(place, verdict);
            }
        }
    }

    /// A flush is about to be issued.
    pub(crate) fn mark(&self) {
        self.each(0..self.blocks, |_, block| block.mark());
    }

    /// It succeeded.
    pub(crate) fn flushed(&self) {
        self.each(0..self.blocks, |_, block| block.flushed());
    }

    /// The device went away and is back; nothing is in flight.
    pub(crate) fn outage(&self) {
        self.each(0..self.blocks, |_, block| block.outage());
    }

    /// The oldest generation of each block that may be there after an outage.
    pub(crate) fn durable(&self) -> Vec<u64> {
        let mut durable = Vec::new();
        self.each(0..self.blocks, |_, block| durable.push(block.durable()));
        durable
    }

    /// Calls `act` on each block of `extent` with its place there.
    fn each(&self, extent: Range<u64>, mut act: impl FnMut(usize, &mut Block)) {
        let (mut next, mut place) = (extent.start, 0);
        while next < extent.end {
            let end = extent.end.min((next / TOGETHER + 1) * TOGETHER);
            let mut group = self.group(next);
            for number in next..end {
                if let Some(block) = group.get_mut(within(number)) {
                    act(place, block);
                }
                place += 1;
            }
            next = end;
        }
    }

    fn on<T>(&self, number: u64, act: impl FnOnce(&mut Block) -> T) -> Option<T> {
        self.group(number).get_mut(within(number)).map(act)
    }

    fn group(&self, number: u64) -> MutexGuard<'_, Vec<Block>> {
        let index = usize::try_from(number / TOGETHER).unwrap_or(usize::MAX);
        self.groups[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn within(number: u64) -> usize {
    usize::try_from(number % TOGETHER).unwrap_or(0)
}
