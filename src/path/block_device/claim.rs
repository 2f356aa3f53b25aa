//! Opening a device or file for this process alone.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use super::fault::Backing;
use super::node::{self, Node};
use super::sys;
use super::twins::{self, Use};
use crate::error::Error;
use crate::time::Tick;

/// How often a claim that is taken is tried again.
const RETRY: Duration = Duration::from_millis(20);

/// An open file that nobody else can claim while it, or I/O on it, lives.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) file: File,
    pub(super) backing: Backing,
}

/// Opens and claims what `path` names: a block device with `O_EXCL`, a regular file with `flock(2)`. A claim that is
/// taken, on it or on another name of the same unit, is waited for until `patience` has passed: a predecessor's lives as long as
/// its last I/O.
pub(super) fn claim(path: &Path, patience: Duration) -> Result<Claimed, Error> {
    let deadline = Tick::now().after(patience);
    let backing = backing(path, &metadata(path)?)?;
    loop {
        let mut taken_by = None;
        match attempt(path, backing) {
            Ok(file) => {
                let claimed = checked(path, file, backing)?;
                if claimed.file.metadata().is_ok_and(|found| is_multipathds(found.rdev())) {
                    let problem = "is multipathd's; blacklist it in multipath.conf, or name another device";
                    return Err(refusal(path, problem));
                }
                match twins::in_use(&claimed) {
                    None => return Ok(claimed),
                    Some(Use::Lasting(user)) => {
                        return Err(refusal(
                            path,
                            format!("{user}; release it first, or name another device"),
                        ));
                    }
                    // Another that waits as well may be the one that has it.
                    Some(Use::Claimed(twin)) => taken_by = Some(twin),
                }
            }
            Err(error) => {
                // The kernel may not let a mounted device be opened for writing at all (EPERM).
                if let Some(user) = lasting_user_of(path) {
                    return Err(refusal(path, format!("{user}; release it first, or name another device")));
                }
                if error.raw_os_error() != Some(libc::EBUSY) {
                    return Err(refused(path, error));
                }
            }
        }
        if Tick::now() >= deadline {
            let problem = match &taken_by {
                Some(twin) => format!("{twin}; stop what uses that, or wait longer"),
                None => taken(path, patience),
            };
            return Err(refusal(path, problem));
        }
        pause(if taken_by.is_some() { twin_retry() } else { RETRY });
    }
}

/// How often it is tried again where another name of the unit is claimed: two that wait for each other in step would do so for
/// ever.
fn twin_retry() -> Duration {
    RETRY * (10 + std::process::id() % 16)
}

fn metadata(path: &Path) -> Result<Metadata, Error> {
    fs::metadata(path).map_err(|source| {
        let is_device = source.raw_os_error() == Some(libc::ENOENT) && path.starts_with("/dev");
        let remedy = if is_device { " (a container has only the devices that it was given)" } else { "" };
        Error::os(format!("looking up {}{remedy}", path.display()), source)
    })
}

fn backing(path: &Path, found: &Metadata) -> Result<Backing, Error> {
    let kind = found.file_type();
    let what = if kind.is_block_device() {
        return Ok(Backing::Device);
    } else if kind.is_file() {
        return Ok(Backing::Regular);
    } else if kind.is_dir() {
        "is a directory"
    } else if kind.is_char_device() {
        "is a character device"
    } else {
        "is neither a block device nor a regular file"
    };
    Err(refusal(path, format!("{what}; name a block device or a regular file")))
}

/// One try. `EBUSY` for a claim that is taken, of a file too.
fn attempt(path: &Path, backing: Backing) -> io::Result<File> {
    match backing {
        Backing::Device => open(path, libc::O_DIRECT | libc::O_EXCL),
        Backing::Regular => {
            let file = open(path, libc::O_DIRECT).or_else(|error| match error.raw_os_error() {
                // The file system has no direct I/O.
                Some(libc::EINVAL) => open(path, 0),
                _ => Err(error),
            })?;
            lock(file)
        }
    }
}

fn open(path: &Path, flags: libc::c_int) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

fn lock(file: File) -> io::Result<File> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::Error::from_raw_os_error(libc::EBUSY)),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// What was opened is what was looked up, and can be written.
fn checked(path: &Path, file: File, backing: Backing) -> Result<Claimed, Error> {
    let attempted = || format!("looking at {}", path.display());
    let found = file.metadata().map_err(|source| Error::os(attempted(), source))?;
    if self::backing(path, &found)? != backing {
        return Err(refusal(path, "was replaced while it was opened; try again"));
    }
    let is_read_only = match backing {
        Backing::Device => sys::is_read_only(&file).map_err(|source| Error::os(attempted(), source))?,
        Backing::Regular => false,
    };
    if is_read_only {
        return Err(read_only(path));
    }
    Ok(Claimed { file, backing })
}

fn refused(path: &Path, error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::EROFS) => read_only(path),
        // What a block device that is write-protected gives as well.
        Some(libc::EACCES | libc::EPERM) if is_protected(path) => read_only(path),
        _ => Error::os(format!("opening {} for reading and writing", path.display()), error),
    }
}

fn is_protected(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| Node::of(found.rdev()).own("ro").is_some_and(|flag| flag == "1"))
}

fn read_only(path: &Path) -> Error {
    refusal(path, "is read-only; make it writable (blockdev --setrw, or remount), or name another device")
}

/// A user of the device at `path` that waiting will not see off.
fn lasting_user_of(path: &Path) -> Option<String> {
    let found = fs::metadata(path).ok().filter(|found| found.file_type().is_block_device())?;
    lasting_user(found.rdev(), &Node::of(found.rdev()))
}

/// A user of a device, or of one of its partitions, that waiting will not see off.
pub(super) fn lasting_user(device: u64, node: &Node) -> Option<String> {
    mount_or_swap(device, &[vec![node::number(device)], node.numbers()].concat())
}

/// Where one of the devices in `numbers` is mounted, or that `device` is swap.
pub(super) fn mount_or_swap(device: u64, numbers: &[String]) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if let Some(place) = mount_point(&mounts, numbers) {
        return Some(format!("is mounted at {place}"));
    }
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    is_swap(&swaps, device).then(|| "is in use as swap".to_owned())
}

/// Whether multipathd runs and takes a disk for its own, as multipath-tools has udev note.
pub(super) fn is_multipathds(device: u64) -> bool {
    let noted = fs::read_to_string(format!("/run/udev/data/b{}", node::number(device))).unwrap_or_default();
    noted.lines().any(|line| line == "E:DM_MULTIPATH_DEVICE_PATH=1")
        && Path::new("/run/multipathd.pid").exists()
}

/// Where one of the devices in `numbers` is mounted: the fifth field of the lines whose third is the device number
/// (`proc_pid_mountinfo(5)`).
fn mount_point(mounts: &str, numbers: &[String]) -> Option<String> {
    let mut lines = mounts.lines().map(|line| line.split(' '));
    lines.find_map(|mut fields| {
        let device = fields.nth(2)?;
        numbers.iter().any(|number| number == device).then(|| fields.nth(1).map(unescape))?
    })
}

/// Undoes the escapes for blanks in mount points.
fn unescape(place: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(place.to_owned(), |place, (code, plain)| place.replace(code, plain))
}

fn is_swap(swaps: &str, device: u64) -> bool {
    let names = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    names.filter_map(|name| fs::metadata(name).ok()).any(|found| found.rdev() == device)
}

fn taken(path: &Path, patience: Duration) -> String {
    let found = fs::metadata(path).ok();
    let holders = found.as_ref().map(|found| Node::of(found.rdev()).holders()).unwrap_or_default();
    let (by, remedy) = if found.is_some_and(|found| is_open_here(&found)) {
        (
            "this process already".to_owned(),
            "name each path once, and close one volume before another takes its paths",
        )
    } else {
        let by = if holders.is_empty() { "another user".to_owned() } else { holders.join(", ") };
        (by, "stop what uses it (a previous instance, multipathd, LVM, MD), or wait longer")
    };
    format!("is claimed by {by} and was not released within {} ms; {remedy}", patience.as_millis())
}

/// Whether this process has the same device or file open, by whatever name.
fn is_open_here(found: &Metadata) -> bool {
    if found.file_type().is_block_device() {
        return is_device_open_here(found.rdev());
    }
    has_open(|open| (open.dev(), open.ino()) == (found.dev(), found.ino()))
}

/// Whether this process has the block device of this number open.
pub(super) fn is_device_open_here(number: u64) -> bool {
    has_open(|open| open.file_type().is_block_device() && open.rdev() == number)
}

fn has_open(is_it: impl Fn(&Metadata) -> bool) -> bool {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return false };
    entries.flatten().filter_map(|entry| fs::metadata(entry.path()).ok()).any(|open| is_it(&open))
}

#[allow(clippy::disallowed_methods, reason = "connecting blocks, on a thread of the path's own")]
fn pause(span: Duration) {
    std::thread::sleep(span);
}

fn refusal(path: &Path, problem: impl Into<String>) -> Error {
    Error::path(path.display().to_string(), problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
36 27 7:3 / /mnt/with\\040blank rw,noatime master:1 - ext4 /dev/loop3 rw
40 27 8:1 / /boot rw - ext4 /dev/sda1 rw";

    #[test]
    fn the_mount_point_of_a_device_or_its_partition_is_found() {
        let find = |numbers: &[&str]| {
            let numbers: Vec<String> = numbers.iter().map(|&number| number.to_owned()).collect();
            mount_point(MOUNTS, &numbers)
        };
        assert_eq!(find(&["7:3"]).as_deref(), Some("/mnt/with blank"));
        assert_eq!(find(&["8:0", "8:1"]).as_deref(), Some("/boot"));
        assert_eq!(find(&["8:2"]), None);
        assert_eq!(find(&[]), None);
    }
}
