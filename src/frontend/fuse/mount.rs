//! A file system of one file, in no place.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use crate::error::Error;

use super::channel::Channel;
use super::sys;

/// The mount, for as long as it takes to open the file: whoever has the file keeps the file system.
#[derive(Debug)]
pub(super) struct Mount {
    root: OwnedFd,
}

impl Mount {
    /// Mounts the connection of `channel`, whose root is a regular file. The kernel's first request is then there to
    /// read.
    pub(super) fn new(channel: &Channel, transfer: u32) -> Result<Self, Error> {
        let file_system =
            sys::open_file_system(c"fuse").map_err(|source| Error::os(open_help(&source), source))?;
        let refused = |attempted: &str, source| {
            let said = said(&file_system);
            Error::os(format!("{attempted} of a FUSE file system{said}"), source)
        };
        let options = [
            (c"source", "mpio".to_owned()),
            (c"fd", channel.as_fd().as_raw_fd().to_string()),
            (c"rootmode", "100600".to_owned()),
            (c"user_id", "0".to_owned()),
            (c"group_id", "0".to_owned()),
            (c"max_read", transfer.to_string()),
        ];
        for (key, value) in options {
            let value = CString::new(value).unwrap_or_default();
            sys::set_option(file_system.as_fd(), key, &value)
                .map_err(|source| refused("setting an option", source))?;
        }
        // Whoever asks the loop device for its state has the kernel ask us, as that user.
        sys::set_flag(file_system.as_fd(), c"allow_other")
            .map_err(|source| refused("setting an option", source))?;
        sys::create(file_system.as_fd()).map_err(|source| refused("the creation", source))?;
        let root = sys::mount_detached(file_system.as_fd()).map_err(|source| refused("the mount", source))?;
        Ok(Self { root })
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens the file, for direct I/O. Its server has to answer.
    pub(super) fn open(self) -> Result<File, Error> {
        let path = format!("/proc/thread-self/fd/{}", self.root.as_raw_fd());
        let opened = File::options().read(true).write(true).custom_flags(libc::O_DIRECT).open(path);
        opened.map_err(|source| {
            Error::os("opening the FUSE file through /proc/thread-self/fd (is /proc mounted?)", source)
        })
    }
}

impl From<OwnedFd> for Mount {
    fn from(root: OwnedFd) -> Self {
        Self { root }
    }
}

fn open_help(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ENOSYS) => "fsopen, which came with Linux 5.2 and may be barred by a filter",
        Some(libc::EPERM) => "opening a FUSE file system (that takes root, CAP_SYS_ADMIN)",
        Some(libc::ENODEV) => "opening a FUSE file system (is the module fuse loaded?)",
        _ => "opening a FUSE file system",
    }
}

/// What the kernel has to say of the last call.
fn said(file_system: &OwnedFd) -> String {
    let Ok(copy) = file_system.try_clone() else { return String::new() };
    let mut text = [0; 256];
    match File::from(copy).read(&mut text) {
        Ok(len @ 1..) => format!(" ({})", String::from_utf8_lossy(&text[..len]).trim()),
        _ => String::new(),
    }
}

/// The number by which the kernel lists the connection of a file.
pub(super) fn connection(file: &File) -> Result<u64, Error> {
    let metadata = file.metadata().map_err(|source| Error::os("looking at the FUSE file", source))?;
    Ok(libc::minor(metadata.dev()).into())
}
