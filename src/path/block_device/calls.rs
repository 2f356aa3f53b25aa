//! Blocking calls: what threads do for a path.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::connection::Connection;
use super::fault::Backing;
use super::sys::{self, Bytes};
use super::workers::End;
use crate::buffer::Pool;
use crate::io::{Durability, Unmap};
use crate::reactor::Span;

/// Bytes of zeroes written at once where nothing else makes them.
const ZEROES: u32 = 1 << 18;

/// One call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call {
    Read(Memory, u64),
    Write(Memory, u64, Durability),
    Flush,
    Discard(Bytes),
    WriteZeroes(Bytes, Unmap),
    /// To find out whether an attempt that has failed was refused.
    Judge,
}

/// Memory that a thread may use until it has sent the call's result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory(Span);

impl Memory {
    /// # Safety
    /// `span` must stay mapped, and be touched by nobody else (a source: be written by nobody), until the call's result
    /// came, or for ever.
    pub(super) const unsafe fn new(span: Span) -> Self {
        Self(span)
    }
}

impl Call {
    /// Does it.
    pub(super) fn carry_out(self, connection: &Connection) -> End {
        let result = match self {
            Self::Judge => return End::Judged(connection.refusal_now()),
            Self::Read(memory, offset) => read(&connection.file, memory, offset),
            Self::Write(memory, offset, durability) => write(&connection.file, memory, offset, durability),
            Self::Flush => connection.file.sync_data().map(|()| 0),
            Self::Discard(bytes) => discard(connection, bytes).map(|()| 0),
            Self::WriteZeroes(bytes, unmap) => write_zeroes(connection, bytes, unmap).map(|()| 0),
        };
        End::Result(match result {
            Ok(count) => i32::try_from(count).unwrap_or(i32::MAX),
            Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
        })
    }
}

fn read(file: &File, memory: Memory, offset: u64) -> io::Result<u32> {
    // SAFETY: whoever made the `Memory` promised it to this call until its result is sent.
    unsafe { sys::read(file, memory.0, offset) }
}

fn write(file: &File, memory: Memory, offset: u64, durability: Durability) -> io::Result<u32> {
    // SAFETY: as in `read`.
    unsafe { sys::write(file, memory.0, offset, durability) }
}

fn discard(connection: &Connection, bytes: Bytes) -> io::Result<()> {
    match connection.nature.backing {
        Backing::Device => sys::discard_device(&connection.file, bytes),
        Backing::Regular => sys::allocate(&connection.file, libc::FALLOC_FL_PUNCH_HOLE, bytes),
    }
}

/// By giving the blocks back if that is allowed and leaves zeroes, else by a command that zeroes them, else by writing.
fn write_zeroes(connection: &Connection, bytes: Bytes, unmap: Unmap) -> io::Result<()> {
    let file = &connection.file;
    if unmap == Unmap::Allowed {
        // On a block device this too leaves zeroes or fails (`blkdev_fallocate`).
        match sys::allocate(file, libc::FALLOC_FL_PUNCH_HOLE, bytes) {
            Err(error) if is_unsupported(&error) => {}
            other => return other,
        }
    }
    match connection.nature.backing {
        Backing::Device => sys::zero_device(file, bytes),
        Backing::Regular => match sys::allocate(file, libc::FALLOC_FL_ZERO_RANGE, bytes) {
            Err(error) if is_unsupported(&error) => fill_with_zeroes(file, bytes),
            other => other,
        },
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EOPNOTSUPP)
}

fn fill_with_zeroes(file: &File, bytes: Bytes) -> io::Result<()> {
    let pool = Pool::with_reserve(ZEROES, 1, 0).map_err(io::Error::from)?;
    let Some(zeroes) = pool.take(ZEROES) else { return Err(io::ErrorKind::OutOfMemory.into()) };
    let (mut offset, end) = (bytes.offset, bytes.offset.saturating_add(bytes.len));
    while offset < end {
        let len = usize::try_from(end - offset).unwrap_or(usize::MAX).min(zeroes.len());
        match file.write_at(&zeroes[..len], offset)? {
            0 => return Err(io::Error::from_raw_os_error(libc::EIO)),
            written => offset += written as u64,
        }
    }
    Ok(())
}
