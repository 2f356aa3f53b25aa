//! Flush, discard, write zeroes.

use crate::io::{Durability, Operation, Request, Unmap};
use crate::path::Path;

use super::rig::{Rig, extent};

/// A flush succeeds on an idle device, after writes, and while others are under way.
pub fn flushes<P: Path>(ways: &impl Fn(usize) -> Option<P>) {
    let Some(path) = ways(0) else { return };
    let mut rig = Rig::new(path);
    for round in 0..4 {
        let idle = rig.cookie();
        rig.start(Request::flush(idle));
        rig.end(idle);
        rig.write(extent(0, 1), round);
        let write = rig.start_write(extent(1, 1), round, Durability::Cached);
        let flush = rig.cookie();
        rig.start(Request::flush(flush));
        rig.end(flush);
        rig.end(write);
        rig.check(extent(0, 2), round);
    }
    rig.finish();
}

/// Blocks that were zeroed are zero, blocks that were discarded can be written, and those beside them stay; as far as the
/// path says that it does such things.
pub fn clears_what_it_was_asked_to_and_no_more<P: Path>(ways: &impl Fn(usize) -> Option<P>) {
    let Some(path) = ways(0) else { return };
    let mut rig = Rig::new(path);
    let limits = rig.volume.limits();
    let operations = [
        (Operation::WriteZeroes(Unmap::Allowed), limits.write_zeroes_blocks.get()),
        (Operation::WriteZeroes(Unmap::Forbidden), limits.write_zeroes_blocks.get()),
        (Operation::Discard, limits.discard_blocks.get()),
    ];
    let room = rig.most_blocks();
    for (operation, most) in operations {
        for blocks in [1, 2, room.saturating_sub(2)] {
            let blocks = blocks.min(most).min(room.saturating_sub(2));
            if blocks > 0 {
                clear(&mut rig, operation, blocks);
            }
        }
    }
    rig.finish();
}

/// Clears `blocks` blocks between two others.
fn clear(rig: &mut Rig, operation: Operation, blocks: u32) {
    let (all, within) = (extent(0, blocks + 2), extent(1, blocks));
    rig.write(all, 1);
    let cookie = rig.cookie();
    rig.start(match operation {
        Operation::WriteZeroes(unmap) => Request::write_zeroes(within, unmap, cookie),
        _ => Request::discard(within, cookie),
    });
    rig.end(cookie);
    rig.check(extent(0, 1), 1);
    rig.check(extent(u64::from(blocks) + 1, 1), 1);
    if operation != Operation::Discard {
        assert!(rig.read(within).iter().all(|&byte| byte == 0), "{operation} of {within} left something");
    }
    rig.write(within, 2);
    rig.check(within, 2);
}
