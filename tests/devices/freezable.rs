//! Storage with two ways to it, one of which can be frozen below its path.
//!
//! ```text
//! freezing way: loop device ─► file on ext4 ─► loop device ─┐
//! open way:     loop device, at the place of that file's blocks ─┴─► image, in memory
//! ```
//!
//! Both ways reach the same bytes. `fsfreeze` stops every write to the file: it hangs in the kernel, out of reach of any
//! cancel, until the thaw, and with it whatever comes after it on that loop device. The open way does not notice. The
//! file's blocks were written once and lie in one piece, so that overwriting them moves nothing. Discards and write
//! zeroes would: they must not be sent the freezing way.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use mpio::path::BlockDevice;
use mpio::{PathOptions, VolumeBuilder};

use crate::anonymous::Anonymous;
use crate::mount::Mount;
use crate::testing_support::{LoopDevice, TempDir, skip};

/// Bytes of the storage.
pub(crate) const BYTES: u64 = 1 << 20;
const IMAGE: u64 = 32 << 20;

/// The storage. It is thawed when dropped, and taken apart.
pub(crate) struct Freezable {
    freezing: LoopDevice,
    open: LoopDevice,
    mount: Mount,
    image: PathBuf,
    /// Where in the image the storage is.
    offset: u64,
    _below: LoopDevice,
    _dir: TempDir,
}

impl Freezable {
    /// The storage, all zeroes; `None` where this machine cannot have it.
    pub(crate) fn required() -> Option<Self> {
        match Self::new() {
            Ok(storage) => Some(storage),
            Err(reason) => {
                skip(&format!(
                    "no file system can be frozen here (needs root, losetup, mkfs.ext4): {reason}"
                ));
                None
            }
        }
    }

    fn new() -> Result<Self, String> {
        let dir = TempDir::on_disk()?;
        let image = dir.file("image", IMAGE);
        let below = LoopDevice::attach(&image, &[])?;
        let mount = Mount::new(below.node(), &dir.path().join("mount"))?;
        if !(mount.set("--freeze") && mount.set("--unfreeze")) {
            return Err("fsfreeze failed".to_owned());
        }
        let file = mount.path().join("storage");
        let offset = place(&file, &image)?;
        let freezing = LoopDevice::attach(&file, &[])?;
        let range = [format!("--offset={offset}"), format!("--sizelimit={BYTES}")];
        // Over the device below, since two loop devices over one file are one unit, of which this one is mounted.
        let open = LoopDevice::attach(below.node(), &[&range[0], &range[1]])?;
        if !has_direct_io(&freezing) {
            return Err("the file would be read through a cache, which the open way goes past".to_owned());
        }
        Ok(Self { freezing, open, mount, image, offset, _below: below, _dir: dir })
    }

    /// Adds both ways as paths: the freezing one is path 0, the open one path 1.
    pub(crate) fn add_paths(&self, builder: VolumeBuilder) -> VolumeBuilder {
        let same = PathOptions::new().assert_same();
        let (freezing, open) = (BlockDevice::new(self.freezing.node()), BlockDevice::new(self.open.node()));
        builder.path(freezing).path_with(same, Anonymous(open))
    }

    /// Has every write on the freezing way hang from now on.
    pub(crate) fn freeze(&self) {
        assert!(self.mount.set("--freeze"), "fsfreeze --freeze failed");
    }

    /// Lets what hangs go on.
    pub(crate) fn thaw(&self) {
        assert!(self.mount.set("--unfreeze"), "fsfreeze --unfreeze failed");
    }

    /// What the storage holds.
    pub(crate) fn content(&self) -> Vec<u8> {
        let image = fs::read(&self.image).unwrap();
        let start = usize::try_from(self.offset).unwrap();
        image[start..][..usize::try_from(BYTES).unwrap()].to_vec()
    }
}

/// Makes a file of zeroes and finds out where in the image its blocks are.
fn place(file: &Path, image: &Path) -> Result<u64, String> {
    let marks: Vec<u8> =
        (0..BYTES / 8).flat_map(|word| (0x6d70_696f_0000_0000 + word).to_le_bytes()).collect();
    write(file, &marks)?;
    let found = fs::read(image).map_err(|error| error.to_string())?;
    let at = found.windows(4096).step_by(4096).position(|block| block == &marks[..4096]);
    let at = at.ok_or("the file's blocks are not in the image")? * 4096;
    if found[at..][..marks.len()] != marks[..] {
        return Err("the file's blocks are not in one piece".to_owned());
    }
    write(file, &vec![0; marks.len()])?;
    Ok(at as u64)
}

/// Writes a file in place, down to the device.
fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let file = File::options().write(true).create(true).truncate(false).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| format!("writing {}: {error}", path.display()))
}

fn has_direct_io(device: &LoopDevice) -> bool {
    let name = device.node().file_name().unwrap_or_default();
    let flag = Path::new("/sys/block").join(name).join("loop/dio");
    fs::read_to_string(flag).is_ok_and(|flag| flag.trim() == "1")
}

impl Drop for Freezable {
    fn drop(&mut self) {
        // Fails where it is not frozen.
        self.mount.set("--unfreeze");
    }
}
