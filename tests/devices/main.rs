//! Volumes over real loop devices. Needs root, losetup, mkfs.ext4, mount and fsfreeze; where they are missing a test says
//! that it is skipped, or fails if `MPIO_REQUIRE=all`.
//!
//! `MPIO_SOAK_SECONDS`: how long the soak test runs, 6 s unless set. `MPIO_SOAK_SEED`: its seed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod anonymous;
mod clerk;
mod freezable;
mod frozen;
mod ledger;
mod mischief;
#[allow(dead_code, reason = "each crate that takes it in uses part of it")]
#[path = "../support/mount.rs"]
mod mount;
mod pinned;
mod soak;
mod stamps;
#[allow(dead_code, reason = "each crate that takes it in uses part of it")]
#[path = "../../src/testing_support.rs"]
mod testing_support;
mod traffic;
mod uevents;
