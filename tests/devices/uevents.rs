//! Volumes that hear what the kernel says of their devices. No path is looked at by itself before an hour has passed, so that
//! whatever is seen was heard of.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mpio::path::{BlockDevice, ControlSink, Description, Incarnation, OpenQueue, Path as Way, QueueIndex};
use mpio::{Error, Event, EventKind, Events, Health, PathStatus, Tick, Volume, VolumeBuilder};

use crate::testing_support::{TempDir, require_loops, run};

const NEVER: Duration = Duration::from_hours(1);
/// More than any machine needs.
const PATIENCE: Duration = Duration::from_mins(1);

fn builder() -> VolumeBuilder {
    let builder = Volume::builder().check_interval(NEVER).probe_interval(NEVER).suspect_after(NEVER);
    builder.start_timeout(Duration::from_secs(1))
}

/// The first event that is `wanted`.
fn heard(events: &Events, wanted: impl Fn(&EventKind) -> bool) -> Event {
    let began = Tick::now();
    let mut seen = Vec::new();
    while let Some(event) = events.next_within(PATIENCE.saturating_sub(Tick::now().since(began))) {
        if wanted(&event.kind) {
            return event;
        }
        seen.push(event);
    }
    panic!("not within {PATIENCE:?}; but {seen:?}");
}

/// A path that counts how often it is connected and probed.
struct Counted(BlockDevice, Arc<AtomicU32>);

impl Way for Counted {
    fn name(&self) -> String {
        self.0.name()
    }

    fn connect(&mut self, incarnation: Incarnation) -> Result<Description, Error> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.connect(incarnation)
    }

    fn open_queue(&mut self, queue: QueueIndex) -> Result<Box<dyn OpenQueue>, Error> {
        self.0.open_queue(queue)
    }

    fn probe(&mut self, sink: ControlSink) {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.probe(sink);
    }
}

/// Has the kernel say once more that a device is other than it was.
fn announce(device: &Path) {
    let name = device.file_name().unwrap().to_str().unwrap();
    fs::write(format!("/sys/class/block/{name}/uevent"), "change").unwrap();
}

fn paths(volume: &Volume) -> Vec<PathStatus> {
    volume.status().paths
}

#[test]
fn a_device_that_grows_is_looked_at_at_once() {
    let Some(loops) = require_loops(2, 8 << 20) else { return };
    let volume = builder().path(BlockDevice::new(loops.device(0))).path(BlockDevice::new(loops.device(1)));
    let volume = volume.build().unwrap();
    let events = volume.events();
    volume.follow_devices().unwrap();
    fs::OpenOptions::new().write(true).open(loops.file()).unwrap().set_len(16 << 20).unwrap();
    for device in [0, 1] {
        assert!(run("losetup", &["--set-capacity", loops.device(device).to_str().unwrap()]));
    }
    for _ in 0..2 {
        heard(&events, |kind| matches!(kind, EventKind::Capacity(32_768)));
    }
    assert_eq!(volume.grow().unwrap().bytes(), 16 << 20);
}

#[test]
fn a_path_that_is_down_is_tried_when_a_disk_comes_or_changes() {
    let Some(loops) = require_loops(2, 8 << 20) else { return };
    let dir = TempDir::new();
    let name = dir.path().join("disk");
    let volume = builder().path(BlockDevice::new(loops.device(0))).path(BlockDevice::new(&name));
    let volume = volume.build().unwrap();
    let events = volume.events();
    volume.follow_devices().unwrap();
    assert_eq!(paths(&volume)[1].health, Health::Down);
    symlink(loops.device(1), &name).unwrap();
    announce(loops.device(1));
    heard(&events, |kind| matches!(kind, EventKind::Up(_)));
    assert_eq!(paths(&volume)[1].health, Health::Up);
}

#[test]
fn a_storm_of_uevents_has_paths_looked_at_a_few_times_a_second() {
    let Some(loops) = require_loops(2, 8 << 20) else { return };
    // The first is probed at each look, the second connected.
    let dir = TempDir::new();
    let name = dir.path().join("disk");
    let counts = [Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0))];
    let first = Counted(BlockDevice::new(loops.device(0)), Arc::clone(&counts[0]));
    let second = Counted(BlockDevice::new(&name), Arc::clone(&counts[1]));
    let volume = builder().path(first).path(second).build().unwrap();
    let began = Tick::now();
    volume.follow_devices().unwrap();
    for _ in 0..5_000 {
        announce(loops.device(0));
        announce(loops.device(1));
    }
    // It still hears: of what may have been too much for the socket, all is looked at.
    let events = volume.events();
    symlink(loops.device(1), &name).unwrap();
    announce(loops.device(1));
    let up = heard(&events, |kind| matches!(kind, EventKind::Up(_)));
    assert!(up.path.is_some());
    // When the volume began, each was connected and probed; and one look may come before the first quarter of a second is over.
    let most = Tick::now().since(began).as_millis() / 250 + 5;
    for count in counts {
        let seen = u128::from(count.load(Ordering::Relaxed));
        assert!(seen <= most, "looked at {seen} times instead of {most} at most");
    }
}

#[test]
fn a_volume_that_is_gone_is_followed_no_more() {
    let Some(loops) = require_loops(1, 8 << 20) else { return };
    // Other tests have theirs; a thread gives itself its name.
    let threads = || -> BTreeSet<PathBuf> {
        let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
        let is_it = |task: &PathBuf| {
            fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "mpio-devices")
        };
        tasks.map(|task| task.path()).filter(is_it).collect()
    };
    let began = Tick::now();
    let wait = || {
        assert!(Tick::now().since(began) < PATIENCE);
        std::thread::yield_now();
    };
    for end in [
        |volume: Volume| drop(volume),
        |volume: Volume| {
            volume.close(Duration::ZERO);
            std::mem::forget(volume);
        },
    ] {
        let volume = builder().path(BlockDevice::new(loops.device(0))).build().unwrap();
        let before = threads();
        volume.follow_devices().unwrap();
        let own = loop {
            if let Some(own) = threads().difference(&before).next() {
                break own.clone();
            }
            wait();
        };
        end(volume);
        while own.exists() {
            wait();
        }
    }
}

#[test]
fn a_unit_that_is_not_there_is_said_to_be_none() {
    let error = Volume::builder().discover("3600c0ffee").build().unwrap_err();
    assert!(matches!(error, Error::Path { .. }));
    assert_eq!(
        error.to_string(),
        "3600c0ffee: no logical unit of this host is called so; discover::units() lists those that there are"
    );
}
