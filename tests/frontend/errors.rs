//! Errors come through as errors, and flushes as flushes.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use mpio::frontend::fuse::Options;
use mpio::path::Fault;
use mpio::{Cause, DeviceError, Operation};

use crate::direct::{Direct, pattern};
use crate::medium::{WRITE, soon};
use crate::rig::{Plan, Rig, can_serve};

const ENODATA: i32 = 61;
const EIO: i32 = 5;
const ETIMEDOUT: i32 = 110;
const ENOSPC: i32 = 28;

#[test]
fn a_sync_reaches_the_volume() {
    let Some(rig) = Rig::required(Plan::default()) else { return };
    let device = Direct::open(rig.device());
    for round in 0..3 {
        device.write(0, &pattern(round, 4096), 0).unwrap();
        let before = rig.medium.state().count(Operation::Flush);
        device.sync().unwrap();
        assert_eq!(rig.medium.state().count(Operation::Flush), before + 1, "round {round}");
    }
}

#[test]
fn a_request_that_is_past_its_deadline_is_an_error() {
    if !can_serve() {
        return;
    }
    let options = Options::new().deadline(Duration::from_millis(50));
    let rig = Rig::try_new(Plan::default(), &options).unwrap();
    let device = Direct::open(rig.device());
    rig.medium.hold();
    assert_eq!(device.read(0, 4096, 0).unwrap_err().raw_os_error(), Some(ETIMEDOUT));
    rig.medium.release();
    device.write(0, &pattern(1, 4096), 0).unwrap();
}

#[test]
fn what_was_cached_is_written_before_it_is_flushed() {
    let Some(rig) = Rig::required(Plan::default()) else { return };
    let mut file = File::options().write(true).open(rig.device()).unwrap();
    file.write_all(&pattern(7, 1 << 20)).unwrap();
    file.sync_all().unwrap();
    let state = rig.medium.state();
    assert!(state.data[..1 << 20] == pattern(7, 1 << 20));
    let last = |operation| state.seen.iter().rposition(|seen| seen.0 == operation).unwrap();
    assert!(last(Operation::Flush) > last(WRITE));
}

#[test]
fn a_flush_that_fails_is_an_error_every_time_and_once_more_to_each_other_queue() {
    let plan = Plan::default();
    let others = usize::from(plan.queues) - 1;
    let Some(rig) = Rig::required(plan) else { return };
    let device = Direct::open(rig.device());
    for fault in
        [DeviceError::Medium, DeviceError::Unsupported, DeviceError::Rejected, DeviceError::Other(38)]
    {
        device.write(0, &pattern(1, 512), 0).unwrap();
        rig.medium.state().fail_flushes = Some(Fault::Final(fault));
        for _ in 0..2 {
            assert_eq!(device.sync().unwrap_err().raw_os_error(), Some(EIO), "{fault:?}");
        }
        rig.medium.state().fail_flushes = None;
        let before = rig.medium.state().count(Operation::Flush);
        let told = (0..=others).filter(|_| device.sync().is_err()).count();
        assert!(told <= others, "{fault:?}: {told}");
        assert!(rig.medium.state().count(Operation::Flush) > before, "{fault:?}");
    }
}

#[test]
fn reads_and_writes_that_fail_are_errors_of_the_kind_that_they_are() {
    let Some(rig) = Rig::required(Plan::default()) else { return };
    let device = Direct::open(rig.device());
    for (fault, errno) in [
        (Fault::Final(DeviceError::Medium), ENODATA),
        (Fault::Final(DeviceError::NoSpace), ENOSPC),
        (Fault::Final(DeviceError::Other(38)), EIO),
        (Fault::Unknown { cause: Cause::Disconnected, fence: Some(mpio::path::FenceGrade::Proven) }, EIO),
    ] {
        for len in [512, 4096, 1 << 20, 2 << 20] {
            rig.medium.state().fail_reads = Some(fault);
            rig.medium.state().fail_writes = Some(fault);
            let read = device.read(0, len, 0).unwrap_err().raw_os_error();
            let written = device.write(0, &pattern(3, len), 0).unwrap_err().raw_os_error();
            assert_eq!((read, written), (Some(errno), Some(errno)), "{fault:?}, {len} bytes");
            rig.medium.state().fail_reads = None;
            rig.medium.state().fail_writes = None;
        }
    }
    // A path that failed so is back as soon as it is probed.
    soon("the path is down", || device.write(0, &pattern(4, 4096), 0).is_ok());
    assert!(device.read(0, 4096, 0).unwrap() == pattern(4, 4096));
}
