//! The array: one logical unit, kept in a file.

use std::fs::{File, OpenOptions, remove_file};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use mpio::{Durability, Extent, Geometry};

/// Most blocks in one read or write.
pub(crate) const LONGEST: u32 = 16;
const STRIPES: usize = 64;

/// What all ports lead to.
pub(crate) struct Array {
    file: File,
    geometry: Geometry,
    /// The block is the unit of atomicity: a read sees all of a write to it or nothing. File systems do not promise
    /// that, so a run of [`LONGEST`] blocks has a lock, which it shares with every 64th run after it.
    stripes: [RwLock<()>; STRIPES],
}

impl Array {
    /// An array of zeroes in the system's directory for temporary files. The file has lost its name when this
    /// returns: it vanishes with the process, however that ends.
    pub(crate) fn create(geometry: Geometry) -> io::Result<Self> {
        let name = Self::directory().join(format!("mpio-quickstart-{}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&name)?;
        remove_file(&name)?;
        file.set_len(geometry.bytes())?;
        Ok(Self { file, geometry, stripes: [const { RwLock::new(()) }; STRIPES] })
    }

    /// Where the file is.
    pub(crate) fn directory() -> PathBuf {
        std::env::temp_dir()
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Fills `bytes` from `extent`.
    pub(crate) fn read(&self, extent: Extent, bytes: &mut [u8]) -> io::Result<()> {
        let (low, high) = self.stripes_of(extent);
        let _low = low.read().unwrap_or_else(PoisonError::into_inner);
        let _high = high.map(|high| high.read().unwrap_or_else(PoisonError::into_inner));
        self.file.read_exact_at(bytes, self.geometry.offset_of(extent))
    }

    /// Puts `bytes` on `extent`.
    pub(crate) fn write(&self, extent: Extent, bytes: &[u8], durability: Durability) -> io::Result<()> {
        let (low, high) = self.stripes_of(extent);
        let low = low.write().unwrap_or_else(PoisonError::into_inner);
        let high = high.map(|high| high.write().unwrap_or_else(PoisonError::into_inner));
        self.file.write_all_at(bytes, self.geometry.offset_of(extent))?;
        drop((low, high));
        match durability {
            Durability::Cached => Ok(()),
            Durability::Fua => self.flush(),
        }
    }

    /// Makes everything written so far durable.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The locks of an extent of at most [`LONGEST`] blocks: one or two, in the order in which to take them.
    fn stripes_of(&self, extent: Extent) -> (&RwLock<()>, Option<&RwLock<()>>) {
        let stripe = |block: u64| usize::try_from(block / u64::from(LONGEST)).unwrap_or_default() % STRIPES;
        let (first, last) = (stripe(extent.start().get()), stripe(extent.end().get() - 1));
        let (low, high) = (first.min(last), first.max(last));
        (&self.stripes[low], (low < high).then(|| &self.stripes[high]))
    }
}
