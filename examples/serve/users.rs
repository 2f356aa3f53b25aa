//! Who uses a block device or file: as far as /proc and /sys tell.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Most users that are told apart.
const MOST: usize = 8;

/// Uses of `file`, in words: mounts, swap, what builds on it, and processes that have it open, other than this one.
pub(crate) fn of(file: &Path) -> Vec<String> {
    let mut users = Vec::new();
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    if let Ok(found) = fs::metadata(&file)
        && found.file_type().is_block_device()
    {
        let node = PathBuf::from(format!("/sys/dev/block/{}", number(found.rdev())));
        users.extend(mounts(&numbers(&node, found.rdev())));
        users.extend(entries(&node.join("holders")).map(|holder| format!("part of {}", file_name(&holder))));
    }
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let mut swaps = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    if swaps.any(|name| Path::new(name) == file) {
        users.push("in use as swap".to_owned());
    }
    users.extend(processes(&file));
    if users.len() > MOST {
        let more = users.split_off(MOST).len();
        users.push(format!("{more} more"));
    }
    users
}

/// The device's number and those of its partitions.
fn numbers(node: &Path, own: u64) -> Vec<String> {
    let partitions = entries(node).filter(|entry| entry.join("partition").exists());
    let partitions = partitions.filter_map(|entry| fs::read_to_string(entry.join("dev")).ok());
    std::iter::once(number(own)).chain(partitions.map(|text| text.trim().to_owned())).collect()
}

/// Third and fifth field of `proc_pid_mountinfo(5)`: device and mount point.
fn mounts(numbers: &[String]) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let lines = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(2);
        let device = fields.next()?;
        let place = fields.nth(1)?;
        numbers.iter().any(|number| number == device).then(|| format!("mounted at {}", unescape(place)))
    });
    lines.collect()
}

fn unescape(place: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(place.to_owned(), |place, (code, plain)| place.replace(code, plain))
}

/// Processes that have it open. Their links are read, never followed: what they lead to may hang.
fn processes(file: &Path) -> Vec<String> {
    let own = std::process::id().to_string();
    let ids = entries(Path::new("/proc")).filter(|entry| {
        let name = file_name(entry);
        name != own && name.bytes().all(|digit| digit.is_ascii_digit())
    });
    let has_it = |process: &PathBuf| {
        entries(&process.join("fd")).any(|entry| fs::read_link(entry).is_ok_and(|target| target == file))
    };
    let users = ids.filter(has_it).map(|process| {
        let command = fs::read_to_string(process.join("comm")).unwrap_or_default();
        format!("open in process {} ({})", file_name(&process), command.trim())
    });
    users.collect()
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A device number as these files write it.
fn number(device: u64) -> String {
    format!("{}:{}", libc::major(device), libc::minor(device))
}
