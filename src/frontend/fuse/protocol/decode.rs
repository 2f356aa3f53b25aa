//! From the kernel's bytes to a request.

use super::{Call, HEADER, Init, Message, Range, WRITE_HEAD};

mod opcode {
    pub(super) const LOOKUP: u32 = 1;
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const SETATTR: u32 = 4;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const WRITE: u32 = 16;
    pub(super) const STATFS: u32 = 17;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const FSYNC: u32 = 20;
    pub(super) const FLUSH: u32 = 25;
    pub(super) const INIT: u32 = 26;
    pub(super) const ACCESS: u32 = 34;
    pub(super) const INTERRUPT: u32 = 36;
    pub(super) const DESTROY: u32 = 38;
    pub(super) const BATCH_FORGET: u32 = 42;
    pub(super) const FALLOCATE: u32 = 43;
}

/// The one inode there is, `FUSE_ROOT_ID`.
const ROOT: u64 = 1;
/// `FATTR_SIZE`.
const SETS_SIZE: u32 = 1 << 3;
/// `FUSE_INIT_EXT`: the flags have a second word.
const INIT_EXT: u32 = 1 << 30;
/// `FALLOC_FL_KEEP_SIZE`, `_PUNCH_HOLE` and `_ZERO_RANGE`.
const KEEP_SIZE: u32 = 1;
const PUNCH_HOLE: u32 = 2;
const ZERO_RANGE: u32 = 16;

/// A request as it was read: its first bytes, and those after them.
#[derive(Clone, Copy)]
pub(crate) struct Received<'a> {
    head: &'a [u8; WRITE_HEAD],
    rest: &'a [u8],
    len: usize,
}

impl<'a> Received<'a> {
    /// `len` bytes of a request in two places.
    pub(crate) fn new(head: &'a [u8; WRITE_HEAD], rest: &'a [u8], len: usize) -> Self {
        Self { head, rest, len: len.min(WRITE_HEAD + rest.len()) }
    }

    fn bytes<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        let end = at.checked_add(N)?;
        if end > self.len {
            return None;
        }
        // Every field is aligned to its size, so that none lies in both places.
        let found = match at.checked_sub(WRITE_HEAD) {
            None => self.head.get(at..end),
            Some(at) => self.rest.get(at..at + N),
        };
        found?.try_into().ok()
    }

    fn word(self, at: usize) -> Option<u32> {
        self.bytes(at).map(u32::from_ne_bytes)
    }

    fn long(self, at: usize) -> Option<u64> {
        self.bytes(at).map(u64::from_ne_bytes)
    }
}

/// The request, `None` if it is so short or so long that it has no number to answer to. A body that makes no sense is
/// refused with `EINVAL`.
pub(crate) fn decode(received: Received<'_>) -> Option<Call> {
    let (len, opcode) = (received.word(0)?, received.word(4)?);
    let (unique, node) = (received.long(8)?, received.long(16)?);
    if received.len < HEADER || usize::try_from(len) != Ok(received.len) {
        return None;
    }
    let message = body(received, opcode, node).unwrap_or(Message::Refused(libc::EINVAL));
    Some(Call { unique, message })
}

fn body(received: Received<'_>, opcode: u32, node: u64) -> Option<Message> {
    let message = match opcode {
        opcode::INIT => return init(received),
        opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT => return Some(Message::Silent),
        opcode::DESTROY => Message::Nothing,
        _ if node != ROOT => Message::Refused(libc::ENOENT),
        opcode::READ => Message::Read(range(received)?),
        opcode::WRITE => write(received)?,
        opcode::FSYNC => Message::Sync,
        opcode::FALLOCATE => fallocate(received)?,
        opcode::SETATTR if received.word(HEADER)? & SETS_SIZE != 0 => {
            Message::Resize(received.long(HEADER + 16)?)
        }
        opcode::GETATTR | opcode::SETATTR => Message::Attributes,
        opcode::OPEN => Message::Open,
        // FLUSH comes with every close: it says nothing of durability.
        opcode::RELEASE | opcode::FLUSH | opcode::ACCESS => Message::Nothing,
        opcode::STATFS => Message::Statistics,
        opcode::LOOKUP => Message::Refused(libc::ENOTDIR),
        _ => Message::Refused(libc::ENOSYS),
    };
    Some(message)
}

/// `struct fuse_init_in`. Its second word of flags is there if the first says so.
fn init(received: Received<'_>) -> Option<Message> {
    let flags = received.word(HEADER + 12)?;
    let more = if flags & INIT_EXT != 0 { received.word(HEADER + 16)? } else { 0 };
    Some(Message::Init(Init {
        major: received.word(HEADER)?,
        minor: received.word(HEADER + 4)?,
        max_readahead: received.word(HEADER + 8)?,
        flags: u64::from(more) << 32 | u64::from(flags),
    }))
}

/// The beginning that `struct fuse_read_in` and `struct fuse_write_in` share.
fn range(received: Received<'_>) -> Option<Range> {
    // Both are of the same length.
    received.bytes::<8>(WRITE_HEAD - 8)?;
    let (offset, size) = (received.long(HEADER + 8)?, received.word(HEADER + 16)?);
    offset.checked_add(size.into())?;
    Some(Range { offset, size })
}

fn write(received: Received<'_>) -> Option<Message> {
    let range = range(received)?;
    if received.len - WRITE_HEAD != usize::try_from(range.size).ok()? {
        return None;
    }
    // How the file was opened, and what this one write asks for.
    let flags = received.word(HEADER + 32)?;
    Some(Message::Write { range, forced: flags & libc::O_DSYNC.unsigned_abs() != 0 })
}

/// `struct fuse_fallocate_in`.
fn fallocate(received: Received<'_>) -> Option<Message> {
    let (offset, length) = (received.long(HEADER + 8)?, received.long(HEADER + 16)?);
    let mode = received.word(HEADER + 24)?;
    offset.checked_add(length)?;
    let unmap = match mode & !KEEP_SIZE {
        PUNCH_HOLE => true,
        ZERO_RANGE => false,
        _ => return Some(Message::Refused(libc::EOPNOTSUPP)),
    };
    Some(Message::Zero { offset, length, unmap })
}
