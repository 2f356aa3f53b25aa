//! Bad input through the public interface: what is wrong is said, with what to do; the rest goes on; nothing hangs, and
//! no claim is left behind.
//!
//! Waiting is bounded by turns of the queue, never by a clock that a test asserts on.

mod attempts;
mod panics;
mod rig;
mod script;
mod scripted;
