//! Paths that leave, and paths beside each other.

use crate::path::Path;
use crate::time::Tick;
use crate::volume::PathOptions;

use super::rig::{DEPTH, Rig, extent};
use super::watched::Watched;

/// Queue and volume can be dropped with attempts out: nothing waits, nothing is written to memory that has other uses by
/// then, and the next path by the same way can connect.
pub fn can_be_dropped_with_attempts_out<P: Path>(ways: &impl Fn(usize) -> Option<P>) {
    for _ in 0..4 {
        let Some(path) = ways(0) else { return };
        let mut rig = Rig::new(path);
        let (pool, block_size) = (rig.pool.clone(), rig.block_size());
        rig.write(extent(0, 1), 1);
        for _ in 0..DEPTH / 2 {
            rig.start_read(extent(0, 1));
        }
        rig.queue.poll(Tick::now(), &mut Vec::new());
        drop(rig);
        let mut free: Vec<_> = std::iter::from_fn(|| pool.take(block_size)).collect();
        for buffer in &mut free {
            buffer.fill(0xee);
        }
        let Some(path) = ways(0) else { return };
        let mut next = Rig::new(path);
        next.check(extent(0, 1), 1);
        assert!(
            free.iter().all(|buffer| buffer.iter().all(|&byte| byte == 0xee)),
            "memory was touched later"
        );
        next.finish();
    }
}

/// A path that was removed, with requests under way, can be added anew.
pub fn can_be_removed_and_added_again<P: Path>(ways: &impl Fn(usize) -> Option<P>) {
    let Some(path) = ways(0) else { return };
    let mut rig = Rig::new(path);
    rig.write(extent(0, 1), 1);
    for _ in 0..4 {
        let reads: Vec<_> = (0..16).map(|_| rig.start_read(extent(0, 1))).collect();
        rig.queue.poll(Tick::now(), &mut Vec::new());
        let only = rig.volume.status().paths[0].id;
        let settled = rig.volume.remove_path(only).unwrap();
        rig.until("removal", |_| settled.is_settled().then_some(()));
        let Some(path) = ways(0) else { return };
        rig.volume.add_path_with(PathOptions::new(), Watched::new(path, &rig.watch)).unwrap();
        for read in reads {
            rig.end(read);
        }
        rig.check(extent(0, 1), 1);
    }
    rig.finish();
}

/// Where there are two ways: what is written over the one is read over the other, whichever is left.
pub fn two_ways_lead_to_one_device<P: Path>(ways: &impl Fn(usize) -> Option<P>) {
    let (Some(first), Some(second)) = (ways(0), ways(1)) else { return };
    let mut rig = Rig::with(vec![first, second], 1);
    let blocks = rig.most_blocks().min(8);
    rig.write(extent(0, blocks), 1);
    let first = rig.volume.status().paths[0].id;
    let settled = rig.volume.remove_path(first).unwrap();
    rig.until("removal", |_| settled.is_settled().then_some(()));
    rig.check(extent(0, blocks), 1);
    rig.write(extent(0, blocks), 2);
    let paths = rig.volume.status().paths;
    assert!(paths.len() == 1 && paths[0].completed() >= 2, "the second path served");
    let Some(path) = ways(0) else { return };
    let options = PathOptions::new().rank(0).assert_same();
    rig.volume.add_path_with(options, Watched::new(path, &rig.watch)).unwrap();
    rig.check(extent(0, blocks), 2);
    rig.finish();
}
