//! A served volume as a whole: file systems, fio, `verify` and swap on the device, while paths fail in every way, the
//! server is killed, and memory is short. Needs root, /dev/fuse, loop devices, ext4 and fio; where they are missing a
//! test says that it is skipped, or fails if `MPIO_REQUIRE=all`. `MPIO_SOAK_SECONDS` is how long the long one takes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]
#![allow(clippy::disallowed_methods, reason = "bounds of waits")]

#[path = "../support/attachment.rs"]
mod attachment;
mod chaos;
mod killed;
mod mischief;
#[allow(dead_code, reason = "each crate that takes it in uses part of it")]
#[path = "../support/mount.rs"]
mod mount;
mod one_bad_path;
mod pressure;
#[path = "../serve/rig.rs"]
#[allow(dead_code, reason = "each crate that takes it in uses part of it")]
mod rig;
#[path = "../../src/testing_support.rs"]
#[allow(dead_code, reason = "each crate that takes it in uses part of it")]
mod testing_support;
mod tools;
