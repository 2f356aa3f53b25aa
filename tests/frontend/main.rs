//! Volumes served as real loop devices. Needs root, `/dev/fuse`, loop devices, and blkdiscard, fallocate, dd, mkfs.ext4 and
//! mount; where they are missing a test says that it is skipped, or fails if `MPIO_REQUIRE=all`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "../support/attachment.rs"]
mod attachment;
mod child;
mod control;
mod direct;
mod endings;
mod errors;
mod killed;
mod medium;
#[allow(dead_code, reason = "each crate that takes it in uses part of it")]
#[path = "../support/mount.rs"]
mod mount;
mod refusals;
mod rig;
#[allow(dead_code, reason = "each crate that takes it in uses part of it")]
#[path = "../../src/testing_support.rs"]
mod testing_support;
mod transfers;
mod zeroes;
