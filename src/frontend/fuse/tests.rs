//! Servers whose threads fail.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Duration;

use crate::block::{Limits, LiveGeometry};
use crate::buffer::{Buffer, Pool};
use crate::io::{Completion, Cookie, QueueIndex, Rejected, Request};
use crate::path::BlockDevice;
use crate::reactor::Waker;
use crate::testing_support::{require_loops, skip};
use crate::time::Tick;
use crate::volume::{Queue, Volume};

use super::station::Station;
use super::{Buffers, Ended, Options, Server};

const PATIENCE: Duration = Duration::from_secs(30);

/// A queue that panics on the first read of the last block.
struct Mine(Queue);

impl Station for Mine {
    fn live_geometry(&self) -> LiveGeometry {
        self.0.live_geometry()
    }

    fn limits(&self) -> Limits {
        self.0.limits()
    }

    fn submit(&mut self, request: Request) -> Result<(), Rejected> {
        assert_ne!(request.extent.end().get(), self.0.geometry().capacity(), "the mine");
        self.0.submit(request)
    }

    fn poll(&mut self, now: Tick, completions: &mut Vec<Completion>) -> Option<Tick> {
        self.0.poll(now, completions)
    }

    fn poll_released(&mut self) -> Option<(Cookie, Buffer)> {
        self.0.poll_released()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn bell(&self) -> Option<Waker> {
        Station::bell(&self.0)
    }

    fn sleep(&mut self, channel: Option<BorrowedFd<'_>>, until: Option<Tick>) {
        Station::sleep(&mut self.0, channel, until);
    }

    fn let_go(&mut self) {
        Station::let_go(&mut self.0);
    }
}

#[test]
fn a_thread_that_panics_fails_all_io_and_leaves_nothing_hanging() {
    let Some(loops) = require_loops(1, 64 << 20) else { return };
    if File::options().read(true).write(true).open("/dev/fuse").is_err() {
        return skip("/dev/fuse cannot be opened");
    }
    let volume = Volume::builder().queues(2).path(BlockDevice::new(loops.device(0))).build().unwrap();
    let mines = (0..2).map(|index| Mine(volume.take_queue(QueueIndex(index)).unwrap())).collect();
    let server = Server::serve(mines, Buffers::new(2, 8).unwrap(), &Options::new()).unwrap();
    // Through the kernel's cache a read that fails is tried again, and the other thread would panic too.
    let device = File::options().read(true).custom_flags(libc::O_DIRECT).open(server.device()).unwrap();
    let mut memory = Pool::new(512, 1).unwrap().take(512).unwrap();
    device.read_exact_at(&mut memory, 0).unwrap();
    assert!(device.read_exact_at(&mut memory, (64 << 20) - 512).is_err());
    assert_eq!(
        server.ended_within(PATIENCE),
        Some(Ended::Failed("a thread of the server panicked".to_owned()))
    );
    // The other thread is told to end, and does so in a moment.
    let end = Tick::now().after(PATIENCE);
    while device.read_exact_at(&mut memory, 8 << 20).is_ok() {
        assert!(Tick::now() < end, "the other thread serves on");
    }
    assert!(server.stop(PATIENCE).is_err());
}
