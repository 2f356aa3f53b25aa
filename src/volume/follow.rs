//! Keeps up with what the kernel says of a volume's devices: a thread has paths looked at; for a whole unit one more adds and removes
//! them, which it may have to wait for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path as FilePath;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::engine::Health;
use crate::error::Error;
use crate::io::PathId;
use crate::os::spawn_io_thread;
use crate::path::Kinship;
use crate::path::block_device::discover::{self, UnitPath};
use crate::path::block_device::uevents::{Changes, Line, Listener, is_there, number_of};
use crate::time::Tick;

use super::shared::Message;
use super::status::PathStatus;
use super::{Inner, Volume};

/// How long a path's device is gone before the path is removed: as long as Fibre Channel's `dev_loss_tmo` is under multipath-tools.
const GONE_FOR: Duration = Duration::from_mins(10);
/// When a way that could not be added is tried again, doubling until it is a minute; then all ways are looked at in any case.
const RETRY: Duration = Duration::from_secs(5);
const ROUND: Duration = Duration::from_mins(1);
/// Between two looks at paths that are down, as long as no disk comes: doubles, since to open a device and to close it can itself
/// make udev say that it has changed.
const LEAST_PAUSE: Duration = Duration::from_millis(250);
const MOST_PAUSE: Duration = Duration::from_secs(16);

/// Adds one more way.
pub(super) type Add = Box<dyn FnMut(&Volume, &UnitPath) + Send>;

/// Has paths looked at, until the line is hung up.
///
/// # Errors
/// If the kernel says nothing here, or there is no thread.
pub(super) fn look(volume: &Arc<Inner>) -> Result<Line, Error> {
    start("mpio-devices", volume, Listener::open()?, Onlooker::new())
}

/// Adds and removes paths, until the line is hung up.
///
/// # Errors
/// If there is no thread.
pub(super) fn keep(volume: &Arc<Inner>, add: Add) -> Result<Line, Error> {
    start("mpio-unit", volume, Listener::open_if_possible()?, Keeper::new(add))
}

/// What is done when the kernel has said something.
trait Follow: Send + 'static {
    fn heard(&mut self, volume: &Volume, changes: &Changes);
    /// When there is something to do even if it says nothing.
    fn due(&self) -> Option<Tick>;
}

fn start(
    name: &str,
    volume: &Arc<Inner>,
    (listener, line): (Listener, Line),
    follower: impl Follow,
) -> Result<Line, Error> {
    let volume = Arc::downgrade(volume);
    spawn_io_thread(name, move || run(listener, &volume, follower))?;
    Ok(line)
}

fn run(mut listener: Listener, volume: &Weak<Inner>, mut follower: impl Follow) {
    // What came about before it listened.
    let mut changes = Changes::all();
    loop {
        {
            let Some(inner) = volume.upgrade() else { return };
            let volume = Volume { inner };
            if volume.check_open().is_err() {
                return;
            }
            follower.heard(&volume, &changes);
        }
        let Some(next) = listener.wait(follower.due()) else { return };
        changes = next;
    }
}

/// Has each path looked at that the changes may be about; one that is down, when any disk has come or is other than it was.
struct Onlooker {
    /// What paths that are down have yet to be looked at for.
    owed: Changes,
    next: Tick,
    pause: Duration,
}

impl Onlooker {
    fn new() -> Self {
        Self { owed: Changes::default(), next: Tick::ZERO, pause: LEAST_PAUSE }
    }

    /// What is to be looked at, now that the kernel has said this.
    fn chosen(&mut self, now: Tick, paths: &[PathStatus], changes: &Changes) -> Vec<PathId> {
        let is_down = |path: &&PathStatus| path.health == Health::Down;
        let ids = |path: &PathStatus| path.id;
        let mut chosen: Vec<PathId> =
            paths.iter().filter(|path| !is_down(path) && changes.concern(&path.identity)).map(ids).collect();
        if !paths.iter().any(|path| is_down(&path)) {
            *self = Self::new();
            return chosen;
        }
        self.owed.add(changes.clone());
        if changes.may_have_come_or_gone() {
            (self.next, self.pause) = (now, LEAST_PAUSE);
        }
        if !self.owed.is_empty() && now >= self.next {
            let owed = std::mem::take(&mut self.owed);
            let is_due = |path: &&PathStatus| owed.may_help() || owed.concern(&path.identity);
            chosen.extend(paths.iter().filter(is_down).filter(is_due).map(ids));
            self.next = now.after(self.pause);
            self.pause = (self.pause * 2).min(MOST_PAUSE);
        }
        chosen
    }
}

impl Follow for Onlooker {
    fn heard(&mut self, volume: &Volume, changes: &Changes) {
        for path in self.chosen(Tick::now(), &volume.status().paths, changes) {
            // One that goes meanwhile need not be looked at.
            let _ = volume.tell(Message::Look(path));
        }
    }

    fn due(&self) -> Option<Tick> {
        (!self.owed.is_empty()).then_some(self.next)
    }
}

/// Adds the ways to a volume's unit that come, and removes those that have gone for good.
struct Keeper {
    add: Add,
    /// Since when each path's device has been gone.
    gone: BTreeMap<PathId, Tick>,
    /// Devices that had a path when they were last looked at; and those whose path was removed since.
    held: BTreeSet<String>,
    dismissed: BTreeSet<String>,
    /// When all ways are looked at next.
    next: Tick,
    pause: Duration,
}

impl Keeper {
    fn new(add: Add) -> Self {
        Self {
            add,
            gone: BTreeMap::new(),
            held: BTreeSet::new(),
            dismissed: BTreeSet::new(),
            next: Tick::ZERO,
            pause: RETRY,
        }
    }

    /// Removes paths whose device has been gone for long. The last one stays: nothing else knows which unit it is.
    fn remove_gone(&mut self, now: Tick, volume: &Volume) {
        let paths = volume.status().paths;
        let is_gone = |path: &PathStatus| !path.leaving && is_there(&path.identity) == Some(false);
        self.gone.retain(|id, _| paths.iter().any(|path| path.id == *id && is_gone(path)));
        for path in paths.iter().filter(|path| is_gone(path)) {
            self.gone.entry(path.id).or_insert(now);
        }
        let knows = |path: &&PathStatus| !path.leaving && !path.identity.identifiers().is_empty();
        let mut staying = paths.iter().filter(knows).count();
        for (id, since) in &mut self.gone {
            if since.after(GONE_FOR) > now {
                continue;
            }
            let is_down = paths.iter().any(|path| path.id == *id && path.health == Health::Down);
            if staying > 1 && is_down && volume.remove_path(*id).is_ok() {
                staying -= 1;
            }
            *since = now;
        }
    }

    /// Notes which devices have a path, and which had one that was removed though the device is there: those are not offered again.
    fn take_note(&mut self, paths: &[PathStatus], ways: &[UnitPath]) {
        let is_listed = |number: &String| ways.iter().any(|way| way.number == *number);
        self.held.retain(is_listed);
        self.dismissed.retain(is_listed);
        for way in ways {
            if paths.iter().any(|path| !path.leaving && is_at(way, path)) {
                self.dismissed.remove(&way.number);
                self.held.insert(way.number.clone());
            } else if self.held.remove(&way.number) {
                self.dismissed.insert(way.number.clone());
            }
        }
    }

    /// Offers each way that nobody has; whether one is left that was not taken.
    fn add_new(&mut self, volume: &Volume, paths: &[PathStatus], ways: &[UnitPath]) -> bool {
        let mut is_one_left = false;
        for way in ways {
            let is_free = way.used_by.is_none() && !self.dismissed.contains(&way.number);
            if !is_free || paths.iter().any(|path| is_at(way, path)) {
                continue;
            }
            if !way.is_open_here() {
                // Code of the user's that panics has added nothing.
                let _ = catch_unwind(AssertUnwindSafe(|| (self.add)(volume, way)));
            }
            is_one_left |= !volume.status().paths.iter().any(|path| is_at(way, path));
        }
        is_one_left
    }
}

impl Follow for Keeper {
    fn heard(&mut self, volume: &Volume, changes: &Changes) {
        let now = Tick::now();
        if changes.may_have_come_or_gone() {
            self.pause = RETRY;
        } else if self.due().is_none_or(|due| due > now) {
            return;
        }
        self.remove_gone(now, volume);
        let paths = volume.status().paths;
        let ways = ways(&paths);
        self.take_note(&paths, &ways);
        let is_one_left = self.add_new(volume, &paths, &ways);
        self.next = Tick::now().after(if is_one_left { self.pause } else { ROUND });
        self.pause = (self.pause * 2).min(ROUND);
    }

    fn due(&self) -> Option<Tick> {
        self.gone.values().map(|since| since.after(GONE_FOR)).chain([self.next]).min()
    }
}

/// The ways of this host to the unit that these paths lead to.
fn ways(paths: &[PathStatus]) -> Vec<UnitPath> {
    let leads_there = |unit: &discover::Unit| {
        paths.iter().any(|path| matches!(unit.identity.kinship(&path.identity), Kinship::Same))
    };
    discover::units().into_iter().filter(leads_there).flat_map(|unit| unit.paths).collect()
}

/// Whether a path goes this way: by its device, as long as that is there; then by its place, where it may come back; a path that never
/// connected by its name.
fn is_at(way: &UnitPath, path: &PathStatus) -> bool {
    if is_there(&path.identity) == Some(true) {
        return number_of(&path.identity).as_ref() == Some(&way.number);
    }
    if let (Some(its), Some(this)) = (&path.place, &way.place) {
        return its == this;
    }
    let name = FilePath::new(&path.name);
    name == way.node || fs::canonicalize(name).is_ok_and(|name| name == way.node)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::path::{
        AccessState, BlockDevice, Cache, ControlSink, Description, IdentifierKind, Identity, Incarnation,
        OpenQueue, Path, QueueIndex,
    };
    use crate::testing_support::TempDir;

    /// A file that is said to be one unit at a place.
    struct Placed {
        device: BlockDevice,
        place: &'static str,
        node: &'static str,
    }

    impl Path for Placed {
        fn name(&self) -> String {
            self.place.to_owned()
        }

        fn connect(&mut self, incarnation: Incarnation) -> Result<Description, Error> {
            let mut description = self.device.connect(incarnation)?;
            description.identity = Identity::none().with(IdentifierKind::Custom, "unit").with_node(self.node);
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

    /// A volume over files at the places a and b, which are said to be these nodes; both are down.
    fn volume(dir: &TempDir, nodes: [&'static str; 2]) -> Volume {
        let placed = |place: &'static str, node| Placed {
            device: BlockDevice::new(dir.file(place, 1 << 20)),
            place,
            node,
        };
        let quick = Duration::from_millis(5);
        let builder = Volume::builder().probe_interval(quick).check_interval(quick);
        let volume = builder.path(placed("a", nodes[0])).path(placed("b", nodes[1])).build().unwrap();
        for place in ["a", "b"] {
            std::fs::File::create(dir.path().join(place)).unwrap();
        }
        while volume.status().paths.iter().any(|path| path.health != Health::Down) {
            std::thread::yield_now();
        }
        volume
    }

    fn way(place: &str) -> UnitPath {
        UnitPath {
            node: FilePath::new("/dev").join(place),
            // None that this host has.
            number: format!("0:{}", 100 + place.len() + usize::from(place.as_bytes()[0])),
            bytes: 1 << 20,
            access: AccessState::Optimized,
            transport: String::new(),
            place: Some(place.to_owned()),
            used_by: None,
        }
    }

    fn names(volume: &Volume) -> Vec<String> {
        let paths = volume.status().paths.into_iter();
        paths.filter(|path| !path.leaving).map(|path| path.name).collect()
    }

    #[test]
    fn a_path_whose_device_is_gone_for_long_is_removed() {
        let dir = TempDir::new();
        // Of the first it cannot be told; the second is none that this host has.
        let volume = volume(&dir, ["a file", "0:1, disk 7"]);
        let mut keeper = Keeper::new(Box::new(|_, _| {}));
        let mut at = |after: Duration| {
            keeper.remove_gone(Tick::ZERO.after(after), &volume);
            names(&volume)
        };
        let second = Duration::from_secs(1);
        assert_eq!(at(second), ["a", "b"]);
        assert_eq!(at(GONE_FOR), ["a", "b"]);
        assert_eq!(at(GONE_FOR + second), ["a"]);
        assert_eq!(at(GONE_FOR * 9), ["a"]);
    }

    #[test]
    fn the_last_path_stays() {
        let dir = TempDir::new();
        let volume = volume(&dir, ["0:1", "0:2"]);
        let mut keeper = Keeper::new(Box::new(|_, _| {}));
        for round in 0..5 {
            keeper.remove_gone(Tick::ZERO.after(GONE_FOR * round), &volume);
        }
        assert_eq!(names(&volume).len(), 1);
    }

    #[test]
    fn what_is_nobody_s_way_is_offered_and_again_as_long_as_it_is_not_taken() {
        let dir = TempDir::new();
        let volume = volume(&dir, ["0:1", "0:2"]);
        let offered = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&offered);
        let mut keeper = Keeper::new(Box::new(move |_, way| {
            noted.lock().unwrap().push(way.place.clone().unwrap());
            assert_ne!(way.place.as_deref(), Some("d"), "code of the user's may panic");
        }));
        let in_use = UnitPath { used_by: Some("is mounted".to_owned()), ..way("e") };
        let ways = [way("a"), way("b"), way("c"), way("d"), in_use];
        let paths = volume.status().paths;
        for _ in 0..2 {
            keeper.take_note(&paths, &ways);
            assert!(keeper.add_new(&volume, &paths, &ways), "two are left");
        }
        assert_eq!(*offered.lock().unwrap(), ["c", "d", "c", "d"]);
        assert!(!keeper.add_new(&volume, &paths, &ways[..2]));
    }

    #[test]
    fn a_way_whose_path_was_removed_is_not_offered_before_it_has_gone_and_come_back() {
        let dir = TempDir::new();
        let volume = volume(&dir, ["0:1", "0:2"]);
        let count = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&count);
        let mut keeper = Keeper::new(Box::new(move |_, _| *counted.lock().unwrap() += 1));
        let paths = volume.status().paths;
        let mut look = |paths: &[PathStatus], ways: &[UnitPath]| {
            keeper.take_note(paths, ways);
            keeper.add_new(&volume, paths, ways);
            *count.lock().unwrap()
        };
        let ways = [way("a"), way("b")];
        assert_eq!(look(&paths, &ways), 0);
        assert_eq!(look(&paths[..1], &ways), 0, "somebody has removed b");
        assert_eq!(look(&paths[..1], &ways[..1]), 0);
        assert_eq!(look(&paths[..1], &ways), 1);
    }

    #[test]
    fn a_path_that_never_connected_is_known_by_its_name() {
        let dir = TempDir::new();
        let volume = volume(&dir, ["a", "b"]);
        let mut path = volume.status().paths.remove(1);
        path.place = None;
        assert!(!is_at(&way("b"), &path));
        path.name = "/dev/b".to_owned();
        assert!(is_at(&way("b"), &path));
        // A link that udev makes.
        let link = dir.path().join("by-id");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        path.name = link.display().to_string();
        assert!(is_at(&way("null"), &path));
    }

    #[test]
    fn paths_that_are_down_are_looked_at_less_and_less_while_nothing_but_changes_is_said() {
        let dir = TempDir::new();
        let volume = volume(&dir, ["0:1", "0:2"]);
        let paths = volume.status().paths;
        let mut onlooker = Onlooker::new();
        let change = Changes::of("change", "/devices/virtual/block/loop9", "disk");
        let mut looks = |from: u64, to: u64, changes: &Changes| {
            let seconds =
                (from..to).map(|quarter| Tick::ZERO.after(LEAST_PAUSE * u32::try_from(quarter).unwrap()));
            seconds.filter(|&now| onlooker.chosen(now, &paths, changes).len() == 2).count()
        };
        assert_eq!(looks(0, 4 * 60, &change), 9, "in a minute: at 0, 1/4, 3/4, 7/4 … s");
        let come = Changes::of("add", "/devices/virtual/block/loop9", "disk");
        assert_eq!(looks(240, 241, &come), 1, "at once");
        let partition = Changes::of("add", "/devices/virtual/block/loop9/loop9p1", "partition");
        assert_eq!(looks(242, 246, &partition), 2);
        // What is said in between is not forgotten.
        assert_eq!(looks(246, 247, &change), 0);
        let nothing = Changes::default();
        assert_eq!(looks(247, 400, &nothing), 1);
    }
}
