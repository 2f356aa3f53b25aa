//! Multipath I/O in user space: one volume, several paths to the same logical unit.
//!
//! A [`Volume`] is built over paths, here two ways to one file; in earnest they are the block devices by which the kernel
//! shows one logical unit of an array. I/O goes through a [`Queue`], which its owner polls. When a path fails, another
//! takes over; each request completes once, and a write whose fate is unknown never lands over newer data.
//!
//! ```
//! use mpio::path::BlockDevice;
//! use mpio::policy::LeastQueue;
//! use mpio::{BlockCount, Cookie, Durability, Extent, Lba, Pool, QueueIndex, Request, Volume};
//!
//! # let file = std::env::temp_dir().join(format!("mpio-doc-{}", std::process::id()));
//! # std::fs::File::create(&file)?.set_len(1 << 20)?;
//! # let path = file.clone();
//! let volume = Volume::builder()
//!     .path(BlockDevice::new(path)) // and .path(BlockDevice::new("/dev/sdb")), and so on
//!     .policy(LeastQueue::default())
//!     .build()?;
//! let mut queue = volume.take_queue(QueueIndex(0)).expect("nobody took it");
//!
//! let pool = Pool::new(4096, 8)?;
//! let block_size = queue.geometry().block_size();
//! let mut buffer = pool.take(block_size).expect("eight are free");
//! buffer.fill(0x5a);
//! let extent = Extent::new(Lba::new(3), BlockCount::new(1))?;
//! queue.submit(Request::write(extent, buffer, Durability::Fua, Cookie(1)))?;
//!
//! let mut completions = Vec::new();
//! while completions.is_empty() {
//!     queue.wait(None, &mut completions);
//! }
//! completions.remove(0).result?;
//! # drop(queue);
//! # std::fs::remove_file(file)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Map
//! - [`Volume`]: control handle: add and remove paths, change the policy, events, status, close.
//! - [`Queue`]: submit requests, poll for completions, on your own thread.
//! - [`Dispatcher`]: a thread that polls queues for others, who use them through a [`Submitter`] (a lock-free lane, polled)
//!   or a [`Client`] (many threads and tasks, blocking or asynchronous).
//! - [`Request`], [`Completion`], [`Extent`], [`Pool`], [`Error`]: what goes in and comes out.
//! - [`path`]: what a path is; [`path::BlockDevice`]; [`path::Faulty`], which injects faults around any path.
//! - [`discover`]: the logical units that this host has, and the ways to each.
//! - [`policy`]: how a path is chosen.
#![cfg_attr(
    feature = "fuse",
    doc = "- [`frontend::fuse`]: a volume as a block device of the kernel, `/dev/loopN`."
)]
#![cfg_attr(any(test, feature = "sim"), doc = "- [`sim`]: the same code in virtual time, with faults.")]
//!
//! # What is promised of writes
//! While a write is in flight it may take effect more than once, and requests in flight that overlap have no order. After
//! its completion was delivered, a write never again takes effect over anything newer. How well that is known of a path
//! is graded: see [`path::FenceSupport`]. What happens when paths fail, are slow or fall silent, and which settings decide
//! it: [`failover`].
//!
//! # Features
//! - `fuse`: volumes as block devices of the kernel, through FUSE and a loop device.
//! - `sim`: the simulator.
//! - `testing`: suites of tests for policies and paths of your own; implies `sim`.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod block;
mod buffer;
mod control;
mod engine;
mod error;
#[doc = include_str!("../docs/failover.md")]
pub mod failover {}
#[cfg(feature = "fuse")]
pub mod frontend;
mod io;
mod os;
pub mod path;
#[cfg(any(test, feature = "testing"))]
pub mod path_suite;
pub mod policy;
mod reactor;
mod ring;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod sync;
#[cfg(test)]
mod testing_support;
mod time;
mod volume;

pub use path::block_device::discover;

/// Parsers of foreign data, for fuzzing: no part of the interface.
#[doc(hidden)]
#[cfg(feature = "testing")]
pub mod fuzzing {
    #[cfg(feature = "fuse")]
    pub use crate::frontend::fuse::protocol::foreign as fuse;
    pub use crate::path::block_device::nvme::access_of_namespace as namespace_access;
    pub use crate::path::block_device::scsi::access_of_group as target_port_groups;
    pub use crate::path::block_device::uevents::uevent;
    pub use crate::path::block_device::vpd83::{identifiers as vpd83, target_port_group};
}

pub use block::{BlockCount, Extent, Geometry, Lba, Limits};
pub use buffer::{ALIGNMENT, Buffer, Pool};
pub use control::{Event, EventKind};
pub use engine::{Health, NoPath, Sharing};
pub use error::{Cause, Class, DeviceError, Error, Fate};
pub use io::{
    Completion, Cookie, Durability, Memory, Operation, PathId, QueueIndex, Rejected, Request, Unmap,
};
pub use time::Tick;
pub use volume::{
    Client, Dispatcher, Events, PathOptions, PathStatus, Queue, Response, Served, Settled, Status, Submitter,
    Volume, VolumeBuilder,
};
