//! From an answer to the kernel's bytes.

use super::{Init, WRITE_HEAD};

/// What there is to negotiate, as the kernel's flags name it: `FUSE_ASYNC_READ`, `FUSE_BIG_WRITES`, `FUSE_ASYNC_DIO`,
/// `FUSE_ABORT_ERROR`, `FUSE_MAX_PAGES`, `FUSE_INIT_EXT`.
const ASYNC_DIO: u64 = 1 << 15;
const MAX_PAGES: u64 = 1 << 22;
const WANTED: u64 = 1 | 1 << 5 | ASYNC_DIO | 1 << 21 | MAX_PAGES | 1 << 30;
/// The protocol's version here, and the least minor version of a kernel: that of Linux 5.8, which loop devices need.
const MAJOR: u32 = 7;
const MINOR: u32 = 38;
const LEAST_MINOR: u32 = 31;

/// `FOPEN_DIRECT_IO` and `FOPEN_PARALLEL_DIRECT_WRITES`.
const OPEN_FLAGS: u32 = 1 | 1 << 6;
/// How long the kernel may believe what it is told of the file, in seconds: not at all, since its size may grow.
const VALIDITY: u64 = 0;

/// `sizeof(struct fuse_out_header)`.
const HEADER: usize = 16;
const ROOM: usize = HEADER + 104;

/// The head of an answer; the data of a read comes after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    bytes: [u8; ROOM],
    len: usize,
}

/// What is said of the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes {
    pub(crate) bytes: u64,
    pub(crate) block_size: u32,
}

/// What this side offers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Most bytes in one read or write.
    pub(crate) transfer: u32,
    /// Most pages in one read or write.
    pub(crate) pages: u16,
    /// Most requests that the kernel has under way without waiting.
    pub(crate) background: u16,
}

/// How a negotiation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Negotiated {
    /// Agreed.
    Yes,
    /// The kernel speaks a newer protocol, and will ask again in this one.
    Again,
    /// The kernel is too old; the text says for what.
    No(&'static str),
}

impl Answer {
    fn new(unique: u64) -> Self {
        let mut answer = Self { bytes: [0; ROOM], len: HEADER };
        answer.put(8, &unique.to_ne_bytes());
        answer.finish(0)
    }

    /// Writes a field; where it is, it fits.
    fn put(&mut self, at: usize, field: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + field.len()) {
            place.copy_from_slice(field);
        }
    }

    fn word(&mut self, at: usize, value: u32) {
        self.put(HEADER + at, &value.to_ne_bytes());
    }

    fn long(&mut self, at: usize, value: u64) {
        self.put(HEADER + at, &value.to_ne_bytes());
    }

    /// With a body of `len` bytes.
    fn finish(mut self, len: usize) -> Self {
        self.len = HEADER + len;
        self.sized(0)
    }

    /// With the total length in its place, `data` bytes beyond this head included.
    fn sized(mut self, data: usize) -> Self {
        let total = u32::try_from(self.len + data).unwrap_or(u32::MAX);
        self.put(0, &total.to_ne_bytes());
        self
    }

    /// The bytes to send.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// A success without a body.
    pub(crate) fn success(unique: u64) -> Self {
        Self::new(unique)
    }

    /// A failure. The kernel takes nothing beyond `ERESTARTSYS` (512), and no failure that is none.
    pub(crate) fn failure(unique: u64, errno: i32) -> Self {
        let errno = if (1..512).contains(&errno) { errno } else { libc::EIO };
        let mut answer = Self::new(unique);
        answer.put(4, &(-errno).to_ne_bytes());
        answer
    }

    /// A read of so many bytes, which follow.
    pub(crate) fn read(unique: u64, bytes: usize) -> Self {
        Self::new(unique).sized(bytes)
    }

    /// A write of so many bytes: `struct fuse_write_out`.
    pub(crate) fn written(unique: u64, bytes: u32) -> Self {
        let mut answer = Self::new(unique);
        answer.word(0, bytes);
        answer.finish(8)
    }

    /// `struct fuse_open_out`.
    pub(crate) fn opened(unique: u64) -> Self {
        let mut answer = Self::new(unique);
        answer.word(8, OPEN_FLAGS);
        answer.finish(16)
    }

    /// `struct fuse_attr_out`.
    pub(crate) fn attributes(unique: u64, file: Attributes) -> Self {
        let mut answer = Self::new(unique);
        answer.long(0, VALIDITY);
        let attr = 16;
        answer.long(attr, 1);
        answer.long(attr + 8, file.bytes);
        answer.long(attr + 16, file.bytes.div_ceil(512));
        answer.word(attr + 60, libc::S_IFREG | 0o600);
        answer.word(attr + 64, 1);
        answer.word(attr + 80, file.block_size);
        answer.finish(104)
    }

    /// `struct fuse_statfs_out`: a full file system of one file.
    pub(crate) fn statistics(unique: u64, file: Attributes) -> Self {
        let mut answer = Self::new(unique);
        answer.long(0, file.bytes / u64::from(file.block_size.max(1)));
        answer.long(24, 1);
        answer.word(40, file.block_size);
        answer.word(44, 255);
        answer.word(48, file.block_size);
        answer.finish(80)
    }

    /// `struct fuse_init_out`.
    pub(crate) fn init(unique: u64, init: &Init, terms: Terms) -> (Self, Negotiated) {
        if init.major > MAJOR {
            let mut answer = Self::new(unique);
            answer.word(0, MAJOR);
            answer.word(4, MINOR);
            return (answer.finish(64), Negotiated::Again);
        }
        if let Some(lack) = lack(init) {
            return (Self::failure(unique, libc::EPROTO), Negotiated::No(lack));
        }
        let mut answer = Self::new(unique);
        answer.word(0, MAJOR);
        answer.word(4, init.minor.min(MINOR));
        answer.word(8, init.max_readahead);
        // The second word, of the flags beyond 32, has none that is wanted.
        answer.word(12, u32::try_from(init.flags & WANTED).unwrap_or_default());
        answer.put(HEADER + 16, &terms.background.to_ne_bytes());
        answer.put(HEADER + 18, &(terms.background / 4 * 3).to_ne_bytes());
        answer.word(20, terms.transfer);
        answer.word(24, 1);
        answer.put(HEADER + 28, &terms.pages.to_ne_bytes());
        (answer.finish(64), Negotiated::Yes)
    }
}

/// What the kernel has not, if it has not enough.
fn lack(init: &Init) -> Option<&'static str> {
    if init.major < MAJOR || init.minor < LEAST_MINOR {
        return Some("its FUSE protocol is older than 7.31");
    }
    let wanted = [(ASYNC_DIO, "asynchronous direct I/O"), (MAX_PAGES, "large requests")];
    wanted.into_iter().find_map(|(flag, name)| (init.flags & flag == 0).then_some(name))
}

const _: () = assert!(WRITE_HEAD == super::HEADER + 40);
