//! A volume as a block device of the kernel, `/dev/loopN`, on any Linux with FUSE.
//!
//! One FUSE file is backed by the volume and attached to a loop device with direct I/O. An unmodified file system or
//! program uses the device; each of its requests comes to a thread of the [`Server`], goes into a [`Queue`](crate::Queue)
//! of the volume without another hop, and is answered when the volume has completed it, in any order.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use mpio::frontend::fuse::{Buffers, Options, Server};
//! use mpio::path::BlockDevice;
//! use mpio::{QueueIndex, Volume};
//!
//! let buffers = Buffers::new(1, 128)?;
//! let volume = buffers.register(Volume::builder()).path(BlockDevice::new("/dev/sdb")).build()?;
//! let queues = volume.take_queue(QueueIndex(0)).into_iter().collect();
//! let server = Server::start(queues, buffers, &Options::new())?;
//! println!("{}", server.device().display());
//! // … until it is time to end:
//! server.stop(Duration::from_secs(30))?;
//! # Ok::<(), mpio::Error>(())
//! ```
//!
//! # What it needs
//! Linux 5.9 or later with FUSE (`/dev/fuse`) and loop devices (`/dev/loop-control`), and root (`CAP_SYS_ADMIN`).
//!
//! # What is left behind
//! Nothing, however the process ends. The FUSE file is in no directory: its mount is detached and goes with the
//! process's descriptors. The loop device is set to clear itself when its last user closes it; the server is one, so
//! that a device nobody else has open goes with the process too. To whoever still has it open all I/O fails from
//! then on. A process that is killed while the kernel holds I/O of its paths, which hang, ends when they answer, and its
//! device with it.
//!
//! The process that serves must not use its own device: killed while it waits for itself, it could not end.
//!
//! # Durability
//! A write is durable after a later flush (`fsync`, a file system's commit) has succeeded, or at once if the volume's
//! device has no cache. Loop devices have no forced writes (FUA): the kernel sends a write and a flush instead.

mod buffers;
mod channel;
mod errno;
mod keeper;
mod life;
mod loop_device;
mod mount;
mod options;
pub(crate) mod protocol;
mod server;
mod shape;
mod standing;
mod station;
mod sys;
mod sysctl;
mod tasks;
#[cfg(test)]
mod tests;
mod timeouts;
mod verdict;
mod worker;

pub use buffers::Buffers;
pub use options::Options;
pub use server::{Ended, Server};
