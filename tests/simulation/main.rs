//! The crate's queues and supervisor under an adversary, against a naive model of what may be read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod bad_paths;
mod guarantees;
mod harness;
mod interruption;
mod races;
mod stories;
