//! A block device or a file, with direct I/O.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::storage::{Source, Storage, Zeroing};
use crate::system;

/// What is usual for files.
const FILE_BLOCK: u32 = 4096;
/// The smallest there is.
const SECTOR: u32 = 512;

/// What to open.
#[derive(Debug)]
pub(crate) struct Device {
    path: PathBuf,
    /// Bytes that it must have.
    pub(crate) needed: u64,
}

/// It, open.
#[derive(Debug)]
pub(crate) struct Opened {
    file: File,
    /// In bytes.
    pub(crate) size: u64,
    /// Block size to use, in bytes.
    pub(crate) block_size: u32,
    /// Of which every block size must be a multiple.
    pub(crate) least_block: u32,
}

impl Device {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, needed: 0 }
    }

    /// Opens it: a block device exclusively, so that nothing that is mounted or otherwise in use is overwritten; a
    /// file with a lock.
    ///
    /// # Errors
    /// As the kernel gives them; the message says what it means.
    pub(crate) fn open(&self) -> io::Result<Opened> {
        let kind = self.path.metadata().map_err(|error| self.explain(&error))?;
        let is_device = kind.file_type().is_block_device();
        if !is_device && !kind.is_file() {
            return Err(self.problem(ErrorKind::InvalidInput, "is neither a block device nor a regular file"));
        }
        if is_device && attribute(kind.rdev(), "ro").is_some_and(|read_only| read_only != 0) {
            return Err(self.explain(&ErrorKind::ReadOnlyFilesystem.into()));
        }
        let flags = libc::O_DIRECT | if is_device { libc::O_EXCL } else { 0 };
        let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&self.path);
        let mut file = opened.map_err(|error| self.explain(&error))?;
        if !is_device && file.try_lock().is_err() {
            return Err(self.problem(ErrorKind::ResourceBusy, "is locked by another program"));
        }
        let size = file.seek(SeekFrom::End(0)).map_err(|error| self.explain(&error))?;
        if size < self.needed {
            let what = format!("has {size} bytes, and {} are needed", self.needed);
            return Err(self.problem(ErrorKind::UnexpectedEof, &what));
        }
        let logical = if is_device { logical_block_size(kind.rdev()) } else { None };
        let (block_size, least_block) = logical.map_or((FILE_BLOCK, SECTOR), |logical| (logical, logical));
        Ok(Opened { file, size, block_size, least_block })
    }

    fn explain(&self, error: &io::Error) -> io::Error {
        let what = match error.kind() {
            ErrorKind::NotFound => "does not exist".to_owned(),
            ErrorKind::IsADirectory => "is a directory".to_owned(),
            ErrorKind::ResourceBusy => {
                "is in use: mounted, or claimed by another program; it would be overwritten".to_owned()
            }
            ErrorKind::ReadOnlyFilesystem => "is read-only".to_owned(),
            ErrorKind::PermissionDenied => {
                "may not be opened for writing: it is read-only, or this needs root".to_owned()
            }
            ErrorKind::InvalidInput => "does not take direct I/O (O_DIRECT)".to_owned(),
            _ => format!("cannot be opened for reading and writing: {error}"),
        };
        self.problem(error.kind(), &what)
    }

    fn problem(&self, kind: ErrorKind, what: &str) -> io::Error {
        io::Error::new(kind, format!("{} {what}", self.path.display()))
    }
}

impl Source for Device {
    fn open(&self) -> io::Result<Box<dyn Storage>> {
        Ok(Box::new(self.open()?))
    }
}

impl Storage for Opened {
    fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn zero(&self, how: Zeroing, offset: u64, bytes: u64) -> io::Result<()> {
        system::zero(&self.file, how, offset, bytes)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// A partition has that of its disk.
fn logical_block_size(device: u64) -> Option<u32> {
    let read = |name: &str| attribute(device, name);
    read("queue/logical_block_size").or_else(|| read("../queue/logical_block_size"))
}

/// A number that sysfs has of a block device.
fn attribute(device: u64, name: &str) -> Option<u32> {
    let here = format!("/sys/dev/block/{}:{}", libc::major(device), libc::minor(device));
    std::fs::read_to_string(Path::new(&here).join(name)).ok()?.trim().parse().ok()
}
