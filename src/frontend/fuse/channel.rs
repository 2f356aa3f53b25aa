//! One opening of `/dev/fuse`: requests are read from it, and answered on the same one.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use crate::error::Error;
use crate::os;
use crate::reactor::WatchSet;
use crate::time::Tick;

use super::protocol::{Answer, WRITE_HEAD};
use super::sys;
use super::verdict::Look;

const NODE: &str = "/dev/fuse";
/// How long a look waits at most.
const MOMENT: Duration = Duration::from_millis(10);

/// A channel of a connection to the kernel. When the last one is closed the kernel ends the connection and answers
/// whatever is open with an error.
#[derive(Debug)]
pub(super) struct Channel {
    file: File,
}

impl Channel {
    /// A channel of no connection yet.
    pub(super) fn open() -> Result<Self, Error> {
        let opened = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(NODE);
        let file = opened.map_err(|source| {
            let what = "opening /dev/fuse (is the module fuse loaded? may this user use it?)";
            Error::os(what, source)
        })?;
        Ok(Self { file })
    }

    /// Another channel of the same connection.
    pub(super) fn another(&self) -> Result<Self, Error> {
        let fresh = Self::open()?;
        match sys::clone_channel(fresh.as_fd(), self.as_fd()) {
            Ok(()) => Ok(fresh),
            Err(source) => Err(Error::os("making another channel of a FUSE connection", source)),
        }
    }

    /// What to sleep on: readable when there is a request, or the connection is over.
    ///
    /// It is not the channel itself. A ring that polls a file holds it for as long as the ring lives, and a ring lives for as long
    /// as the memory that it is mapped to: in a process that was killed until the last of its threads is gone, also the one that
    /// waits for what this channel would have to answer. A set holds none of its members.
    pub(super) fn watch(&self) -> io::Result<WatchSet> {
        let set = WatchSet::new()?;
        set.watch(self.as_fd())?;
        Ok(set)
    }

    /// Reads a request: so many bytes, the first of them in `head`. `WouldBlock` if there is none.
    pub(super) fn receive(&self, head: &mut [u8; WRITE_HEAD], rest: &mut [u8]) -> io::Result<usize> {
        (&self.file).read_vectored(&mut [IoSliceMut::new(head), IoSliceMut::new(rest)])
    }

    /// Waits a moment for the connection to be over, then reads.
    pub(super) fn look(&self, head: &mut [u8; WRITE_HEAD], rest: &mut [u8]) -> Look {
        let mut entries = [os::polled(Some(self.as_fd()))];
        os::sleep_on(&mut entries, Some(Tick::now().after(MOMENT)));
        let [entry] = entries;
        let is_over = entry.revents & libc::POLLERR != 0;
        Look { is_over, read: self.receive(head, rest) }
    }

    /// Answers a request. The kernel takes an answer whole or not at all.
    pub(super) fn send(&self, answer: &Answer, data: &[u8]) -> io::Result<()> {
        let head = answer.bytes();
        let sent = if data.is_empty() {
            (&self.file).write(head)?
        } else {
            (&self.file).write_vectored(&[IoSlice::new(head), IoSlice::new(data)])?
        };
        if sent == head.len() + data.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
