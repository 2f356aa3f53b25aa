//! What can be connected, what cannot, and what is said of it.

use std::time::Duration;

use crossbeam::channel::{Receiver, unbounded};

use super::rig::{FIRST, MODES, Rig, extent};
use crate::error::Cause;
use crate::io::{Durability, Operation, PathId};
use crate::path::{
    BlockDevice, Cache, ControlReport, ControlSink, FenceSupport, IdentifierKind, Incarnation, News, Path,
    QueueIndex,
};
use crate::testing_support::{TempDir, run, skip};

const BRIEF: Duration = Duration::from_millis(30);

fn refusal(path: impl Into<std::path::PathBuf>) -> String {
    BlockDevice::new(path).claim_timeout(BRIEF).connect(FIRST).unwrap_err().to_string()
}

fn sink(incarnation: Incarnation) -> (ControlSink, Receiver<ControlReport>) {
    let (sender, receiver) = unbounded();
    let deliver = move |report| {
        let _ = sender.send(report);
    };
    (ControlSink::new(PathId::new(0, 0), incarnation, deliver), receiver)
}

#[test]
fn a_file_says_what_it_is() {
    let dir = TempDir::new();
    let path = dir.file("disk", (1 << 20) + 100);
    let mut device =
        BlockDevice::new(&path).block_size(4096).depth(17).fenced_by(FenceSupport::Assumed(BRIEF));
    let description = device.connect(FIRST).unwrap();
    assert_eq!((description.geometry.block_size(), description.geometry.capacity()), (4096, 256));
    assert_eq!(description.identity.identifiers()[0].kind, IdentifierKind::File);
    assert!(matches!(description.cache, Cache::Shared(_)));
    assert_eq!((description.depth, description.fence), (17, FenceSupport::Assumed(BRIEF)));
    assert!(description.limits.write_zeroes_blocks.get() > 0);
    assert_eq!(device.name(), path.display().to_string());
}

#[test]
fn what_is_no_device_is_refused_with_a_reason() {
    let dir = TempDir::new();
    let missing = refusal(dir.path().join("missing"));
    assert!(missing.contains("looking up") && missing.contains("No such file"), "{missing}");
    assert!(refusal(dir.path()).contains("is a directory; name a block device"));
    assert!(refusal("/dev/null").contains("is a character device"));
    assert!(refusal(dir.file("empty", 0)).contains("has no bytes"));
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let dir = TempDir::new();
    let device = || BlockDevice::new(dir.file("disk", 1 << 20));
    for (wrong, name) in [(device().depth(0), "depth"), (device().depth(70_000), "depth")] {
        let mut wrong = wrong;
        assert!(wrong.connect(FIRST).unwrap_err().to_string().starts_with(name));
    }
    assert!(device().block_size(1000).connect(FIRST).unwrap_err().to_string().contains("power of two"));
}

#[test]
fn a_file_has_one_claim_that_lives_as_long_as_its_queue() {
    for mode in MODES {
        let dir = TempDir::new();
        let path = dir.file("disk", 1 << 20);
        let mut rig = Rig::new(BlockDevice::new(&path), mode);
        assert!(refusal(&path).contains("is claimed by this process already"));
        rig.write(Operation::Write(Durability::Cached), extent(0, 1), 1);
        drop(rig);
        BlockDevice::new(&path).connect(FIRST).unwrap();
    }
}

#[test]
fn a_claim_that_is_released_in_time_is_waited_for() {
    let dir = TempDir::new();
    let path = dir.file("disk", 1 << 20);
    let mut first = BlockDevice::new(&path);
    first.connect(FIRST).unwrap();
    let second = std::thread::spawn(move || {
        BlockDevice::new(path).claim_timeout(Duration::from_mins(1)).connect(FIRST)
    });
    drop(first);
    second.join().unwrap().unwrap();
}

#[test]
fn connecting_again_keeps_what_stands_and_replaces_what_is_gone() {
    let dir = TempDir::new();
    let path = dir.file("disk", 1 << 20);
    let mut device = BlockDevice::new(&path).block_size(4096);
    let first = device.connect(FIRST).unwrap();
    assert_eq!(device.connect(FIRST).unwrap(), first);
    std::fs::rename(&path, dir.path().join("old")).unwrap();
    dir.file("disk", 1 << 21);
    let second = device.connect(FIRST).unwrap();
    assert_ne!(second.identity, first.identity);
    assert_eq!(second.geometry.capacity(), 512);
}

#[test]
fn a_queue_needs_a_connection() {
    let error = BlockDevice::new("/dev/null").open_queue(QueueIndex(0)).err().unwrap();
    assert!(error.to_string().contains("is not connected"));
}

#[test]
fn a_probe_reports_health_and_a_new_size() {
    let dir = TempDir::new();
    let path = dir.file("disk", 1 << 20);
    let mut device = BlockDevice::new(&path).block_size(4096);
    let (sink, reports) = sink(Incarnation::NONE.next());
    device.probe(sink.clone());
    assert!(matches!(reports.try_recv().unwrap().news, News::Probed(Err(Cause::NotConnected))));
    device.connect(FIRST).unwrap();
    device.probe(sink.clone());
    assert!(matches!(reports.try_recv().unwrap().news, News::Probed(Ok(()))));
    dir.file("disk", 1 << 21);
    device.probe(sink.clone());
    assert!(matches!(reports.try_recv().unwrap().news, News::Capacity(512)));
    assert!(matches!(reports.try_recv().unwrap().news, News::Probed(Ok(()))));
    std::fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    device.probe(sink);
    assert!(matches!(reports.try_recv().unwrap().news, News::Probed(Err(Cause::NotConnected))));
}

#[test]
fn a_file_on_a_read_only_file_system_is_refused() {
    let dir = TempDir::new();
    let place = dir.path().join("mount");
    std::fs::create_dir(&place).unwrap();
    let place = place.display().to_string();
    if !run("mount", &["-t", "tmpfs", "none", &place]) {
        return skip("mounting needs root");
    }
    dir.file("mount/disk", 1 << 20);
    let is_read_only = run("mount", &["-o", "remount,ro", &place]);
    let refused = refusal(dir.path().join("mount/disk"));
    run("umount", &[&place]);
    assert!(is_read_only && refused.contains("is read-only"), "{refused}");
}
