//! Who has the loop device open.
//!
//! To close a block device is to wait until what the kernel has cached for it is written, which here takes threads of this
//! process. When the process is killed they are gone; the kernel fails that I/O as soon as `/dev/fuse` is closed, but a
//! process closes its descriptors one after the other, and would wait for the one before it comes to the other: for ever.
//! Therefore the loop device is open in a thread that has a table of descriptors to itself. It may wait; the others close
//! theirs meanwhile.
//!
//! What that thread lets go of must not own a descriptor: it would close another, or none.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use crossbeam::channel::bounded;

use crate::error::Error;
use crate::os;

use super::loop_device::LoopDevice;
use super::standing::{Errand, Standing};
use super::sys;

/// Starts the keeper, which alone has the device open when this returns.
pub(super) fn start(device: LoopDevice, standing: &Arc<Standing>) -> Result<(), Error> {
    let name = device.path().display().to_string();
    let (reply, answer) = bounded(1);
    let (file, theirs) = (device.into_file(), Arc::clone(standing));
    os::spawn_io_thread("mpio-fuse-keep", move || {
        let own = sys::isolate(file.as_fd()).map(File::from);
        let (own, kept) = match own {
            Ok(own) => (Some(own), Ok(())),
            Err(error) => (None, Err(error)),
        };
        if own.is_some() {
            theirs.hold();
        }
        // In this thread the number of `file` means `own`: only the other can close it.
        if let Err(unsent) = reply.send((file, kept)) {
            std::mem::forget(unsent);
        }
        if let Some(own) = own {
            keep(&own, &theirs);
        }
    })?;
    let kept: io::Result<()> = match answer.recv() {
        Ok((_ours_is_closed_now, kept)) => kept,
        Err(_) => Err(io::Error::from_raw_os_error(libc::ECHILD)),
    };
    kept.map_err(|source| {
        Error::os(format!("keeping {name} open in a thread (that takes Linux 5.9)"), source)
    })
}

/// Has the device open until nobody serves it any more, or what is cached for it was written on demand.
fn keep(device: &File, standing: &Standing) {
    while standing.errand() == Errand::Sync {
        match device.sync_all() {
            Ok(()) => return standing.let_go(),
            Err(error) => standing.unsynced(error),
        }
    }
}
