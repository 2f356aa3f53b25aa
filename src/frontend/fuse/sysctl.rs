//! The kernel's settings of FUSE, `fs.fuse.*`.

use std::fs;
use std::path::Path;

/// Where they are.
const DIRECTORY: &str = "/proc/sys/fs/fuse";

/// A setting; `None` if this kernel has none of that name.
pub(super) fn read(name: &str) -> Option<u64> {
    read_in(Path::new(DIRECTORY), name)
}

/// The same in another directory.
pub(super) fn read_in(directory: &Path, name: &str) -> Option<u64> {
    fs::read_to_string(directory.join(name)).ok()?.trim().parse().ok()
}
