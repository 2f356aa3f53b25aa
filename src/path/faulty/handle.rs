//! The switches.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::path::faulty::faults::{FaultKind, Rate, Stall};
use crate::path::faulty::shared::{Shared, State};

/// Switches the faults of one [`Faulty`](super::Faulty) path, from any thread, while it runs.
///
/// Clones switch the same path. Each fault stays on until it is set anew or [`restore`](Self::restore) ends them all;
/// several can be on at once. A call returns at once; queues of the path are woken and see it at their next poll.
#[derive(Clone, Debug)]
pub struct FaultHandle {
    shared: Arc<Shared>,
}

impl FaultHandle {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The connection is lost. What is out is given up as of unknown fate, not fenced, and completes when the wrapped
    /// path answers; new attempts are not sent; connects and probes fail. A queue of the lost connection stays
    /// without one after [`restore`](Self::restore) too: the volume connects again and opens new queues.
    pub fn fail(&self) {
        self.shared.change(State::fail);
    }

    /// The path falls silent. Probes are not answered until it is restored, and connects fail.
    pub fn stall(&self, stall: Stall) {
        self.shared.change(|state| state.stall(stall));
    }

    /// Results come `delay` after the wrapped path gave them. Zero ends it for later results.
    pub fn slow(&self, delay: Duration) {
        self.shared.change(|state| state.faults.slow = delay);
    }

    /// Of a million attempts, `per_million` meet an error of this kind, by chance. Zero ends it. An attempt meets at
    /// most one; a stalled path has none.
    ///
    /// # Errors
    /// [`Error::Setting`] if `per_million` is above a million.
    pub fn errors(&self, kind: FaultKind, per_million: u32) -> Result<(), Error> {
        let rate = Rate::per_million("error rate", per_million)?;
        self.shared.change(|state| state.faults.set_error(kind, rate));
        Ok(())
    }

    /// Of a million reads and writes, `per_million` are done whole and said to have ended half-way, rounded down to
    /// whole blocks: nothing of a single block. Zero ends it.
    ///
    /// # Errors
    /// [`Error::Setting`] if `per_million` is above a million.
    pub fn short(&self, per_million: u32) -> Result<(), Error> {
        let rate = Rate::per_million("short transfer rate", per_million)?;
        self.shared.change(|state| state.faults.short = rate);
        Ok(())
    }

    /// The device says that it has `blocks` logical blocks, with the next probe and at the next connect. Attempts are
    /// not held to it. [`restore`](Self::restore) brings the real capacity back.
    pub fn set_capacity(&self, blocks: u64) {
        self.shared.change(|state| state.device.set_capacity(blocks));
    }

    /// Gives the path a fence of its own, proven, that takes `delay`: attempts which a stall keeps are then dropped,
    /// never to be done, and the fence is reported when the wrapped path has answered all others. Called while
    /// the path is part of a volume, it counts for what waits at that moment too. It is no fault and stays when restored.
    ///
    /// The time is told by a queue's polls: where none of the fenced connections is left, by one of a later connection. Where
    /// none can open, since the path is failed or silent, the fence is made at once.
    ///
    /// Without it fences are the wrapped path's, and one is reported only when no attempt kept by a stall is left.
    /// A fenced connection takes no new attempts.
    pub fn fence_after(&self, delay: Duration) {
        self.shared.change(|state| state.set_fence(delay));
    }

    /// Ends all faults. Results that were held up are delivered, and attempts that a stall kept are done now.
    pub fn restore(&self) {
        self.shared.change(State::restore);
    }
}
