//! Regular files: what moves, and what does not.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::thread;

use super::rig::{MODES, Mode, Rig, extent};
use crate::buffer::Pool;
use crate::error::{Cause, DeviceError};
use crate::io::{Durability, Operation, Unmap};
use crate::path::{BlockDevice, Fault};
use crate::reactor::Reactor;
use crate::testing_support::TempDir;

const WRITE: Operation = Operation::Write(Durability::Cached);
const FUA: Operation = Operation::Write(Durability::Fua);

fn rig(dir: &TempDir, mode: Mode) -> Rig {
    Rig::new(BlockDevice::new(dir.file("disk", 1 << 20)).block_size(4096), mode)
}

#[test]
fn what_was_written_is_read_and_nothing_else_changes() {
    for mode in MODES {
        let dir = TempDir::new();
        let mut rig = rig(&dir, mode);
        rig.write(WRITE, extent(2, 3), 0x11);
        rig.write(FUA, extent(3, 1), 0x22);
        let fills: Vec<u8> = (1..6).map(|block| rig.fill_of(extent(block, 1))).collect();
        assert_eq!(fills, [0, 0x11, 0x22, 0x11, 0], "{mode:?}");
        assert_eq!(rig.run(Operation::Flush, crate::block::Extent::NONE, None).result, Ok(0));
    }
}

#[test]
fn discard_and_write_zeroes_leave_zeroes_and_the_size() {
    for mode in MODES {
        let dir = TempDir::new();
        let mut rig = rig(&dir, mode);
        let zeroing = [
            Operation::Discard,
            Operation::WriteZeroes(Unmap::Allowed),
            Operation::WriteZeroes(Unmap::Forbidden),
        ];
        for operation in zeroing {
            rig.write(WRITE, extent(8, 3), 0x33);
            assert_eq!(rig.run(operation, extent(9, 1), None).result, Ok(0), "{operation:?}");
            let fills: Vec<u8> = (8..11).map(|block| rig.fill_of(extent(block, 1))).collect();
            assert_eq!(fills, [0x33, 0, 0x33], "{mode:?} {operation:?}");
        }
        assert_eq!(std::fs::metadata(dir.path().join("disk")).unwrap().len(), 1 << 20);
    }
}

#[test]
fn many_attempts_beyond_the_submission_queue_all_complete_once() {
    for mode in MODES {
        let dir = TempDir::new();
        let mut rig = rig(&dir, mode);
        let mut expected = Vec::new();
        for block in 0..60 {
            let buffer = rig.buffer(1, u8::try_from(block).unwrap());
            expected.push(rig.submit(WRITE, extent(block, 1), Some(buffer)).unwrap());
        }
        let mut ids: Vec<_> = rig.ends(60).iter().map(|end| end.id).collect();
        ids.sort_by_key(|id| id.index);
        assert_eq!(ids, expected, "{mode:?}");
        for block in 0..60 {
            assert_eq!(u64::from(rig.fill_of(extent(block, 1))), block);
        }
    }
}

#[test]
fn attempts_beyond_the_depth_are_given_back() {
    for mode in MODES {
        let dir = TempDir::new();
        let device = BlockDevice::new(dir.file("disk", 1 << 20)).block_size(4096).depth(2);
        let mut rig = Rig::new(device, mode);
        assert_eq!(rig.description.depth, 2);
        for _ in 0..2 {
            let buffer = rig.buffer(1, 0);
            assert!(rig.submit(Operation::Read, extent(0, 1), Some(buffer)).is_some());
        }
        let buffer = rig.buffer(1, 0);
        assert!(rig.submit(Operation::Read, extent(0, 1), Some(buffer)).is_none(), "{mode:?}");
        rig.ends(2);
        let buffer = rig.buffer(1, 0);
        assert!(rig.submit(Operation::Read, extent(0, 1), Some(buffer)).is_some());
        rig.ends(1);
    }
}

#[test]
fn a_read_past_the_end_of_a_truncated_file_is_short() {
    for mode in MODES {
        let dir = TempDir::new();
        let mut rig = rig(&dir, mode);
        File::options().write(true).open(dir.path().join("disk")).unwrap().set_len(3 * 4096).unwrap();
        let (across, beyond) = (rig.buffer(4, 0), rig.buffer(1, 0));
        assert_eq!(rig.run(Operation::Read, extent(1, 4), Some(across)).result, Ok(2 * 4096), "{mode:?}");
        assert_eq!(rig.run(Operation::Read, extent(8, 1), Some(beyond)).result, Ok(0), "{mode:?}");
    }
}

#[test]
fn cancelling_is_a_hint_and_the_attempt_still_ends_once() {
    for mode in MODES {
        let dir = TempDir::new();
        let mut rig = rig(&dir, mode);
        let ids: Vec<_> = (0..8)
            .map(|block| {
                let buffer = rig.buffer(1, 0x44);
                let id = rig.submit(WRITE, extent(block, 1), Some(buffer)).unwrap();
                rig.cancel(id);
                id
            })
            .collect();
        let ends = rig.ends(8);
        assert_eq!(ends.len(), 8);
        for end in ends {
            // Whether it is over then depends on the file system.
            let is_its_end =
                matches!(end.result, Ok(4096) | Err(Fault::Unknown { cause: Cause::Aborted, .. }));
            assert!(ids.contains(&end.id) && is_its_end && end.buffer.is_some(), "{mode:?} {:?}", end.result);
        }
        rig.cancel(ids[0]);
        assert!(rig.poll().is_empty());
        rig.write(WRITE, extent(0, 1), 0x45);
    }
}

#[test]
fn memory_outside_every_registered_pool_works_too() {
    let dir = TempDir::new();
    let (stranger, own) = (Pool::new(8192, 4).unwrap(), Pool::new(4096, 4).unwrap());
    let device = BlockDevice::new(dir.file("disk", 1 << 20)).block_size(4096);
    let mut rig = Rig::with(device, stranger, Reactor::new(vec![own], 8).unwrap());
    rig.write(WRITE, extent(7, 2), 0x55);
    assert_eq!(rig.fill_of(extent(7, 2)), 0x55);
}

#[test]
fn an_attempt_without_memory_is_rejected_and_not_sent() {
    for mode in MODES {
        let dir = TempDir::new();
        let mut rig = rig(&dir, mode);
        let end = rig.run(Operation::Read, extent(0, 1), None);
        assert_eq!(end.result, Err(Fault::Final(DeviceError::Rejected)), "{mode:?}");
    }
}

/// The thread that submitted ends before the results are reaped elsewhere.
#[test]
fn a_queue_may_move_to_another_thread_with_attempts_out() {
    for mode in MODES {
        let dir = TempDir::new();
        let (sender, receiver) = mpsc::channel();
        let path = dir.file("disk", 1 << 20);
        let first = thread::spawn(move || {
            let mut rig = Rig::new(BlockDevice::new(path).block_size(4096), mode);
            for block in 0..32 {
                let buffer = rig.buffer(1, 0x66);
                rig.submit(WRITE, extent(block, 1), Some(buffer)).unwrap();
            }
            rig.reactor.flush();
            sender.send(rig).unwrap();
        });
        let mut rig = receiver.recv().unwrap();
        first.join().unwrap();
        let ends = rig.ends(32);
        assert!(ends.iter().all(|end| end.result == Ok(4096)), "{mode:?} {ends:?}");
        rig.write(WRITE, extent(40, 1), 0x67);
        assert_eq!(rig.fill_of(extent(40, 1)), 0x67);
    }
}

#[test]
fn a_queue_dropped_with_attempts_out_loses_their_memory_and_nothing_else() {
    for mode in MODES {
        let dir = TempDir::new();
        let mut rig = rig(&dir, mode);
        let pool = rig.pool.clone();
        let before = pool.available();
        for block in 0..4 {
            let buffer = rig.buffer(1, 0x77);
            rig.submit(WRITE, extent(block, 1), Some(buffer)).unwrap();
        }
        drop(rig);
        assert_eq!(pool.available(), before - 4, "{mode:?}");
    }
}

#[test]
fn other_readers_of_the_file_see_what_was_written() {
    let dir = TempDir::new();
    let path = dir.file("disk", 1 << 20);
    let mut rig = Rig::new(BlockDevice::new(&path), Mode::Ring);
    rig.write(FUA, extent(1, 1), 0x88);
    let mut block = vec![0; rig.description.geometry.block_size() as usize];
    let offset = block.len() as u64;
    File::open(&path).unwrap().read_exact_at(&mut block, offset).unwrap();
    assert!(block.iter().all(|&byte| byte == 0x88));
}
