//! Loop devices.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::rig::{FIRST, MODES, Mode, Rig, extent};
use crate::block::Extent;
use crate::error::DeviceError;
use crate::io::{Durability, Operation, Unmap};
use crate::path::description::Kinship;
use crate::path::{BlockDevice, Fault, Path};
use crate::testing_support::{TempDir, require_loops, run, skip};

const SIZE: u64 = 16 << 20;
const WRITE: Operation = Operation::Write(Durability::Cached);
const FUA: Operation = Operation::Write(Durability::Fua);

fn refusal(device: &std::path::Path) -> String {
    let brief = Duration::from_millis(30);
    BlockDevice::new(device).claim_timeout(brief).connect(FIRST).unwrap_err().to_string()
}

#[test]
fn loop_devices_over_one_file_are_one_unit_by_several_ways() {
    let Some(loops) = require_loops(4, SIZE) else { return };
    let mut paths: Vec<BlockDevice> = (0..4).map(|index| BlockDevice::new(loops.device(index))).collect();
    paths.push(BlockDevice::new(loops.file()));
    let found: Vec<_> = paths.iter_mut().map(|path| path.connect(FIRST).unwrap()).collect();
    for (index, one) in found.iter().enumerate() {
        for other in &found[..index] {
            assert_eq!(one.identity.kinship(&other.identity), Kinship::Same);
            assert_ne!(one.identity.node(), other.identity.node());
            assert_eq!(one.cache, other.cache);
        }
    }
    let first = &found[0];
    assert_eq!((first.geometry.block_size(), first.geometry.bytes()), (512, SIZE));
    assert!(first.depth < 128 && first.limits.transfer_bytes >= 1 << 16);
}

#[test]
fn what_is_written_through_one_is_read_through_another() {
    let Some(loops) = require_loops(2, SIZE) else { return };
    for mode in MODES {
        let [mut one, mut other] = [0, 1].map(|index| Rig::new(BlockDevice::new(loops.device(index)), mode));
        for (start, operation) in [(0, WRITE), (100, FUA)] {
            one.write(operation, extent(start, 8), 0x5a);
            assert_eq!(one.run(Operation::Flush, Extent::NONE, None).result, Ok(0));
            assert_eq!(other.fill_of(extent(start, 8)), 0x5a, "{mode:?}");
            other.write(operation, extent(start, 8), 0);
        }
    }
}

#[test]
fn discard_and_write_zeroes_read_back_as_zeroes() {
    let Some(loops) = require_loops(1, SIZE) else { return };
    for mode in MODES {
        let mut rig = Rig::new(BlockDevice::new(loops.device(0)), mode);
        let zeroing = [
            Operation::Discard,
            Operation::WriteZeroes(Unmap::Allowed),
            Operation::WriteZeroes(Unmap::Forbidden),
        ];
        for operation in zeroing {
            rig.write(WRITE, extent(0, 64), 0x77);
            assert_eq!(rig.run(operation, extent(8, 32), None).result, Ok(0), "{operation:?}");
            let fills = [extent(0, 8), extent(8, 32), extent(40, 24)].map(|at| rig.fill_of(at));
            assert_eq!(fills, [0x77, 0, 0x77], "{mode:?} {operation:?}");
        }
    }
}

#[test]
fn the_end_of_the_device_is_the_device_s_own_answer() {
    let Some(loops) = require_loops(1, SIZE) else { return };
    for mode in MODES {
        let mut rig = Rig::new(BlockDevice::new(loops.device(0)), mode);
        let beyond = extent(SIZE / 512, 1);
        let (source, sink) = (rig.buffer(1, 1), rig.buffer(1, 0));
        assert_eq!(
            rig.run(WRITE, beyond, Some(source)).result,
            Err(Fault::Final(DeviceError::NoSpace)),
            "{mode:?}"
        );
        assert_eq!(rig.run(Operation::Read, beyond, Some(sink)).result, Ok(0), "{mode:?}");
    }
}

#[test]
fn a_backing_file_that_has_shrunk_gives_errors_that_are_fenced() {
    let Some(loops) = require_loops(1, SIZE) else { return };
    for mode in MODES {
        let mut rig = Rig::new(BlockDevice::new(loops.device(0)), mode);
        std::fs::File::options().write(true).open(loops.file()).unwrap().set_len(4096).unwrap();
        let sink = rig.buffer(8, 0);
        let result = rig.run(Operation::Read, extent(800, 8), Some(sink)).result;
        std::fs::File::options().write(true).open(loops.file()).unwrap().set_len(SIZE).unwrap();
        let is_fenced = matches!(result, Err(Fault::Unknown { fence: Some(_), .. }));
        assert!(is_fenced || result == Ok(4096), "{mode:?} {result:?}");
    }
}

#[test]
fn a_claimed_device_is_refused_until_its_claim_is_gone() {
    let Some(loops) = require_loops(1, SIZE) else { return };
    for mode in MODES {
        let rig = Rig::new(BlockDevice::new(loops.device(0)), mode);
        let refused = refusal(loops.device(0));
        assert!(
            refused.contains("is claimed by this process already") && refused.contains("30 ms"),
            "{refused}"
        );
        drop(rig);
        BlockDevice::new(loops.device(0)).connect(FIRST).unwrap();
    }
}

#[test]
fn a_mounted_device_is_refused_at_once_with_its_mount_point() {
    let Some(loops) = require_loops(1, SIZE) else { return };
    let device = loops.device(0).display().to_string();
    if !run("mkfs.ext4", &["-q", &device]) {
        return skip("mkfs.ext4 is missing");
    }
    let dir = TempDir::new();
    let place = dir.path().join("mount point");
    std::fs::create_dir(&place).unwrap();
    let place = place.display().to_string();
    assert!(run("mount", &[&device, &place]));
    let refused = BlockDevice::new(&device).claim_timeout(Duration::from_hours(1)).connect(FIRST);
    assert!(run("umount", &[&place]));
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("is mounted at") && refused.contains("mount point"), "{refused}");
}

#[test]
fn a_read_only_device_is_refused() {
    let Some(loops) = require_loops(1, SIZE) else { return };
    let device = loops.device(0).display().to_string();
    assert!(run("blockdev", &["--setro", &device]));
    let refused = refusal(loops.device(0));
    assert!(run("blockdev", &["--setrw", &device]));
    assert!(refused.contains("is read-only; make it writable"), "{refused}");
    BlockDevice::new(&device).connect(FIRST).unwrap();
}

#[test]
fn a_device_that_became_read_only_answers_writes_for_good() {
    let Some(loops) = require_loops(1, SIZE) else { return };
    let device = loops.device(0).display().to_string();
    for mode in MODES {
        let mut rig = Rig::new(BlockDevice::new(&device), mode);
        let source = rig.buffer(1, 1);
        assert!(run("blockdev", &["--setro", &device]));
        let result = rig.run(WRITE, extent(0, 1), Some(source)).result;
        assert!(run("blockdev", &["--setrw", &device]));
        assert_eq!(result, Err(Fault::Final(DeviceError::Unsupported)), "{mode:?}");
    }
}

#[test]
fn the_block_size_of_a_device_is_its_own() {
    let Some(loops) = require_loops(1, SIZE) else { return };
    let error = BlockDevice::new(loops.device(0)).block_size(4096).connect(FIRST).unwrap_err();
    assert!(error.to_string().contains("has blocks of 512 bytes"), "{error}");
}

#[test]
fn a_partition_is_another_unit_than_its_disk_and_is_claimed_with_it() {
    let Some(loops) = require_loops(1, SIZE) else { return };
    let device = loops.device(0).display().to_string();
    if !run("addpart", &[&device, "1", "64", "1024"]) {
        return skip("addpart is missing");
    }
    let partition = format!("{device}p1");
    let disk = BlockDevice::new(&device).connect(FIRST).unwrap();
    let mut path = BlockDevice::new(&partition);
    let part = path.connect(FIRST).unwrap();
    let refused = refusal(loops.device(0));
    drop(path);
    // A child of another test may hold a copy of the descriptor until it has started its program.
    assert!((0..1000).any(|_| run("delpart", &[&device, "1"])));
    assert!(matches!(disk.identity.kinship(&part.identity), Kinship::Different(..)));
    assert_eq!(disk.cache, part.cache);
    assert_eq!(part.geometry.capacity(), 1024);
    assert!(refused.contains("is claimed"), "{refused}");
}

/// Compares ring and threads over the same sequence.
#[test]
fn ring_and_threads_leave_the_same_bytes() {
    let Some(loops) = require_loops(2, SIZE) else { return };
    let mut images = Vec::new();
    for mode in MODES {
        let mut rig = Rig::new(BlockDevice::new(loops.device(0)), mode);
        assert_eq!(rig.run(Operation::WriteZeroes(Unmap::Allowed), extent(0, 2048), None).result, Ok(0));
        for step in 0..64_u64 {
            let (start, blocks) = (step * 37 % 1900, 1 + u32::try_from(step % 9).unwrap());
            let operation = if step % 3 == 0 { FUA } else { WRITE };
            rig.write(operation, extent(start, blocks), u8::try_from(step).unwrap() | 0x80);
        }
        let buffer = rig.buffer(2048, 0);
        images.push(rig.run(Operation::Read, extent(0, 2048), Some(buffer)).buffer.unwrap().to_vec());
    }
    assert_eq!(images[0], images[1]);
}

#[test]
fn a_dropped_queue_gives_its_claim_back_while_the_reactor_lives() {
    let Some(loops) = require_loops(1, SIZE) else { return };
    let Rig { device, description: _, pool, mut reactor, .. } =
        Rig::new(BlockDevice::new(loops.device(0)), Mode::Ring);
    drop(device);
    reactor.flush();
    let mut rig = Rig::with(BlockDevice::new(loops.device(0)), pool, reactor);
    rig.write(WRITE, extent(0, 1), 9);
}

/// The thread that submitted is alive, asleep in something else, while another waits for the results.
#[test]
fn results_arrive_at_a_thread_that_sleeps_on_the_wake_descriptor() {
    let Some(loops) = require_loops(1, SIZE) else { return };
    let (to_reaper, moved) = mpsc::channel();
    let (to_submitter, reaped) = mpsc::channel::<()>();
    let device = BlockDevice::new(loops.device(0));
    let submitter = thread::spawn(move || {
        let mut rig = Rig::new(device, Mode::Ring);
        for block in 0..16 {
            let buffer = rig.buffer(1, 0);
            rig.submit(Operation::Read, extent(block, 1), Some(buffer)).unwrap();
        }
        rig.reactor.flush();
        to_reaper.send(rig).unwrap();
        reaped.recv().unwrap();
    });
    let mut rig = moved.recv().unwrap();
    let mut ends = rig.poll();
    while ends.len() < 16 {
        rig.sleep_on_wake_fd();
        ends.extend(rig.poll());
    }
    to_submitter.send(()).unwrap();
    submitter.join().unwrap();
    let buffer = rig.buffer(1, 0);
    rig.submit(Operation::Read, extent(0, 1), Some(buffer)).unwrap();
    while rig.poll().is_empty() {
        rig.sleep_on_wake_fd();
    }
}
