//! Direct I/O on a device, from aligned memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use mpio::{Buffer, Pool};

/// Most bytes in one call.
const MOST: u32 = 4 << 20;
/// `O_DIRECT` of the usual machines.
const O_DIRECT: i32 = if cfg!(target_arch = "aarch64") { 0o200_000 } else { 0o40_000 };

/// An open device.
pub(crate) struct Direct {
    file: File,
    pool: Pool,
}

impl Direct {
    pub(crate) fn open(device: &Path) -> Self {
        let file = File::options().read(true).write(true).custom_flags(O_DIRECT).open(device).unwrap();
        Self { file, pool: Pool::with_reserve(MOST, 1, 0).unwrap() }
    }

    fn memory(&self) -> Buffer {
        self.pool.take(MOST).unwrap()
    }

    /// Reads `len` bytes, into memory at `skew` bytes after a page's beginning.
    pub(crate) fn read(&self, offset: u64, len: usize, skew: usize) -> io::Result<Vec<u8>> {
        let mut memory = self.memory();
        let place = &mut memory[skew..skew + len];
        self.file.read_exact_at(place, offset)?;
        Ok(place.to_vec())
    }

    /// Writes, from memory at `skew` bytes after a page's beginning.
    pub(crate) fn write(&self, offset: u64, data: &[u8], skew: usize) -> io::Result<()> {
        let mut memory = self.memory();
        let place = &mut memory[skew..skew + data.len()];
        place.copy_from_slice(data);
        // In one call: what is not written at once is an error.
        let written = self.file.write_at(place, offset)?;
        if written == data.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// Bytes that are nowhere the same, after a seed.
pub(crate) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let word = |index: u64| (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31) ^ seed;
    (0..(len as u64).div_ceil(8)).flat_map(|index| word(index).to_le_bytes()).take(len).collect()
}
