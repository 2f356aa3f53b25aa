//! Keeps up with what the kernel says of a volume's devices.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::engine::Health;
use crate::error::Error;
use crate::io::PathId;
use crate::os::spawn_io_thread;
use crate::path::Kinship;
use crate::path::block_device::discover::{self, UnitPath};
use crate::path::block_device::uevents::{Changes, Line, Listener};
use crate::time::Tick;

use super::status::PathStatus;
use super::{Inner, Volume};

/// How long a path's device is gone before the path is removed: as long as Fibre Channel's `dev_loss_tmo` is under multipath-tools.
const GONE_FOR: Duration = Duration::from_mins(10);
/// When a way that could not be added is tried again; doubles up to 16 times that.
const RETRY: Duration = Duration::from_secs(5);

/// Adds one more way.
pub(super) type Add = Box<dyn FnMut(&Volume, &UnitPath) + Send>;

/// Starts the thread, which ends when the line is hung up.
pub(super) fn start(volume: &Arc<Inner>, add: Option<Add>) -> Result<Line, Error> {
    let (listener, line) = Listener::open()?;
    let volume = Arc::downgrade(volume);
    let keeper = add.map(Keeper::new);
    spawn_io_thread("mpio-devices", move || follow(listener, &volume, keeper))?;
    Ok(line)
}

fn follow(mut listener: Listener, volume: &Weak<Inner>, mut keeper: Option<Keeper>) {
    // What came about before it listened.
    let mut changes = Changes::all();
    loop {
        {
            let Some(inner) = volume.upgrade() else { return };
            let volume = Volume { inner };
            if volume.check_open().is_err() {
                return;
            }
            look(&volume, &changes);
            if let Some(keeper) = &mut keeper {
                keeper.keep(&volume, &changes);
            }
        }
        let due = keeper.as_ref().and_then(Keeper::due);
        let Some(next) = listener.wait(due) else { return };
        changes = next;
    }
}

/// Has each path looked at that the changes may be about; one that is down, when any disk has come or is other than it was.
fn look(volume: &Volume, changes: &Changes) {
    let is_concerned = |path: &&PathStatus| {
        changes.concern(&path.identity) || path.health == Health::Down && changes.may_help()
    };
    for path in volume.status().paths.iter().filter(is_concerned) {
        // One that goes meanwhile need not be looked at.
        let _ = volume.retry_path(path.id);
    }
}

/// Adds the ways to a volume's unit that come, and removes those that have gone for good.
struct Keeper {
    add: Add,
    /// Since when each path's device has been gone.
    gone: BTreeMap<PathId, Tick>,
    /// When a way that could not be added is tried again, and after how many tries that failed.
    retry: Option<Tick>,
    failures: u32,
}

impl Keeper {
    const fn new(add: Add) -> Self {
        Self { add, gone: BTreeMap::new(), retry: None, failures: 0 }
    }

    /// When there is something to do even if nothing happens.
    fn due(&self) -> Option<Tick> {
        self.gone.values().map(|since| since.after(GONE_FOR)).chain(self.retry).min()
    }

    fn keep(&mut self, volume: &Volume, changes: &Changes) {
        let now = Tick::now();
        if !changes.may_have_come_or_gone() && self.due().is_none_or(|due| due > now) {
            return;
        }
        if changes.may_have_come_or_gone() {
            self.failures = 0;
        }
        let paths = volume.status().paths;
        let ways = ways(&paths);
        self.add_new(volume, &paths, &ways);
        self.remove_gone(now, volume, &paths, &ways);
    }

    fn add_new(&mut self, volume: &Volume, paths: &[PathStatus], ways: &[UnitPath]) {
        self.retry = None;
        for way in ways.iter().filter(|way| is_new(way, paths)) {
            // Code of the user's that panics has added nothing.
            let _ = catch_unwind(AssertUnwindSafe(|| (self.add)(volume, way)));
            if !way.is_open_here() {
                self.retry = Some(Tick::now().after(RETRY * (1 << self.failures.min(4))));
            }
        }
        self.failures = if self.retry.is_some() { self.failures + 1 } else { 0 };
    }

    fn remove_gone(&mut self, now: Tick, volume: &Volume, paths: &[PathStatus], ways: &[UnitPath]) {
        let is_gone = |path: &PathStatus| {
            path.health == Health::Down && !path.leaving && !ways.iter().any(|way| is_at(way, path))
        };
        self.gone.retain(|id, _| paths.iter().any(|path| path.id == *id && is_gone(path)));
        for path in paths.iter().filter(|path| is_gone(path)) {
            self.gone.entry(path.id).or_insert(now);
        }
        let mut staying = paths.iter().filter(|path| !path.leaving).count();
        for (&id, since) in &mut self.gone {
            if since.after(GONE_FOR) > now {
                continue;
            }
            // The last one stays: its name is all that is known of the unit.
            if staying > 1 && volume.remove_path(id).is_ok() {
                staying -= 1;
            }
            *since = now;
        }
    }
}

/// The ways of this host to the unit that these paths lead to.
fn ways(paths: &[PathStatus]) -> Vec<UnitPath> {
    let leads_there = |unit: &discover::Unit| {
        paths.iter().any(|path| matches!(unit.identity.kinship(&path.identity), Kinship::Same))
    };
    discover::units().into_iter().filter(leads_there).flat_map(|unit| unit.paths).collect()
}

/// Whether nobody has a way, nor will a path that is down come back there.
fn is_new(way: &UnitPath, paths: &[PathStatus]) -> bool {
    way.used_by.is_none() && !way.is_open_here() && !paths.iter().any(|path| is_at(way, path))
}

/// Whether a path goes this way: by its place, or, if that is not known, by its name.
fn is_at(way: &UnitPath, path: &PathStatus) -> bool {
    match (&path.place, &way.place) {
        (Some(its), Some(this)) => its == this,
        _ => path.name == way.node.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path as FilePath;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::control::EventKind;
    use crate::path::{
        AccessState, BlockDevice, Cache, ControlSink, Description, IdentifierKind, Identity, Incarnation,
        OpenQueue, Path, QueueIndex,
    };
    use crate::testing_support::TempDir;

    /// A file that is said to be one unit at a place.
    struct Placed {
        device: BlockDevice,
        place: &'static str,
    }

    impl Path for Placed {
        fn name(&self) -> String {
            self.place.to_owned()
        }

        fn connect(&mut self, incarnation: Incarnation) -> Result<Description, Error> {
            let mut description = self.device.connect(incarnation)?;
            description.identity =
                Identity::none().with(IdentifierKind::Custom, "unit").with_node(self.place);
            (description.cache, description.place) = (Cache::Private, Some(self.place.to_owned()));
            Ok(description)
        }

        fn open_queue(&mut self, queue: QueueIndex) -> Result<Box<dyn OpenQueue>, Error> {
            self.device.open_queue(queue)
        }

        fn probe(&mut self, sink: ControlSink) {
            self.device.probe(sink);
        }
    }

    /// A volume over files at the places a and b, of which that at b is gone.
    fn volume(dir: &TempDir) -> Volume {
        let placed = |place| Placed { device: BlockDevice::new(dir.file(place, 1 << 20)), place };
        let quick = Duration::from_millis(5);
        let builder = Volume::builder().probe_interval(quick).check_interval(quick);
        let volume = builder.path(placed("a")).path(placed("b")).build().unwrap();
        let events = volume.events();
        std::fs::File::create(dir.path().join("b")).unwrap();
        while !matches!(events.next_within(Duration::from_mins(1)).unwrap().kind, EventKind::Down(_)) {}
        volume
    }

    fn way(place: &str) -> UnitPath {
        UnitPath {
            node: FilePath::new("/dev").join(place),
            number: "0:0".to_owned(),
            bytes: 1 << 20,
            access: AccessState::Optimized,
            transport: String::new(),
            place: Some(place.to_owned()),
            used_by: None,
        }
    }

    #[test]
    fn a_path_whose_device_is_gone_for_long_is_removed_but_for_the_last() {
        let dir = TempDir::new();
        let volume = volume(&dir);
        let mut keeper = Keeper::new(Box::new(|_, _| {}));
        let names = || {
            volume
                .status()
                .paths
                .iter()
                .filter(|path| !path.leaving)
                .map(|path| path.name.clone())
                .collect::<Vec<_>>()
        };
        let mut at = |after: Duration, ways: &[UnitPath]| {
            keeper.remove_gone(Tick::ZERO.after(after), &volume, &volume.status().paths, ways);
            names()
        };
        let second = Duration::from_secs(1);
        assert_eq!(at(second, &[]), ["a", "b"]);
        // Its device is there again for a moment, and it takes longer to connect.
        assert_eq!(at(second * 2, &[way("b")]), ["a", "b"]);
        assert_eq!(at(second * 3, &[]), ["a", "b"]);
        assert_eq!(at(GONE_FOR + second * 2, &[]), ["a", "b"]);
        assert_eq!(at(GONE_FOR + second * 3, &[]), ["a"]);
        // The one that is left goes too.
        std::fs::File::create(dir.path().join("a")).unwrap();
        while volume.status().paths.iter().any(|path| path.health != Health::Down) {
            std::thread::yield_now();
        }
        at(GONE_FOR * 2, &[]);
        assert_eq!(at(GONE_FOR * 4, &[]), ["a"]);
    }

    #[test]
    fn what_is_nobody_s_way_is_added_and_tried_again_if_it_was_not_taken() {
        let dir = TempDir::new();
        let volume = volume(&dir);
        let added = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&added);
        let mut keeper = Keeper::new(Box::new(move |_, way| {
            noted.lock().unwrap().push(way.place.clone().unwrap());
            assert_ne!(way.place.as_deref(), Some("d"), "code of the user's may panic");
        }));
        let in_use = UnitPath { used_by: Some("is mounted".to_owned()), ..way("e") };
        let ways = [way("a"), way("b"), way("c"), way("d"), in_use];
        let paths = volume.status().paths;
        keeper.add_new(&volume, &paths, &ways);
        assert_eq!(*added.lock().unwrap(), ["c", "d"]);
        let first = keeper.due().unwrap();
        keeper.add_new(&volume, &paths, &ways);
        assert!(keeper.due().unwrap().since(first) >= RETRY, "the pause grows");
        assert_eq!(added.lock().unwrap().len(), 4);
        keeper.add_new(&volume, &paths, &[]);
        assert_eq!(keeper.due(), None);
    }

    #[test]
    fn a_path_that_never_connected_is_known_by_its_name() {
        let dir = TempDir::new();
        let volume = volume(&dir);
        let mut path = volume.status().paths.remove(1);
        path.place = None;
        assert!(!is_at(&way("b"), &path));
        path.name = "/dev/b".to_owned();
        assert!(is_at(&way("b"), &path));
    }
}
