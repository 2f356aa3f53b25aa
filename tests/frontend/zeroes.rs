//! Discards and zeroes.

use mpio::path::Fault;
use mpio::{BlockCount, DeviceError, Limits, Operation};

use crate::attachment::attribute;
use crate::direct::Direct;
use crate::medium::{UNMAP, WRITE, ZERO};
use crate::rig::{Plan, Rig};
use crate::testing_support::run;

const OFFSET: usize = 1 << 20;
const LEN: usize = 5 << 20;

/// Runs a command that zeroes, and checks that it did, and nothing beside.
fn zeroed(rig: &Rig, program: &str, arguments: &[&str]) {
    rig.medium.state().data.fill(0xee);
    let (offset, len, node) = (OFFSET.to_string(), LEN.to_string(), rig.node());
    let mut all = arguments.to_vec();
    all.extend(["--offset", &offset, "--length", &len, &node]);
    assert!(run(program, &all), "{program} {all:?}");
    let device = Direct::open(rig.device());
    for at in [OFFSET, OFFSET + (2 << 20), OFFSET + LEN - 4096] {
        assert!(device.read(at as u64, 4096, 0).unwrap().iter().all(|&byte| byte == 0), "{program} {all:?}");
    }
    let state = rig.medium.state();
    assert!(state.data[OFFSET..][..LEN].iter().all(|&byte| byte == 0), "{program} {all:?}");
    assert!(state.data[..OFFSET].iter().chain(&state.data[OFFSET + LEN..]).all(|&byte| byte == 0xee));
}

fn all_ways(rig: &Rig) {
    zeroed(rig, "blkdiscard", &["--zeroout"]);
    zeroed(rig, "blkdiscard", &[]);
    zeroed(rig, "fallocate", &["--punch-hole", "--keep-size"]);
    zeroed(rig, "fallocate", &["--zero-range", "--keep-size"]);
    // Still what the kernel would ask for.
    for name in ["queue/write_zeroes_max_bytes", "queue/discard_max_bytes"] {
        assert_ne!(attribute(rig.device(), name).unwrap(), "0", "{name}");
    }
    assert_eq!(rig.medium.state().count(Operation::Discard), 0, "what a discard leaves is not zeroes");
}

#[test]
fn discards_and_zeroes_read_back_as_zeroes() {
    let Some(rig) = Rig::required(Plan::default()) else { return };
    all_ways(&rig);
    let state = rig.medium.state();
    assert!(state.count(UNMAP) > 0 && state.count(ZERO) > 0 && state.count(WRITE) == 0);
}

#[test]
fn a_request_for_more_zeroes_than_the_volume_takes_goes_in_parts() {
    let limits =
        Limits::new(1 << 20).with_write_zeroes(BlockCount::new(24)).with_discard(BlockCount::new(24));
    let Some(rig) = Rig::required(Plan { limits, ..Plan::default() }) else { return };
    all_ways(&rig);
    assert!(rig.medium.state().count(UNMAP) > LEN / 512 / 24);
}

/// What gives blocks back is not offered, and has nothing written: a new file system would have its whole disk zeroed.
fn discards_nothing(rig: &Rig) {
    rig.medium.state().data.fill(0xee);
    let (len, node) = (LEN.to_string(), rig.node());
    // To the kernel a discard is a hint: it does not say that nothing came of it.
    run("blkdiscard", &[&node]);
    assert!(!run("fallocate", &["--punch-hole", "--keep-size", "--length", &len, &node]));
    assert!(rig.medium.state().data.iter().all(|&byte| byte == 0xee));
}

#[test]
fn a_volume_that_cannot_discard_offers_no_discards() {
    let limits = Limits::new(1 << 20).with_write_zeroes(BlockCount::new(2048));
    let Some(rig) = Rig::required(Plan { limits, ..Plan::default() }) else { return };
    zeroed(&rig, "blkdiscard", &["--zeroout"]);
    zeroed(&rig, "fallocate", &["--zero-range", "--keep-size"]);
    assert!(rig.medium.state().count(ZERO) > 0);
    discards_nothing(&rig);
    // The kernel asks for zeroes no more when it was refused a discard, and writes them itself.
    zeroed(&rig, "blkdiscard", &["--zeroout"]);
}

#[test]
fn without_write_zeroes_there_are_writes() {
    let limits = Limits::new(1 << 20).with_discard(BlockCount::new(2048));
    let Some(rig) = Rig::required(Plan { limits, ..Plan::default() }) else { return };
    discards_nothing(&rig);
    zeroed(&rig, "blkdiscard", &["--zeroout"]);
    zeroed(&rig, "fallocate", &["--zero-range", "--keep-size"]);
    let state = rig.medium.state();
    assert!(state.count(WRITE) > 0 && state.count(ZERO) + state.count(UNMAP) == 0);
}

#[test]
fn where_the_device_turns_out_not_to_zero_there_are_writes() {
    let Some(rig) = Rig::required(Plan::default()) else { return };
    rig.medium.state().fail_zeroes = Some(Fault::Final(DeviceError::Unsupported));
    all_ways(&rig);
}

#[test]
fn zeroes_that_fail_are_an_error_and_later_ones_are_not() {
    let Some(rig) = Rig::required(Plan::default()) else { return };
    rig.medium.state().fail_zeroes = Some(Fault::Final(DeviceError::Medium));
    assert!(!run("blkdiscard", &[&rig.node()]), "a discard that failed");
    rig.medium.state().fail_zeroes = None;
    all_ways(&rig);
}
