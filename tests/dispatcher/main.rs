//! Volumes whose queues a dispatcher polls, used through submitters.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

#[path = "../../src/testing_support.rs"]
#[allow(dead_code, reason = "each user takes what it needs")]
mod testing_support;

mod endings;
mod full;
mod rig;
mod traffic;
