//! The path on real files and loop devices, through the ring and through threads.

#![allow(clippy::disallowed_methods, reason = "tests start threads")]

mod connecting;
mod device;
mod rig;
mod transfer;
