//! The crate's paths pass the suite that it offers for those of others.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it fails")]

mod flawed;
#[allow(dead_code, reason = "each crate that takes it in uses part of it")]
#[path = "../../src/testing_support.rs"]
mod testing_support;

use mpio::path::{BlockDevice, Faulty};
use mpio::path_suite;

use testing_support::{TempDir, require_loops};

path_suite!(regular_file, file(|path| path));
path_suite!(regular_file_of_large_blocks, file(|path| path.block_size(4096)));
path_suite!(regular_file_one_attempt_at_a_time, file(|path| path.depth(1)));
path_suite!(loop_device, loops(|path| path));
path_suite!(without_faults, file(|path| Faulty::new(path, 1).0));
path_suite!(loop_device_without_faults, loops(|path| Faulty::new(path, 1).0));

const SIZE: u64 = 1 << 20;

/// The one way to a file of its own.
fn file<P>(path: impl Fn(BlockDevice) -> P) -> impl Fn(usize) -> Option<P> {
    let dir = TempDir::new();
    let file = dir.file("disk", SIZE);
    move |way| {
        let _kept = &dir;
        (way == 0).then(|| path(BlockDevice::new(&file)))
    }
}

/// Two ways to one file; none where there are no loop devices.
fn loops<P>(path: impl Fn(BlockDevice) -> P) -> impl Fn(usize) -> Option<P> {
    let loops = require_loops(2, SIZE);
    move |way| {
        let loops = loops.as_ref()?;
        (way < 2).then(|| path(BlockDevice::new(loops.device(way))))
    }
}
