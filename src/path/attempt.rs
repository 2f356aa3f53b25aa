//! Attempts on their way down, outcomes on their way up.

use std::time::Duration;

use crate::block::Extent;
use crate::buffer::Lease;
use crate::error::{Cause, DeviceError, Fate};
use crate::io::Operation;
use crate::path::{AccessState, QueueIndex};

/// Names an attempt within its volume: a queue, a place and the place's generation, so that a late or repeated result of
/// an earlier attempt in the same place is told apart, and one that strayed into another queue too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
    pub(crate) queue: QueueIndex,
}

impl AttemptId {
    pub(crate) const fn new(queue: QueueIndex, index: u32, generation: u32) -> Self {
        Self { index, generation, queue }
    }
}

/// One try of a request on one path, with the right to its memory. To hand it back is to promise that the path
/// touches the memory no more; to drop it loses the memory for good, and the request never completes by it.
#[derive(Debug)]
#[must_use = "an attempt that is dropped never finishes its request"]
pub struct Attempt {
    id: AttemptId,
    operation: Operation,
    extent: Extent,
    memory: Option<Lease>,
}

impl Attempt {
    pub(crate) const fn new(
        id: AttemptId,
        operation: Operation,
        extent: Extent,
        memory: Option<Lease>,
    ) -> Self {
        Self { id, operation, extent, memory }
    }

    /// Its name.
    pub const fn id(&self) -> AttemptId {
        self.id
    }

    /// What to do.
    pub const fn operation(&self) -> Operation {
        self.operation
    }

    /// Where; [`Extent::NONE`] for a flush.
    pub const fn extent(&self) -> Extent {
        self.extent
    }

    /// The memory: of a write to read from, of a read to fill, `None` for other operations.
    pub const fn memory(&self) -> Option<&Lease> {
        self.memory.as_ref()
    }

    /// The same, to fill it.
    pub const fn memory_mut(&mut self) -> Option<&mut Lease> {
        self.memory.as_mut()
    }

    /// Bytes to transfer.
    pub const fn len(&self) -> usize {
        match &self.memory {
            Some(memory) => memory.len(),
            None => 0,
        }
    }

    /// Whether no data moves.
    pub const fn is_empty(&self) -> bool {
        self.memory.is_none()
    }

    pub(crate) fn into_memory(self) -> Option<Lease> {
        self.memory
    }
}

/// A batch of attempts for one path, oldest first. The path takes what it has room for.
#[derive(Debug)]
pub struct Attempts<'a> {
    /// Newest first, so that taking is a pop.
    batch: &'a mut Vec<Attempt>,
}

impl<'a> Attempts<'a> {
    /// The attempts of `batch`, which has the newest first.
    pub(crate) const fn new(batch: &'a mut Vec<Attempt>) -> Self {
        Self { batch }
    }

    /// The next attempt.
    #[inline]
    #[allow(clippy::should_implement_trait, reason = "an iterator would invite `collect` on the data path")]
    pub fn next(&mut self) -> Option<Attempt> {
        self.batch.pop()
    }

    /// Puts the attempt that was taken last back: it is not sent.
    pub fn put_back(&mut self, attempt: Attempt) {
        self.batch.push(attempt);
    }

    /// Attempts left.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }
}

/// How well it is known that nothing sent earlier can take effect any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FenceGrade {
    /// Not at all: the user wants such writes sent again all the same ([`FenceSupport::Resend`](super::FenceSupport::Resend)).
    None,
    /// By the word of an operator or a program ([`Volume::vouch`](crate::Volume::vouch)).
    Vouched,
    /// By waiting for as long as a command can live in the transport, as far as is known.
    Assumed,
    /// By the device's answer, a local transport's error, a successful abort, or a controller that was reset.
    Proven,
}

/// Why an attempt did not succeed, by what it means for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It never left. The request goes to another path; this one is taken down until it connects again.
    NotSent(Cause),
    /// The path's access state does not allow it: untouched. The request goes to another path.
    Refused(AccessState),
    /// It may have been done. `fence` is how well it is known that it can no longer take effect; without one, a
    /// write is not sent again before the path was fenced.
    Unknown {
        /// What happened.
        cause: Cause,
        /// `None`: it may yet land.
        fence: Option<FenceGrade>,
    },
    /// The device is too busy: not done. This path gets nothing for a while; it counts as healthy.
    Congested {
        /// How long to leave it alone.
        retry_after: Duration,
    },
    /// The device answered with an error.
    Final(DeviceError),
}

impl Fault {
    /// The row of the fate table that it belongs to.
    pub const fn fate(self) -> Fate {
        match self {
            Self::NotSent(_) => Fate::NotSent,
            Self::Refused(_) => Fate::Refused,
            Self::Unknown { .. } => Fate::Unknown,
            Self::Congested { .. } => Fate::Congested,
            Self::Final(_) => Fate::Final,
        }
    }

    /// Whether the attempt can still take effect.
    pub const fn may_land(self) -> bool {
        matches!(self, Self::Unknown { fence: None, .. })
    }
}

/// What became of an attempt.
#[derive(Debug)]
pub enum Outcome {
    /// Finished and released. `Ok` has the bytes that were transferred, for a read or a write.
    Complete(Attempt, Result<u32, Fault>),
    /// Finished, but the path still holds the memory.
    GaveUp(AttemptId, Fault),
    /// Released, some time after it was given up, with no more known of its end.
    Released(Attempt),
}

/// Where a [`PathQueue`](super::PathQueue) puts what became of its attempts.
#[derive(Debug)]
pub struct Outcomes<'a> {
    list: &'a mut Vec<Outcome>,
    /// Attempts that were handed back.
    returned: usize,
}

impl<'a> Outcomes<'a> {
    /// Collects into `list`: for the queue, and for a path that wraps another and looks at what it says.
    pub const fn new(list: &'a mut Vec<Outcome>) -> Self {
        Self { list, returned: 0 }
    }

    /// The attempt is finished and released. Bytes count for reads and writes only; fewer than asked for is a short
    /// transfer, which the engine continues once. May also follow [`give_up`](Self::give_up), when the answer comes late.
    #[inline]
    pub fn complete(&mut self, attempt: Attempt, result: Result<u32, Fault>) {
        self.returned += 1;
        self.list.push(Outcome::Complete(attempt, result));
    }

    /// The attempt has failed, but the path can still touch its memory.
    pub fn give_up(&mut self, attempt: AttemptId, fault: Fault) {
        self.list.push(Outcome::GaveUp(attempt, fault));
    }

    /// The path can no longer touch the memory of an attempt that it gave up; how it ended is not known.
    pub fn release(&mut self, attempt: Attempt) {
        self.returned += 1;
        self.list.push(Outcome::Released(attempt));
    }

    /// Passes on what another path queue said.
    pub fn push(&mut self, outcome: Outcome) {
        if let Outcome::Complete(..) | Outcome::Released(_) = outcome {
            self.returned += 1;
        }
        self.list.push(outcome);
    }

    /// How many attempts were handed back here.
    pub(crate) const fn returned(&self) -> usize {
        self.returned
    }
}
