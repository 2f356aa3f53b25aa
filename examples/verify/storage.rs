//! What is verified, and how it is opened again after it went away.

use std::io;

/// A device or file, open.
pub(crate) trait Storage: Send + Sync {
    /// Fills `bytes` from `offset`.
    fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    /// Puts `bytes` at `offset`.
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes `bytes` bytes from `offset` read as zeroes.
    fn zero(&self, how: Zeroing, offset: u64, bytes: u64) -> io::Result<()>;
    /// Makes every acknowledged write durable.
    fn flush(&self) -> io::Result<()>;
}

/// How zeroes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zeroing {
    /// Write zeroes, without unmapping.
    Write,
    /// Discard, such that it reads as zeroes.
    Punch,
}

/// Where a storage comes from.
pub(crate) trait Source: Sync {
    /// Opens it, and finds it as large as it must be.
    ///
    /// # Errors
    /// Whatever keeps it from being used now.
    fn open(&self) -> io::Result<Box<dyn Storage>>;
}
