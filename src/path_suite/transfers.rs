//! Reads and writes.

use crate::io::Durability;
use crate::path::Path;

use super::rig::{Rig, extent};

/// Transfers of one block, of some, and of as many as the path takes, at both ends of the device and in between.
pub fn reads_back_what_was_written<P: Path>(ways: &impl Fn(usize) -> Option<P>) {
    let Some(path) = ways(0) else { return };
    let mut rig = Rig::new(path);
    let (capacity, most) = (rig.volume.geometry().capacity(), rig.most_blocks());
    for (stamp, blocks) in [(1, 1), (2, 2), (3, 3), (4, 7), (5, most / 2), (6, most)] {
        let blocks = blocks.clamp(1, most);
        let last = capacity - u64::from(blocks);
        for start in [0, last, last / 2, last / 3] {
            rig.write(extent(start, blocks), stamp);
            rig.check(extent(start, blocks), stamp);
        }
    }
    rig.finish();
}

/// What lies beside a write stays as it was.
pub fn writes_only_where_it_was_asked_to<P: Path>(ways: &impl Fn(usize) -> Option<P>) {
    let Some(path) = ways(0) else { return };
    let mut rig = Rig::new(path);
    let blocks = rig.most_blocks().min(9);
    rig.write(extent(0, blocks), 1);
    for block in 0..u64::from(blocks) {
        rig.write(extent(block, 1), 2 + block);
        for earlier in 0..=block {
            rig.check(extent(earlier, 1), 2 + earlier);
        }
        for later in block + 1..u64::from(blocks) {
            rig.check(extent(later, 1), 1);
        }
    }
    rig.finish();
}

/// Writes that are forced to stable media are there, over those that were not and under those that are not.
pub fn writes_through<P: Path>(ways: &impl Fn(usize) -> Option<P>) {
    let Some(path) = ways(0) else { return };
    let mut rig = Rig::new(path);
    let blocks = rig.most_blocks().min(4);
    for stamp in 0..6 {
        let durability = if stamp % 3 == 0 { Durability::Cached } else { Durability::Fua };
        let write = rig.start_write(extent(0, blocks), stamp, durability);
        rig.end(write);
        rig.check(extent(0, blocks), stamp);
    }
    rig.finish();
}
