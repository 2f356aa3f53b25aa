//! Requests and completions.

use std::fmt;

use crate::block::{BlockCount, Extent, Geometry, Limits};
use crate::buffer::Buffer;
use crate::error::Error;
use crate::time::Tick;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Read the extent into the buffer.
    Read,
    /// Write the buffer to the extent.
    Write(Durability),
    /// Make every write that was completed before this request was accepted, on any queue, durable.
    Flush,
    /// The extent's content is not needed any more; what it reads as afterwards is undefined.
    Discard,
    /// The extent reads as zeroes afterwards.
    WriteZeroes(Unmap),
}

impl Operation {
    /// Whether it changes the medium: a write, a discard or a write zeroes.
    pub const fn is_write(self) -> bool {
        matches!(self, Self::Write(_) | Self::Discard | Self::WriteZeroes(_))
    }

    /// Whether a request for it carries a buffer.
    pub const fn has_data(self) -> bool {
        matches!(self, Self::Read | Self::Write(_))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write(Durability::Cached) => "write",
            Self::Write(Durability::Fua) => "FUA write",
            Self::Flush => "flush",
            Self::Discard => "discard",
            Self::WriteZeroes(_) => "write zeroes",
        })
    }
}

/// When a write counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// When the device has it, perhaps in a volatile cache until the next flush.
    Cached,
    /// When it is on stable media (force unit access).
    Fua,
}

/// Whether a write zeroes may give the blocks back to a thinly provisioned device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unmap {
    /// It may.
    Allowed,
    /// The blocks stay allocated.
    Forbidden,
}

/// The caller's own word for a request, handed back with its completion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cookie(pub u64);

/// Names a path of a volume for good: a path that is removed and added again has a new one. Ids are ordered as their
/// paths joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId {
    // First, since the order goes by it.
    serial: u32,
    slot: u8,
}

impl PathId {
    pub(crate) const fn new(slot: u8, serial: u32) -> Self {
        Self { serial, slot }
    }

    /// The place in the volume's table, reused after the path is gone.
    pub(crate) const fn slot(self) -> usize {
        self.slot as usize
    }

    /// Number of the path: the volume counts the paths that it was ever given, from 0.
    pub const fn serial(self) -> u32 {
        self.serial
    }
}

impl fmt::Display for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "path {}", self.serial)
    }
}

/// Number of a queue of a volume, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueIndex(pub u16);

/// One I/O for a volume. It owns its buffer until the completion gives it back.
#[derive(Debug)]
#[non_exhaustive]
pub struct Request {
    /// What to do.
    pub operation: Operation,
    /// Where; [`Extent::NONE`] for a flush.
    pub extent: Extent,
    /// The data of a read or write, exactly as long as the extent.
    pub buffer: Option<Buffer>,
    /// When to give up; `None` waits for as long as it takes.
    pub deadline: Option<Tick>,
    /// Handed back with the completion.
    pub cookie: Cookie,
}

impl Request {
    const fn new(operation: Operation, extent: Extent, buffer: Option<Buffer>, cookie: Cookie) -> Self {
        Self { operation, extent, buffer, deadline: None, cookie }
    }

    /// Reads `extent` into `buffer`.
    pub const fn read(extent: Extent, buffer: Buffer, cookie: Cookie) -> Self {
        Self::new(Operation::Read, extent, Some(buffer), cookie)
    }

    /// Writes `buffer` to `extent`.
    pub const fn write(extent: Extent, buffer: Buffer, durability: Durability, cookie: Cookie) -> Self {
        Self::new(Operation::Write(durability), extent, Some(buffer), cookie)
    }

    /// Makes what was completed before durable.
    pub const fn flush(cookie: Cookie) -> Self {
        Self::new(Operation::Flush, Extent::NONE, None, cookie)
    }

    /// Gives up the content of `extent`.
    pub const fn discard(extent: Extent, cookie: Cookie) -> Self {
        Self::new(Operation::Discard, extent, None, cookie)
    }

    /// Zeroes `extent`.
    pub const fn write_zeroes(extent: Extent, unmap: Unmap, cookie: Cookie) -> Self {
        Self::new(Operation::WriteZeroes(unmap), extent, None, cookie)
    }

    /// Whether a volume of this shape can carry it out.
    #[inline]
    pub(crate) fn check(&self, geometry: Geometry, limits: &Limits) -> Result<(), Error> {
        let (operation, extent) = (self.operation, self.extent);
        if operation != Operation::Flush {
            check_extent(operation, extent, geometry, limits)?;
        }
        let expected = if operation.has_data() { geometry.bytes_of(extent) } else { 0 };
        let actual = self.buffer.as_ref().map_or(0, |buffer| buffer.len() as u64);
        if expected != actual {
            return Err(Error::BufferSize { operation, expected, actual });
        }
        Ok(())
    }

    /// The same, given up at `deadline`: a write that is then on its way completes as of unknown fate.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Tick) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

#[inline]
fn check_extent(
    operation: Operation,
    extent: Extent,
    geometry: Geometry,
    limits: &Limits,
) -> Result<(), Error> {
    let (start, blocks) = (extent.start(), extent.blocks());
    if blocks == BlockCount::new(0) {
        return Err(Error::InvalidExtent { start, blocks });
    }
    if !geometry.contains(extent) {
        return Err(Error::OutOfRange { extent, capacity: geometry.capacity() });
    }
    let limit = match operation {
        Operation::Discard => limits.discard_blocks,
        Operation::WriteZeroes(_) => limits.write_zeroes_blocks,
        // A power of two: a division here would be felt.
        _ => BlockCount::new(limits.transfer_bytes >> geometry.block_size().trailing_zeros()),
    };
    if limit == BlockCount::new(0) {
        return Err(Error::Unsupported { operation });
    }
    if blocks > limit {
        return Err(Error::TooLarge { operation, blocks, limit });
    }
    Ok(())
}

/// A request that was not accepted, with the reason.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Rejected {
    /// The request as it was given.
    pub request: Request,
    /// Why it was not taken.
    #[source]
    pub error: Error,
}

/// The one end of an accepted request.
#[derive(Debug)]
#[non_exhaustive]
pub struct Completion {
    /// The request's.
    pub cookie: Cookie,
    /// How it ended. `Ok` is the whole extent, never less.
    pub result: Result<(), Error>,
    /// Its memory.
    pub memory: Memory,
}

/// What becomes of a request's buffer.
#[derive(Debug)]
pub enum Memory {
    /// Here it is; after a read that was retried it may be another buffer of the same pool.
    Returned(Buffer),
    /// A path can still touch it. It comes back through the queue's `poll_released` when none can.
    Quarantined,
    /// The request had none.
    None,
}

impl Memory {
    /// The buffer, if it is here.
    pub fn into_buffer(self) -> Option<Buffer> {
        match self {
            Self::Returned(buffer) => Some(buffer),
            Self::Quarantined | Self::None => None,
        }
    }
}

impl Completion {
    pub(crate) const fn new(cookie: Cookie, result: Result<(), Error>, memory: Memory) -> Self {
        Self { cookie, result, memory }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ordered_as_their_paths_joined() {
        let (second, in_a_reused_place) = (PathId::new(1, 1), PathId::new(0, 2));
        assert!(second < in_a_reused_place);
    }
}
