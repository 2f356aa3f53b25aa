//! A server that is killed: the kernel cleans up after it.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use mpio::frontend::fuse::Options;

use crate::child::Serving;
use crate::direct::{Direct, pattern};
use crate::medium::{PATIENCE, soon};
use crate::rig::{Plan, Rig, can_serve};
use crate::testing_support::TempDir;

/// Killed, it leaves no loop device and no file system behind, and a new one starts at once.
fn leaves_nothing(mut serving: Serving) {
    serving.kill();
    // A program that another test is just starting has all of this one's files open for a moment.
    soon("the device is attached", || !serving.attachment.stands());
    let again = Rig::try_new(Plan::default(), &Options::new()).unwrap();
    Direct::open(again.device()).write(0, &pattern(1, 4096), 0).unwrap();
    again.server.stop(PATIENCE).unwrap();
}

#[test]
fn an_idle_server_that_is_killed_leaves_nothing() {
    if can_serve() {
        leaves_nothing(Serving::start("serve"));
    }
}

#[test]
fn a_server_with_cached_writes_that_is_killed_leaves_nothing() {
    if !can_serve() {
        return;
    }
    let serving = Serving::start("serve");
    File::options().write(true).open(&serving.device).unwrap().write_all(&pattern(1, 8 << 20)).unwrap();
    leaves_nothing(serving);
}

#[test]
fn a_server_that_sleeps_on_rings_leaves_nothing_when_killed() {
    if !can_serve() {
        return;
    }
    let dir = TempDir::in_memory();
    let file = dir.file("volume", 64 << 20);
    let serving = Serving::start(file.to_str().unwrap());
    let device = Direct::open(&serving.device);
    device.write(0, &pattern(1, 1 << 20), 0).unwrap();
    drop(device);
    File::options().write(true).open(&serving.device).unwrap().write_all(&pattern(2, 32 << 20)).unwrap();
    leaves_nothing(serving);
}

#[test]
fn a_server_under_load_that_is_killed_leaves_nothing() {
    if !can_serve() {
        return;
    }
    let mut serving = Serving::start("serve");
    serving.go();
    serving.wait_for("held");
    let to = format!("of={}", serving.device.display());
    let dd = ["if=/dev/zero", "oflag=direct", "bs=1M", &to];
    let mut load = Command::new("dd").args(dd).stderr(Stdio::null()).spawn().unwrap();
    serving.wait_for("has a write");
    serving.kill();
    assert!(!load.wait().unwrap().success());
    leaves_nothing(serving);
}

/// The thread that closes the device waits for cached writes, which wait for the volume, when the process is killed.
#[test]
fn a_stopping_server_whose_volume_hangs_leaves_nothing_when_killed() {
    if !can_serve() {
        return;
    }
    let mut serving = Serving::start("hold and stop");
    File::options().write(true).open(&serving.device).unwrap().write_all(&pattern(1, 8 << 20)).unwrap();
    serving.go();
    serving.wait_for("has a write");
    leaves_nothing(serving);
}

#[test]
fn a_live_server_does_not_notice_another_being_killed() {
    let Some(rig) = Rig::required(Plan::default()) else { return };
    let device = Direct::open(rig.device());
    device.write(0, &pattern(1, 65_536), 0).unwrap();
    leaves_nothing(Serving::start("serve"));
    assert!(device.read(0, 65_536, 0).unwrap() == pattern(1, 65_536));
    assert_eq!(rig.server.ended_within(Duration::ZERO), None);
    drop(device);
    rig.server.stop(PATIENCE).unwrap();
}
