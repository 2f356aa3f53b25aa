//! The memory through which requests of the kernel pass.

use crate::buffer::{Buffer, Pool};
use crate::error::Error;
use crate::volume::VolumeBuilder;

/// Bytes in a large piece: the most that one request of the kernel carries.
pub(super) const LARGE: u32 = 1 << 20;
/// Bytes in a small piece.
pub(super) const SMALL: u32 = 64 << 10;

/// The memory of a [`Server`](super::Server): made first, so that a volume can register it with the kernel.
///
/// It has pieces of 64 KiB and of 1 MiB, so many for each queue, and address space for as many large ones as there are
/// requests: what silent paths hold leaves memory for the others. When all of a kind are in use, requests wait in the kernel.
#[derive(Debug)]
pub struct Buffers {
    queues: Vec<Pieces>,
}

impl Buffers {
    /// Memory for `queues` queues, each with `requests` small requests (up to 64 KiB) under way and an eighth as many
    /// large ones, at least four. That is 192 KiB for each request and 1 MiB for each queue, and a quarter as much again
    /// in reserve; 1 MiB more for each request becomes memory only when it is used. The kernel's loop driver sends at most
    /// 128 at once.
    ///
    /// # Errors
    /// As [`Pool::new`]; [`Error::Setting`] if one of the numbers is zero.
    pub fn new(queues: u16, requests: u32) -> Result<Self, Error> {
        if queues == 0 || requests == 0 {
            return Err(Error::setting("buffers", "needs at least one queue and one request"));
        }
        let queues = (0..queues).map(|_| Pieces::new(requests)).collect::<Result<_, _>>()?;
        Ok(Self { queues })
    }

    /// Has the volume register the memory with the kernel: each I/O then costs less.
    #[must_use]
    pub fn register(&self, builder: VolumeBuilder) -> VolumeBuilder {
        let pools = self.queues.iter().flat_map(|pieces| [&pieces.small, &pieces.large]);
        pools.fold(builder, VolumeBuilder::pool)
    }

    /// For so many queues.
    pub(super) fn split(self) -> Vec<Pieces> {
        self.queues
    }
}

/// The memory of one queue.
#[derive(Debug)]
pub(super) struct Pieces {
    small: Pool,
    large: Pool,
    /// When those are out. Not registered with the kernel, which would make all of it memory.
    overflow: Pool,
}

impl Pieces {
    fn new(requests: u32) -> Result<Self, Error> {
        // One more, into which requests are read.
        let large = (requests / 8).max(4) + 1;
        Ok(Self {
            small: Pool::new(SMALL, requests)?,
            large: Pool::new(LARGE, large)?,
            overflow: Pool::with_reserve(LARGE, requests, 0)?,
        })
    }

    /// A piece of `len` bytes, `None` if those of its kind are all in use.
    pub(super) fn take(&self, len: u32) -> Option<Buffer> {
        let kind = if len <= SMALL { &self.small } else { &self.large };
        kind.take(len).or_else(|| self.overflow.take(len))
    }

    /// A large piece, whole.
    pub(super) fn stage(&self) -> Option<Buffer> {
        self.large.take(LARGE).or_else(|| self.overflow.take(LARGE))
    }
}
