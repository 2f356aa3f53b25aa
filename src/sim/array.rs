//! The storage behind all paths: one number per block, and what of it would survive a power loss.

use std::collections::BTreeMap;

use crate::block::Extent;
use crate::io::{Durability, Operation};

/// What a block holds: the stamp of the write that it came from, 0 for zeroes.
pub type Stamp = u64;

/// A block's content and the order in which it came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cell {
    stamp: Stamp,
    order: u64,
}

/// A logical unit with one or several volatile caches.
#[derive(Debug)]
pub(super) struct Array {
    content: Vec<Cell>,
    durable: Vec<Cell>,
    /// By cache: what it holds that is not durable.
    volatile: BTreeMap<u32, BTreeMap<usize, Cell>>,
    order: u64,
}

impl Array {
    pub(super) fn new(blocks: u64) -> Self {
        let blocks = usize::try_from(blocks).unwrap_or(usize::MAX);
        Self {
            content: vec![Cell::default(); blocks],
            durable: vec![Cell::default(); blocks],
            volatile: BTreeMap::new(),
            order: 0,
        }
    }

    /// Carries out what changes the medium; a write puts `stamps`, one for each block from the start of `extent` on.
    /// `cache` is where it stays until a flush, `None` for no volatile cache.
    pub(super) fn change(
        &mut self,
        operation: Operation,
        extent: Extent,
        stamps: &[Stamp],
        cache: Option<u32>,
    ) {
        if operation == Operation::Flush {
            return self.flush(cache);
        }
        let through = operation == Operation::Write(Durability::Fua);
        let zeroes = !operation.has_data();
        for (offset, block) in blocks(extent).enumerate() {
            let stamp = if zeroes { 0 } else { stamps.get(offset).copied().unwrap_or_default() };
            let Some(cell) = self.content.get_mut(block) else { continue };
            self.order += 1;
            *cell = Cell { stamp, order: self.order };
            match cache {
                Some(cache) if !through => {
                    self.volatile.entry(cache).or_default().insert(block, *cell);
                }
                _ => self.durable[block] = *cell,
            }
        }
    }

    fn flush(&mut self, cache: Option<u32>) {
        let Some(held) = cache.and_then(|cache| self.volatile.remove(&cache)) else { return };
        for (block, cell) in held {
            let durable = &mut self.durable[block];
            if cell.order > durable.order {
                *durable = cell;
            }
        }
    }

    /// What a read of `extent` finds.
    pub(super) fn read(&self, extent: Extent) -> Vec<Stamp> {
        blocks(extent).filter_map(|block| self.content.get(block)).map(|cell| cell.stamp).collect()
    }

    /// Every block's content.
    pub(super) fn content(&self) -> Vec<Stamp> {
        self.content.iter().map(|cell| cell.stamp).collect()
    }

    /// Every block's content after a power loss.
    pub(super) fn durable(&self) -> Vec<Stamp> {
        self.durable.iter().map(|cell| cell.stamp).collect()
    }
}

/// The numbers of an extent's blocks.
pub(super) fn blocks(extent: Extent) -> impl Iterator<Item = usize> {
    let (start, end) = (extent.start().get(), extent.end().get());
    (start..end).filter_map(|block| usize::try_from(block).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockCount, Lba};
    use crate::io::Unmap;

    fn extent(start: u64, blocks: u32) -> Extent {
        Extent::new(Lba::new(start), BlockCount::new(blocks)).unwrap()
    }

    const WRITE: Operation = Operation::Write(Durability::Cached);

    #[test]
    fn a_cached_write_is_durable_only_after_a_flush_of_its_cache() {
        let mut array = Array::new(4);
        array.change(WRITE, extent(1, 2), &[7, 8], Some(0));
        assert_eq!((array.content(), array.durable()), (vec![0, 7, 8, 0], vec![0; 4]));
        array.change(Operation::Flush, Extent::NONE, &[], Some(1));
        assert_eq!(array.durable(), vec![0; 4]);
        array.change(Operation::Flush, Extent::NONE, &[], Some(0));
        assert_eq!(array.durable(), vec![0, 7, 8, 0]);
    }

    #[test]
    fn an_older_cache_entry_does_not_overwrite_a_newer_durable_block() {
        let mut array = Array::new(1);
        array.change(WRITE, extent(0, 1), &[1], Some(0));
        array.change(Operation::Write(Durability::Fua), extent(0, 1), &[2], Some(1));
        array.change(Operation::Flush, Extent::NONE, &[], Some(0));
        assert_eq!(array.durable(), vec![2]);
    }

    #[test]
    fn write_zeroes_reads_back_as_zeroes() {
        let mut array = Array::new(2);
        array.change(WRITE, extent(0, 2), &[1, 2], None);
        array.change(Operation::WriteZeroes(Unmap::Allowed), extent(1, 1), &[], None);
        assert_eq!(array.read(extent(0, 2)), vec![1, 0]);
    }
}
