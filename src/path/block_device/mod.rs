//! Any block device or regular file, through the kernel.

mod access;
mod calls;
mod claim;
mod connection;
pub mod discover;
mod facts;
mod fault;
mod host;
mod identity;
mod node;
pub(crate) mod nvme;
mod options;
mod queue;
pub(crate) mod scsi;
mod search;
mod slab;
mod sys;
#[cfg(test)]
mod tests;
mod transport;
mod twins;
pub(crate) mod uevents;
pub(crate) mod vpd83;
mod workers;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::connection::{Connection, Standing};
use self::options::Options;
use self::queue::{Opening, Threads};
use self::search::Known;
use crate::error::{Cause, Error};
use crate::path::{
    AccessState, ControlSink, Description, FenceSupport, Incarnation, OpenQueue, Path, QueueIndex,
};

/// A path to a block device node or a regular file.
///
/// Reads and writes go through the queue's `io_uring` with direct I/O, or through up to eight threads where `io_uring` is
/// not allowed. A write with [`Durability::Fua`](crate::Durability::Fua) is sent with `RWF_DSYNC`. Flush, discard and
/// write zeroes block, and run on one helper thread of the path. A file system without direct I/O is used through its
/// page cache.
///
/// # The claim
/// Connecting takes the device for this process alone: a block device is opened with `O_EXCL`, which excludes mounts,
/// device mapper, MD and other careful programs; a regular file is locked with `flock(2)`. A claim lives as long as the
/// path and as the last I/O that was sent through it, also that of a process that was killed; so a new instance that
/// gets the claim knows that nothing of the old one is still on its way through this node. Other names of the same unit on this
/// host (another path to it, another loop device over the file) are looked at too: where another process has claimed, mounted or
/// swaps to one of them, connecting is refused.
///
/// # What an error means
/// What the device answered (medium, reservation, protection, space, range) is final. Any other error leaves it open
/// whether a write was done. On a local device (virtio, SATA, SAS, USB, NVMe on PCI, and a file or
/// loop device on such a disk or in memory) it can no longer be done after the kernel has answered. Over a fabric, and wherever sysfs does not say
/// what lies between (device mapper, MD, RAID controllers), it still can be, and a write then waits for a fence: see
/// [`fenced_by`](Self::fenced_by).
///
/// A device that is silent holds what was sent to it until the kernel answers: nothing else releases the memory.
///
/// # Identity
/// Of a SCSI disk its VPD page 0x83, of an NVMe namespace its UUID, NGUID and EUI-64 with its number, or else the subsystem's name
/// with the number; of a file or a loop device the file system and inode; of a partition those of its disk with its offset. Other
/// devices (virtio, device mapper, MD) have none that is unique in the world: the caller must assert that they belong to the
/// volume.
///
/// A disk that was removed and comes back under another name is found again by its identity, first where it was before.
///
/// # Access states
/// ALUA of a SCSI disk (its target port group, asked for with each probe) and ANA of an NVMe namespace, where the kernel shows it.
/// I/O that the kernel refuses for a path's state goes another way, and was not sent.
///
/// ```no_run
/// use mpio::path::{BlockDevice, FenceSupport};
/// use std::time::Duration;
///
/// let path = BlockDevice::new("/dev/disk/by-path/pci-0000:81:00.0-fc-0x50060e80-lun-1")
///     .depth(64)
///     .fenced_by(FenceSupport::Assumed(Duration::from_secs(30)));
/// ```
#[derive(Debug)]
pub struct BlockDevice {
    path: PathBuf,
    options: Options,
    connection: Option<Arc<Connection>>,
    /// What was connected last.
    known: Option<Known>,
    depth: u32,
    /// What was last reported: the capacity in blocks, and the access state.
    capacity: u64,
    access: AccessState,
    threads: Option<Threads>,
}

impl BlockDevice {
    /// A path to the block device or regular file at `path`. Nothing is opened before the volume connects it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            options: Options::new(),
            connection: None,
            known: None,
            depth: 1,
            capacity: 0,
            access: AccessState::Optimized,
            threads: None,
        }
    }

    /// How long connecting waits for a claim that another has, 10 s unless set. A mounted device is refused at once.
    #[must_use]
    pub fn claim_timeout(mut self, span: Duration) -> Self {
        self.options.claim_timeout = span;
        self
    }

    /// How it is made sure that writes of unknown fate take no effect any more. Unless set: on a local device by the kernel's
    /// answers ([`FenceSupport::Answered`]), over a fabric by waiting ([`FenceSupport::Assumed`]) for a time that is derived from what
    /// the kernel says of its transport, or for a minute. It must be longer than the fabric and the target can hold a command that the
    /// kernel has given up.
    ///
    /// [`FenceSupport::Proven`] is refused: the kernel has no way to give that proof.
    #[must_use]
    pub fn fenced_by(mut self, support: FenceSupport) -> Self {
        self.options.fence = Some(support);
        self
    }

    /// Most attempts at once over all queues, 128 unless set. Seven eighths of the device's `nr_requests` is the most
    /// that is used, so that the kernel never makes a queue's thread wait.
    #[must_use]
    pub fn depth(mut self, attempts: u32) -> Self {
        self.options.depth = attempts;
        self
    }

    /// Bytes in a logical block of a regular file; unless set, the least that its file system takes for direct I/O. A
    /// block device has its own.
    #[must_use]
    pub fn block_size(mut self, bytes: u32) -> Self {
        self.options.block_size = Some(bytes);
        self
    }

    /// The connection that stands, or a new one.
    fn connected(&mut self) -> Result<Arc<Connection>, Error> {
        let own = self.connection.as_ref().and_then(|connection| connection.number());
        let node = search::find(&self.path, self.known.as_ref(), own)?;
        if let Some(connection) = &self.connection {
            match connection.standing(&node) {
                Standing::Good => return Ok(Arc::clone(connection)),
                Standing::Failing(source) => {
                    return Err(Error::os(format!("reading the first block of {}", self.name()), source));
                }
                // The file is closed when what was sent through it has ended.
                Standing::Gone => self.connection = None,
            }
        }
        Ok(Arc::new(Connection::open(&node, &self.options)?))
    }
}

impl Path for BlockDevice {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn connect(&mut self, _incarnation: Incarnation) -> Result<Description, Error> {
        self.options.check()?;
        let connection = self.connected()?;
        let description = facts::describe(&self.path, &connection, &self.options)?;
        self.depth = description.depth;
        (self.capacity, self.access) = (description.geometry.capacity(), description.access);
        self.known = Some(Known { identity: description.identity.clone(), place: description.place.clone() });
        self.connection = Some(connection);
        Ok(description)
    }

    fn open_queue(&mut self, _queue: QueueIndex) -> Result<Box<dyn OpenQueue>, Error> {
        let Some(connection) = &self.connection else {
            return Err(Error::path(self.name(), "is not connected; connect it first"));
        };
        let threads = self.threads.get_or_insert_with(|| Threads::new(self.depth));
        threads.helper.start()?;
        Ok(Box::new(Opening {
            connection: Arc::clone(connection),
            threads: threads.clone(),
            depth: self.depth,
        }))
    }

    /// Looks whether it is the same device, how the array says that I/O may go this way, and whether the size has changed; reads the
    /// first block, past every cache, where I/O is allowed.
    fn probe(&mut self, sink: ControlSink) {
        let Some(connection) = self.connection.as_ref().filter(|connection| !connection.has_changed()) else {
            return sink.probed(Err(Cause::NotConnected));
        };
        let access = connection.access();
        if std::mem::replace(&mut self.access, access) != access {
            sink.access_state(access);
        }
        if let Err(error) = connection.test(access) {
            return sink.probed(probe_result(&error));
        }
        match connection.capacity() {
            Ok(capacity) if capacity != self.capacity => {
                self.capacity = capacity;
                sink.capacity(capacity);
                sink.probed(Ok(()));
            }
            Ok(_) => sink.probed(Ok(())),
            Err(error) => sink.probed(probe_result(&error)),
        }
    }
}

/// What a failed read says of the path: an error of the device's own is the answer of one that works.
fn probe_result(error: &io::Error) -> Result<(), Cause> {
    match error.raw_os_error() {
        Some(errno) if fault::is_of_the_device(errno) => Ok(()),
        Some(libc::ENXIO | libc::ENODEV) => Err(Cause::NotConnected),
        Some(libc::ETIMEDOUT) => Err(Cause::Timeout),
        Some(errno) => Err(Cause::Errno(errno)),
        None => Err(Cause::Broken),
    }
}
