//! What is written is what is read, whatever the size.

use std::thread;

use mpio::Limits;

use crate::direct::{Direct, pattern};
use crate::mount::Mount;
use crate::rig::{CAPACITY, Plan, Rig};
use crate::testing_support::TempDir;

const KIB: usize = 1024;
const SIZES: [usize; 10] = [
    512,
    1536,
    4 * KIB,
    64 * KIB,
    64 * KIB + 512,
    100 * KIB,
    KIB * KIB,
    KIB * KIB + 512,
    2 * KIB * KIB,
    3 * KIB * KIB,
];

#[test]
fn what_is_written_is_on_the_medium_and_is_read_back() {
    let Some(rig) = Rig::required(Plan::default()) else { return };
    let device = Direct::open(rig.device());
    let (mut offset, last) = (512, usize::try_from(CAPACITY * 512).unwrap());
    for (seed, len) in SIZES.into_iter().enumerate() {
        let data = pattern(seed as u64, len);
        device.write(offset as u64, &data, 0).unwrap();
        assert!(rig.medium.state().data[offset..][..len] == data, "{len} bytes on the medium");
        assert!(device.read(offset as u64, len, 0).unwrap() == data, "{len} bytes read");
        assert!(rig.medium.state().data[offset + len..last].iter().all(|&byte| byte == 0xee), "{len}");
        offset += len;
    }
    device.write(last as u64 - 512, &pattern(99, 512), 0).unwrap();
    assert_eq!(device.read(last as u64 - 512, 512, 0).unwrap(), pattern(99, 512));
}

#[test]
fn large_blocks_are_not_cut_by_memory_that_is_not_aligned_to_them() {
    let Some(rig) = Rig::required(Plan { block_size: 4096, ..Plan::default() }) else { return };
    let device = Direct::open(rig.device());
    for skew in [0, 512, 1024, 3584] {
        for len in [4 * KIB, 64 * KIB, KIB * KIB, 3 * KIB * KIB] {
            let data = pattern((skew + len) as u64, len);
            device.write(8192, &data, skew).unwrap();
            assert!(rig.medium.state().data[8192..][..len] == data, "{len} bytes at {skew}");
            assert!(device.read(8192, len, skew).unwrap() == data, "{len} bytes at {skew}");
        }
    }
}

#[test]
fn a_volume_with_small_transfers_serves_large_ones() {
    let limits = Limits::new(20 * 1024);
    let Some(rig) = Rig::required(Plan { limits, ..Plan::default() }) else { return };
    let device = Direct::open(rig.device());
    let data = pattern(5, 3 * KIB * KIB);
    device.write(4096, &data, 0).unwrap();
    assert!(device.read(4096, data.len(), 0).unwrap() == data);
}

/// Eight threads, each on blocks of its own.
fn many_at_once(plan: Plan) {
    let Some(rig) = Rig::required(plan) else { return };
    thread::scope(|scope| {
        for number in 0..8_u64 {
            let device = Direct::open(rig.device());
            scope.spawn(move || {
                for round in 0..60_u64 {
                    let len = SIZES[usize::try_from(round * 3 + number).unwrap() % 7];
                    let offset = number * (2 << 20) + round % 4 * 512;
                    let data = pattern(number << 32 | round, len);
                    device.write(offset, &data, 0).unwrap();
                    assert!(device.read(offset, len, 0).unwrap() == data, "{len} bytes of {number}");
                }
            });
        }
    });
}

#[test]
fn many_at_once_do_not_meet() {
    many_at_once(Plan::default());
}

#[test]
fn many_at_once_wait_for_a_queue_of_one_request() {
    many_at_once(Plan { depth: 1, ..Plan::default() });
}

#[test]
fn many_at_once_wait_for_memory() {
    many_at_once(Plan { buffers: 1, ..Plan::default() });
}

#[test]
fn a_file_system_lives_on_it() {
    let Some(rig) = Rig::required(Plan::default()) else { return };
    let dir = TempDir::new();
    let target = dir.path().join("mount");
    let mount = Mount::new(rig.device(), &target).unwrap();
    let data = pattern(1, 5 << 20);
    std::fs::write(mount.path().join("file"), &data).unwrap();
    drop(mount);
    let mount = Mount::again(rig.device(), &target).unwrap();
    assert!(std::fs::read(mount.path().join("file")).unwrap() == data);
    drop(mount);
    assert!(crate::testing_support::run("fsck.ext4", &["-f", "-n", &rig.node()]));
    rig.server.stop(crate::medium::PATIENCE).unwrap();
}
