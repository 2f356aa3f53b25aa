//! The paths of the volume, each with the switches of its faults.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use mpio::path::{FaultHandle, Faulty, FenceSupport};
use mpio::{Geometry, Health, PathId, PathOptions, Status, Tick, Volume, VolumeBuilder};

use crate::claim::{Board, Claiming};
use crate::options::{Options, Sameness};

/// How long a path that is added while the volume works may wait for its claim.
const LATER_CLAIM: Duration = Duration::from_secs(10);
/// How long connecting may take beside the claim.
const CONNECTING: Duration = Duration::from_secs(30);
/// How long paths may take to say how large they are.
const LOOK: Duration = Duration::from_secs(2);
/// For ever, as far as the volume is concerned.
const AGES: Duration = Duration::from_hours(100 * 365 * 24);

/// The paths, by number.
pub(crate) struct Paths {
    volume: Volume,
    sameness: Sameness,
    fence: Option<FenceSupport>,
    members: Mutex<BTreeMap<u32, Member>>,
}

struct Member {
    id: PathId,
    faults: FaultHandle,
    /// What is switched on, in words, by what it is switched with.
    injected: BTreeMap<String, String>,
}

/// Paths that are to be a volume's.
pub(crate) struct Prospects {
    faults: Vec<FaultHandle>,
    sameness: Sameness,
    fence: Option<FenceSupport>,
}

impl Prospects {
    /// Gives the paths of the command line to `builder`; `board` shows which of them wait for their claim.
    pub(crate) fn add(
        options: &Options,
        board: &Arc<Board>,
        mut builder: VolumeBuilder,
    ) -> (Self, VolumeBuilder) {
        let patience = options.claim_timeout.unwrap_or(AGES);
        let mut faults = Vec::new();
        for (path, seed) in options.paths.iter().zip(0..) {
            let device = Claiming::new(path, patience, options.fence, Arc::clone(board));
            let (path, handle) = Faulty::new(device, seed);
            builder = builder.path_with(terms(options.sameness), path);
            faults.push(handle);
        }
        let builder = builder
            .connect_timeout(patience.max(LATER_CLAIM).saturating_add(CONNECTING))
            // A claim is waited for: what a predecessor sent may still land while it is not free.
            .start_timeout(patience.saturating_add(options.start_timeout))
            .minimum_paths(options.minimum_paths);
        (Self { faults, sameness: options.sameness, fence: options.fence }, builder)
    }

    /// The volume has taken them.
    pub(crate) fn joined(self, volume: Volume) -> Paths {
        // They joined in their order.
        let ids = volume.status().paths.into_iter().map(|path| path.id);
        let members = ids.zip(self.faults).map(|(id, faults)| (id.serial(), Member::new(id, faults)));
        let members = Mutex::new(members.collect());
        Paths { volume, sameness: self.sameness, fence: self.fence, members }
    }
}

impl Member {
    const fn new(id: PathId, faults: FaultHandle) -> Self {
        Self { id, faults, injected: BTreeMap::new() }
    }
}

fn terms(sameness: Sameness) -> PathOptions {
    match sameness {
        Sameness::Proven => PathOptions::new(),
        Sameness::Asserted => PathOptions::new().assert_same(),
    }
}

impl Paths {
    /// Adds a path; its number. Waits until it has connected.
    ///
    /// # Errors
    /// Why it does not belong to the volume or cannot be used.
    pub(crate) fn add(&self, path: &Path) -> Result<u32, String> {
        let present = self.status().paths.into_iter().filter(|path| path.health != Health::Down);
        let names = present.map(|path| PathBuf::from(path.name)).chain([path.to_owned()]);
        refuse_twins(&names.collect::<Vec<_>>())?;
        let device = Claiming::new(path, LATER_CLAIM, self.fence, Arc::new(Board::default()));
        let seed = Tick::now().as_nanos();
        let (path, faults) = Faulty::new(device, seed);
        let id = self.volume.add_path_with(terms(self.sameness), path).map_err(|error| error.to_string())?;
        self.lock().insert(id.serial(), Member::new(id, faults));
        Ok(id.serial())
    }

    /// Removes a path. Whether it was gone within `patience`: if not, it goes when it has let go of all I/O.
    ///
    /// # Errors
    /// If there is no such path.
    pub(crate) fn remove(&self, number: u32, patience: Duration) -> Result<bool, String> {
        let id = self.with(number, |member| Ok(member.id))?;
        let settled = self.volume.remove_path(id).map_err(|error| error.to_string())?;
        Ok(settled.wait(patience))
    }

    /// Sets the switch of a path that is called `key`, and notes in words what it is then at: `None` for off.
    ///
    /// # Errors
    /// If there is no such path, or why the fault cannot be.
    pub(crate) fn inject(
        &self,
        number: u32,
        (key, words): (&str, Option<String>),
        switch: impl FnOnce(&FaultHandle) -> Result<(), mpio::Error>,
    ) -> Result<(), String> {
        self.with(number, |member| {
            switch(&member.faults).map_err(|error| error.to_string())?;
            match words {
                Some(words) => member.injected.insert(key.to_owned(), words),
                None => member.injected.remove(key),
            };
            Ok(())
        })
    }

    /// Vouches for what was sent over a path, which may have been removed.
    ///
    /// # Errors
    /// If there never was such a path.
    pub(crate) fn vouch(&self, number: u32) -> Result<(), String> {
        let id = self.lock().get(&number).map(|member| member.id);
        let id = id.ok_or_else(|| format!("there never was a path {number}"))?;
        self.volume.vouch(id).map_err(|error| error.to_string())
    }

    /// Looks at once whether a path works again.
    ///
    /// # Errors
    /// If there is no such path.
    pub(crate) fn reconnect(&self, number: u32) -> Result<(), String> {
        let id = self.with(number, |member| Ok(member.id))?;
        self.volume.retry_path(id).map_err(|error| error.to_string())
    }

    /// Has the volume take over the size that all paths have by now, which are looked at for it.
    ///
    /// # Errors
    /// Which path is too small.
    pub(crate) fn grow(&self) -> Result<Geometry, String> {
        let before = self.volume.geometry();
        let until = Tick::now().after(LOOK);
        loop {
            for path in self.status().paths {
                // One that goes meanwhile has no say; one that is being looked at has yet to be looked at again.
                let _ = self.volume.retry_path(path.id);
            }
            match self.volume.grow() {
                Ok(geometry) if geometry != before => return Ok(geometry),
                result if Tick::now() >= until => return result.map_err(|error| error.to_string()),
                _ => thread::park_timeout(LOOK / 20),
            }
        }
    }

    /// Ends all faults of a path, which is looked at at once.
    ///
    /// # Errors
    /// If there is no such path.
    pub(crate) fn restore(&self, number: u32) -> Result<(), String> {
        self.with(number, |member| {
            member.faults.restore();
            member.injected.clear();
            Ok(())
        })?;
        self.reconnect(number)
    }

    /// How the volume stands.
    pub(crate) fn status(&self) -> Status {
        self.volume.status()
    }

    /// The faults of a path that are switched on.
    pub(crate) fn injected(&self, number: u32) -> Vec<String> {
        let members = self.lock();
        members.get(&number).map_or_else(Vec::new, |member| member.injected.values().cloned().collect())
    }

    fn with<T>(&self, number: u32, act: impl FnOnce(&mut Member) -> Result<T, String>) -> Result<T, String> {
        // A path that is gone stays gone: its number is not given again.
        let present: Vec<u32> = self.status().paths.iter().map(|path| path.id.serial()).collect();
        let mut members = self.lock();
        match members.get_mut(&number).filter(|_| present.contains(&number)) {
            Some(member) => act(member),
            None if present.is_empty() => Err(format!("there is no path {number}, nor any other")),
            None => {
                let present: Vec<String> = present.iter().map(u32::to_string).collect();
                Err(format!("there is no path {number}; there is {}", present.join(", ")))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses one device or file that is named twice: it would wait for itself.
///
/// # Errors
/// Which it is.
pub(crate) fn refuse_twins(paths: &[PathBuf]) -> Result<(), String> {
    let mut seen: Vec<(&PathBuf, (bool, u64, u64))> = Vec::new();
    for path in paths {
        // What cannot be looked up is refused when it is connected.
        let Ok(found) = fs::metadata(path) else { continue };
        let is_device = found.file_type().is_block_device();
        let way = if is_device { (true, found.rdev(), 0) } else { (false, found.dev(), found.ino()) };
        if let Some((twin, _)) = seen.iter().find(|(_, known)| *known == way) {
            let (path, twin) = (path.display(), twin.display());
            return Err(format!("{path} is the same way to the device as {twin}; name each path once"));
        }
        seen.push((path, way));
    }
    Ok(())
}

/// The names under which paths were given.
pub(crate) fn names(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    names.join(", ")
}
