//! A client as its users see it: threads and tasks, over a file in memory, with and without faults.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod blocking;
mod executor;
mod futures;
mod rig;
