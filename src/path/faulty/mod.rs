//! A path with faults that are switched on and off while it runs.

mod device;
mod faults;
mod fence;
mod flights;
mod handle;
mod queue;
mod shared;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use faults::{FaultKind, Stall, Transport};
pub use handle::FaultHandle;

use crate::error::{Cause, Error};
use crate::path::{ControlSink, Description, Incarnation, OpenQueue, Path, QueueIndex};
use queue::OpenFaultyQueue;
use shared::Shared;

/// Any path, with faults: for tests of a daemon, and to see what a volume does when a path dies.
///
/// Without faults it hands everything on, at the cost of some 20 ns per attempt and 40 ns per batch. The faults are
/// switched by the [`FaultHandle`], from any thread. What an attempt meets by chance follows from the seed, the queue,
/// the connection and the order of attempts alone; time is taken from the queue's polls. So it works in simulated time
/// too, and a run can be repeated.
///
/// A fault is told as a real path would tell it, and never more than is true: an attempt that is said to be fenced
/// cannot take effect any more, one that is kept by [`Stall::Lost`] really lands later, over newer data.
///
/// ```
/// # use mpio::path::{ControlSink, Identity, Incarnation, OpenQueue, QueueIndex};
/// # use mpio::{Geometry, Limits, Error};
/// use mpio::path::{Description, FaultKind, Faulty, Path, Stall};
/// # struct Mine;
/// # impl Path for Mine {
/// #     fn name(&self) -> String { "mine".into() }
/// #     fn connect(&mut self, _: Incarnation) -> Result<Description, Error> {
/// #         Ok(Description::new(Identity::none(), Geometry::new(512, 64)?, Limits::new(65_536)))
/// #     }
/// #     fn open_queue(&mut self, _: QueueIndex) -> Result<Box<dyn OpenQueue>, Error> { unreachable!() }
/// #     fn probe(&mut self, sink: ControlSink) { sink.probed(Ok(())) }
/// # }
/// # let path = Mine;
/// use std::time::Duration;
///
/// let (mut path, faults) = Faulty::new(path, 42);
/// path.connect(Incarnation::NONE.next())?; // in earnest the volume does this
///
/// faults.slow(Duration::from_millis(20));
/// faults.errors(FaultKind::Busy, 10_000)?; // one in a hundred
/// faults.stall(Stall::Lost { land_after: Some(Duration::from_secs(3)) });
/// faults.fail();
/// assert!(path.connect(Incarnation::NONE.next().next()).is_err());
///
/// faults.restore();
/// assert!(path.connect(Incarnation::NONE.next().next()).is_ok());
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct Faulty<P> {
    inner: P,
    seed: u64,
    block_size: u32,
    shared: Arc<Shared>,
}

impl<P: Path> Faulty<P> {
    /// Wraps `inner`, without faults so far. `seed` decides what happens by chance.
    pub fn new(inner: P, seed: u64) -> (Self, FaultHandle) {
        let shared = Shared::new();
        let handle = FaultHandle::new(Arc::clone(&shared));
        (Self { inner, seed, block_size: 1, shared }, handle)
    }

    /// Fails with why there is no connection, if there cannot be one.
    fn check(&self) -> Result<(), Error> {
        let hindrance = self.shared.lock().hindrance();
        hindrance.map_or(Ok(()), |problem| Err(Error::unreachable(self.inner.name(), problem)))
    }
}

impl<P: Path> Path for Faulty<P> {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn connect(&mut self, incarnation: Incarnation) -> Result<Description, Error> {
        self.check()?;
        let mut description = self.inner.connect(incarnation)?;
        // It may have been lost meanwhile.
        self.check()?;
        self.shared.lock().connected(incarnation, &mut description)?;
        self.block_size = description.geometry.block_size();
        Ok(description)
    }

    fn open_queue(&mut self, queue: QueueIndex) -> Result<Box<dyn OpenQueue>, Error> {
        let incarnation = self.shared.lock().incarnation();
        self.shared.check_open(incarnation, || self.inner.name())?;
        Ok(Box::new(OpenFaultyQueue {
            inner: self.inner.open_queue(queue)?,
            name: self.inner.name(),
            shared: Arc::clone(&self.shared),
            incarnation,
            block_size: self.block_size,
            seed: self.seed ^ stream(queue, incarnation),
        }))
    }

    fn fence(&mut self, through: Incarnation, sink: ControlSink) -> Result<(), Cause> {
        let delay = self.shared.lock().fence_after;
        match delay {
            Some(delay) => {
                self.shared.change(|state| state.begin_fence(through, delay, sink));
                Ok(())
            }
            None => self.inner.fence(through, self.gated(sink)),
        }
    }

    fn probe(&mut self, sink: ControlSink) {
        self.shared.lock().meet(&sink);
        if self.shared.lock().is_connected() {
            self.inner.probe(self.gated(sink));
        } else {
            sink.probed(Err(Cause::NotConnected));
        }
    }
}

impl<P> Faulty<P> {
    fn gated(&self, sink: ControlSink) -> ControlSink {
        let shared = Arc::clone(&self.shared);
        sink.behind(move |onward, news| shared.hear(onward, news))
    }
}

/// A number of its own for each queue of each connection, spread over all bits.
fn stream(queue: QueueIndex, incarnation: Incarnation) -> u64 {
    (u64::from(incarnation.get()) << 16 | u64::from(queue.0)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
