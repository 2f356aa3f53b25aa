//! How serving ends.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use mpio::Volume;
use mpio::frontend::fuse::{Buffers, Ended, Options, Server};
use mpio::path::{BlockDevice, Faulty, Stall};

use crate::attachment::Attachment;
use crate::control::Connections;
use crate::direct::{Direct, pattern};
use crate::medium::{PATIENCE, soon};
use crate::rig::{Plan, Rig, can_serve, queues};
use crate::testing_support::require_loops;

const EBUSY: i32 = 16;
const NOW: Duration = Duration::ZERO;

fn errno(error: mpio::Error) -> i32 {
    std::io::Error::from(error).raw_os_error().unwrap()
}

/// Reads from the device in a process of its own, so that this one can end if that hangs.
fn reader(device: &Path) -> Child {
    let from = format!("if={}", device.display());
    let dd = ["iflag=direct", "of=/dev/null", "bs=4096", "count=1", &from];
    Command::new("dd").args(dd).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_stopped_server_has_written_what_was_cached_and_leaves_nothing() {
    let Some(rig) = Rig::required(Plan::default()) else { return };
    let Some(connections) = Connections::required() else { return };
    File::options().write(true).open(rig.device()).unwrap().write_all(&pattern(3, 2 << 20)).unwrap();
    let attachment = Attachment::of(rig.device());
    assert!(connections.has(rig.server.connection()));
    assert_eq!(rig.server.ended(), None);
    rig.server.stop(PATIENCE).unwrap();
    assert!(rig.medium.state().data[..2 << 20] == pattern(3, 2 << 20));
    assert_eq!(rig.server.ended(), Some(Ended::Detached));
    assert!(!attachment.stands());
    soon("the connection is listed", || !connections.has(rig.server.connection()));
    rig.server.stop(NOW).unwrap();
}

#[test]
fn a_device_in_use_is_served_on_until_its_last_user_goes() {
    let Some(rig) = Rig::required(Plan::default()) else { return };
    let (device, attachment) = (Direct::open(rig.device()), Attachment::of(rig.device()));
    assert_eq!(errno(rig.server.stop(Duration::from_millis(50)).unwrap_err()), EBUSY);
    device.write(4096, &pattern(1, 4096), 0).unwrap();
    assert_eq!(device.read(4096, 4096, 0).unwrap(), pattern(1, 4096));
    assert_eq!(errno(rig.server.stop(NOW).unwrap_err()), EBUSY);
    assert_eq!(rig.server.ended(), None);
    drop(device);
    assert_eq!(rig.server.ended_within(PATIENCE), Some(Ended::Detached));
    rig.server.stop(PATIENCE).unwrap();
    assert!(!attachment.stands());
}

#[test]
fn what_cannot_be_written_is_said_and_the_server_serves_on() {
    let Some(rig) = Rig::required(Plan::default()) else { return };
    rig.medium.state().fail_writes = Some(mpio::path::Fault::Final(mpio::DeviceError::NoSpace));
    File::options().write(true).open(rig.device()).unwrap().write_all(&pattern(3, 4096)).unwrap();
    let refusal = rig.server.stop(PATIENCE).unwrap_err().to_string();
    assert!(refusal.contains("what the kernel has cached"), "{refusal}");
    rig.medium.state().fail_writes = None;
    Direct::open(rig.device()).write(0, &pattern(4, 4096), 0).unwrap();
    rig.server.stop(PATIENCE).unwrap();
}

#[test]
fn a_forced_end_fails_what_hangs() {
    let Some(rig) = Rig::required(Plan::default()) else { return };
    let attachment = Attachment::of(rig.device());
    rig.medium.hold();
    let mut hung = [reader(rig.device()), reader(rig.device()), reader(rig.device())];
    rig.medium.wait_for_held(3);
    assert_eq!(errno(rig.server.stop(Duration::from_millis(50)).unwrap_err()), EBUSY);
    rig.server.abort();
    assert_eq!(rig.server.ended_within(PATIENCE), Some(Ended::Aborted));
    for reader in &mut hung {
        assert!(!reader.wait().unwrap().success());
    }
    assert_eq!(errno(rig.server.stop(PATIENCE).unwrap_err()), 103, "ECONNABORTED");
    // The device goes when the last channel is closed, a moment after the first thread has said that it ended.
    soon("the device is attached", || !attachment.stands());
    rig.medium.release();
}

#[test]
fn dropping_a_server_fails_what_hangs() {
    let Some(rig) = Rig::required(Plan::default()) else { return };
    rig.medium.hold();
    let mut hung = reader(rig.device());
    rig.medium.wait_for_held(1);
    let Rig { server, medium, volume } = rig;
    drop(server);
    assert!(!hung.wait().unwrap().success());
    medium.release();
    drop(volume);
}

#[test]
fn an_aborted_connection_ends_the_server_and_its_requests_complete() {
    let Some(rig) = Rig::required(Plan::default()) else { return };
    let Some(connections) = Connections::required() else { return };
    let attachment = Attachment::of(rig.device());
    rig.medium.hold();
    let mut hung = reader(rig.device());
    rig.medium.wait_for_held(1);
    connections.abort(rig.server.connection());
    assert_eq!(rig.server.ended_within(PATIENCE), Some(Ended::Aborted));
    assert!(!hung.wait().unwrap().success());
    // The device goes when the last channel is closed, a moment after the first thread has said that it ended.
    soon("the device is attached", || !attachment.stands());
    rig.medium.release();
    // The volume is as good as before: nothing is under way on it any more.
    rig.volume.close(PATIENCE).wait(PATIENCE);
}

#[test]
fn two_servers_do_not_meet() {
    let (Some(one), Some(other)) = (Rig::required(Plan::default()), Rig::required(Plan::default())) else {
        return;
    };
    assert_ne!(one.device(), other.device());
    let device = Direct::open(other.device());
    device.write(0, &pattern(2, 65536), 0).unwrap();
    Direct::open(one.device()).write(0, &pattern(1, 65536), 0).unwrap();
    one.server.abort();
    assert_eq!(one.server.ended_within(PATIENCE), Some(Ended::Aborted));
    assert!(device.read(0, 65536, 0).unwrap() == pattern(2, 65536));
    assert_eq!(other.server.ended(), None);
    drop(device);
    other.server.stop(PATIENCE).unwrap();
}

#[test]
fn a_device_that_is_asked_for_by_name_is_waited_for() {
    if !can_serve() {
        return;
    }
    // One that nobody else is given.
    let wanted = PathBuf::from(format!("/dev/loop{}", 6000 + std::process::id() % 64));
    let first = Rig::try_new(Plan::default(), &Options::new().device(&wanted)).unwrap();
    let user = Direct::open(&wanted);
    assert_eq!(errno(first.server.stop(NOW).unwrap_err()), EBUSY);
    let second = thread::scope(|scope| {
        let options = Options::new().device(&wanted);
        let second = scope.spawn(move || Rig::try_new(Plan::default(), &options).unwrap());
        user.write(0, &pattern(1, 512), 0).unwrap();
        drop(user);
        second.join().unwrap()
    });
    assert_eq!(second.device(), wanted);
    assert_eq!(first.server.ended_within(PATIENCE), Some(Ended::Detached));
    Direct::open(&wanted).write(0, &pattern(2, 512), 0).unwrap();
    assert!(second.medium.state().data[..512] == pattern(2, 512));
}

/// A queue over a block device sleeps on its ring, which then has the channel in hand too.
fn hung_in_a_ring(end: impl FnOnce(&Server)) {
    if !can_serve() {
        return;
    }
    let Some(loops) = require_loops(1, 1 << 20) else { return };
    let (path, faults) = Faulty::new(BlockDevice::new(loops.device(0)), 1);
    let buffers = Buffers::new(1, 8).unwrap();
    let volume = buffers.register(Volume::builder()).path(path).build().unwrap();
    let server = Server::start(queues(&volume), buffers, &Options::new()).unwrap();
    assert!(reader(server.device()).wait().unwrap().success());
    faults.stall(Stall::Lost { land_after: None });
    let mut hung = reader(server.device());
    soon("no request is out", || volume.status().paths[0].in_flight() > 0);
    // The thread sleeps when nothing has come back for as long as this.
    assert_eq!(server.ended_within(Duration::from_millis(300)), None);
    let attachment = Attachment::of(server.device());
    end(&server);
    assert_eq!(server.ended_within(PATIENCE), Some(Ended::Aborted));
    assert!(!hung.wait().unwrap().success());
    soon("the device is attached", || !attachment.stands());
    faults.restore();
}

#[test]
fn a_forced_end_fails_what_hangs_in_a_ring() {
    hung_in_a_ring(Server::abort);
}

#[test]
fn an_aborted_connection_fails_what_hangs_in_a_ring() {
    let Some(connections) = Connections::required() else { return };
    hung_in_a_ring(|server| connections.abort(server.connection()));
}
