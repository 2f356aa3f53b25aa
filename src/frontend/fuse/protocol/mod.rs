//! The FUSE protocol as far as one file needs it: `linux/fuse.h`, version 7.
//!
//! What the kernel sends is foreign data: every length and offset is checked here, nothing is taken by its type.

mod decode;
mod reply;
#[cfg(test)]
mod tests;

pub(super) use decode::Received;
pub(crate) use decode::decode;
pub(super) use reply::{Answer, Attributes, Negotiated, Terms};

/// `sizeof(struct fuse_in_header)`.
pub(crate) const HEADER: usize = 40;
/// `sizeof(struct fuse_in_header)` and `sizeof(struct fuse_write_in)`: what comes before the data of a write.
pub(crate) const WRITE_HEAD: usize = 80;

/// Decodes a request as it would have been read, and says what it is: for fuzzing.
#[cfg(feature = "testing")]
pub fn foreign(bytes: &[u8]) -> Option<String> {
    let mut head = [0; WRITE_HEAD];
    let split = bytes.len().min(WRITE_HEAD);
    head[..split].copy_from_slice(&bytes[..split]);
    let call = decode(Received::new(&head, &bytes[split..], bytes.len()))?;
    if let Message::Init(init) = &call.message {
        let terms = Terms { transfer: 4096, pages: 1, background: 1 };
        let _ = Answer::init(call.unique, init, terms);
    }
    Some(format!("{call:?}"))
}

/// A request's own number and what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// Chosen by the kernel; the answer bears it.
    pub(super) unique: u64,
    pub(super) message: Message,
}

/// What the kernel asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// The first request.
    Init(Init),
    /// What the file is like, perhaps after a change that does not matter.
    Attributes,
    /// Another size.
    Resize(u64),
    /// What the file system is like.
    Statistics,
    /// A new opening of the file.
    Open,
    /// Nothing that needs work, and a success: closing, checking access.
    Nothing,
    /// Data from the file.
    Read(Range),
    /// Data for the file, which follows; `forced` if it has to be durable before the answer.
    Write { range: Range, forced: bool },
    /// What was written has to be durable.
    Sync,
    /// Zeroes; if `unmap`, the device may give up the space.
    Zero { offset: u64, length: u64, unmap: bool },
    /// Takes no answer.
    Silent,
    /// Nothing that this file does, with the `errno` that says so.
    Refused(i32),
}

/// The first request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Init {
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) max_readahead: u32,
    pub(super) flags: u64,
}

/// Bytes of the file, unchecked but for that they do not wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(super) offset: u64,
    pub(super) size: u32,
}
