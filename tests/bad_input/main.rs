//! Bad input through the public interface: what is wrong is said, with what to do; the rest goes on; nothing hangs, and
//! no claim is left behind.
//!
//! Waiting is bounded by turns of the queue, never by a clock that a test asserts on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]
#![allow(clippy::disallowed_methods, reason = "callers that block have threads of their own")]

mod attempts;
mod clocks;
mod connecting;
mod endings;
mod events;
mod files;
mod forked;
mod meddling;
mod membership;
mod panics;
mod policies;
mod requests;
mod rig;
mod script;
mod scripted;
mod settings;
#[allow(dead_code, reason = "each crate that takes it in uses part of it")]
#[path = "../../src/testing_support.rs"]
mod testing_support;
