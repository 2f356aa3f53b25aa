//! The example `serve`, as its users see it: driven through its command line, its control socket, and the device that it
//! serves. Needs root, /dev/fuse and losetup; where they are missing a test says that it is skipped, or fails if
//! `MPIO_REQUIRE=all`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "bounds of waits")]

mod command_line;
mod commands;
mod device;
mod endings;
mod killed;
mod machine;
mod rig;
mod socket;
#[allow(dead_code, reason = "each crate that takes it in uses part of it")]
#[path = "../../src/testing_support.rs"]
mod testing_support;
