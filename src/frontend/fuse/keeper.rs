//! Who attaches the loop device and has it open.
//!
//! Both may wait for threads of this process: to open, look at and attach the FUSE file is to ask its server, and to close a block
//! device is to wait until what the kernel has cached for it is written. When the process is killed those threads are gone. The
//! kernel fails what waits for them as soon as `/dev/fuse` is closed, but a table of descriptors is closed only when the last thread
//! that uses it is gone, and one descriptor after the other: a thread that waits would keep open what it waits for, for ever.
//! Therefore all of that is done by a thread that has a table of descriptors to itself. It may wait; the others close theirs
//! meanwhile.
//!
//! What that thread lets go of must not own a descriptor of the others: it would close another, or none.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam::channel::bounded;

use crate::block::LiveGeometry;
use crate::error::Error;
use crate::os;

use super::loop_device::{self, LoopDevice};
use super::mount::{self, Mount};
use super::standing::{Errand, Standing};
use super::sys;

/// What is to be attached.
pub(super) struct Wish {
    pub(super) geometry: LiveGeometry,
    pub(super) name: String,
    /// `None`: any that is free.
    pub(super) device: Option<PathBuf>,
}

/// What was attached.
pub(super) struct Attached {
    pub(super) device: PathBuf,
    /// The number under which the kernel lists the connection.
    pub(super) connection: u64,
}

/// Starts the keeper, which alone has the device open when this returns.
pub(super) fn start(mount: Mount, wish: Wish, standing: &Arc<Standing>) -> Result<Attached, Error> {
    let (give_back, ours) = bounded(1);
    let (reply, answer) = bounded(1);
    let theirs = Arc::clone(standing);
    os::spawn_io_thread("mpio-fuse-keep", move || {
        let own = sys::isolate(mount.root()).map(Mount::from);
        // In this thread the number of `mount` means `own`: only the other can close it.
        if let Err(unsent) = give_back.send(mount) {
            std::mem::forget(unsent);
        }
        let alone =
            |source| Error::os("having a thread with descriptors of its own (that takes Linux 5.9)", source);
        match own.map_err(alone).and_then(|own| attach(own, &wish, &theirs)) {
            Ok((device, attached)) => {
                theirs.hold();
                let _ = reply.send(Ok(attached));
                keep(&device, &theirs);
            }
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    })?;
    drop(ours.recv());
    let died =
        |_| Error::os("waiting for the thread that attaches", io::Error::from_raw_os_error(libc::ECHILD));
    answer.recv().map_err(died)?
}

fn attach(mount: Mount, wish: &Wish, standing: &Standing) -> Result<(File, Attached), Error> {
    // What this thread may have to say on standard error must not go to the device.
    let _standard = sys::occupy_standard_descriptors()
        .map_err(|source| Error::os("opening the root directory in the thread that attaches", source))?;
    let file = mount.open()?;
    // Has the kernel ask for the size, which older loop devices take as it was last known.
    let connection = mount::connection(&file)?;
    let device = LoopDevice::attach(&file, &wish.geometry, &wish.name, wish.device.as_deref(), standing)?;
    let attached = Attached { device: device.path().to_owned(), connection };
    Ok((device.into_file(), attached))
}

/// Has the device open until nobody serves it any more, or what is cached for it was written on demand.
fn keep(device: &File, standing: &Standing) {
    loop {
        match standing.errand() {
            Errand::Close => return,
            Errand::Resize(bytes) => standing.resized(&loop_device::take_over_size(device, bytes)),
            Errand::Sync => match device.sync_all() {
                Ok(()) => return standing.let_go(),
                Err(error) => standing.unsynced(error),
            },
        }
    }
}
