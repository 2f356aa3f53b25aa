//! The loop device over the FUSE file.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::block::{Geometry, LiveGeometry};
use crate::error::Error;
use crate::time::Tick;

use super::standing::Standing;
use super::sys::{self, LOOP_CONFIG_SIZE};

/// `LO_FLAGS_AUTOCLEAR` and `LO_FLAGS_DIRECT_IO`.
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;
/// Where things are in `struct loop_config`, whose second part is a `struct loop_info64`.
const BLOCK_SIZE_AT: usize = 4;
const INFO_AT: usize = 8;
const FLAGS_AT: usize = 52;
const NAME_AT: usize = 56;
/// `LO_NAME_SIZE`, with the zero at the end.
const NAME_SIZE: usize = 64;

/// How many devices are tried that others may take at the same moment.
const ATTEMPTS: u32 = 64;
/// How long a device that was asked for by name is waited for, and how often it is tried.
const PATIENCE: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_millis(20);
/// How often a device is asked to take over the size of its file.
const RESIZES: u32 = 100;

/// A loop device that is attached to our file and opened by us: it is detached when the last one closes it.
#[derive(Debug)]
pub(super) struct LoopDevice {
    file: File,
    path: PathBuf,
}

impl LoopDevice {
    /// Attaches `backing` to the device that is `wanted`, or to one that is free.
    pub(super) fn attach(
        backing: &File,
        geometry: &LiveGeometry,
        name: &str,
        wanted: Option<&Path>,
        standing: &Standing,
    ) -> Result<Self, Error> {
        let config = config(backing, geometry.get(), name);
        let device = match wanted {
            Some(path) => take(path, &config, standing)?,
            None => take_any(&config)?,
        };
        device.check(geometry.get())?;
        Ok(device)
    }

    /// Its node.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The opening that keeps it attached.
    pub(super) fn into_file(self) -> File {
        self.file
    }

    /// Opens and attaches; the `EBUSY` of a device that is in use is kept apart.
    fn open(path: &Path, config: &[u8; LOOP_CONFIG_SIZE]) -> Result<Option<Self>, Error> {
        let failed = |what: &str, source| Error::os(format!("{what} {}", path.display()), source);
        let opened = File::options().read(true).write(true).open(path);
        let file = opened.map_err(|source| failed("opening the loop device", source))?;
        match sys::configure_loop(file.as_fd(), config) {
            Ok(()) => Ok(Some(Self { file, path: path.to_owned() })),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(None),
            Err(source) => Err(failed(configure_help(&source), source)),
        }
    }

    /// Whether it is what was asked for.
    fn check(&self, geometry: Geometry) -> Result<(), Error> {
        let path = self.path.display();
        let asking = |source| Error::os(format!("asking {path} for its state"), source);
        let info = sys::loop_info(self.file.as_fd()).map_err(asking)?;
        let flags = info.get(FLAGS_AT..FLAGS_AT + 4).and_then(|bytes| bytes.try_into().ok());
        if u32::from_ne_bytes(flags.unwrap_or_default()) & DIRECT_IO == 0
            // Where sysfs is not to be seen the flag is all that there is.
            || self.attribute("loop/dio") == Some(0)
        {
            let problem = "the kernel did not keep to direct I/O, without which errors and flushes are lost in \
                           its page cache: it is too old, or the volume's blocks are too small for it";
            return Err(Error::path(path.to_string(), problem));
        }
        if sys::logical_block_size(self.file.as_fd()).map_err(asking)? != geometry.block_size() {
            let problem = format!("the kernel did not take the block size {}", geometry.block_size());
            return Err(Error::path(path.to_string(), problem));
        }
        // Of a loop device that flag outlives its file.
        if self.attribute("ro") != Some(0) {
            sys::make_writable(self.file.as_fd())
                .map_err(|source| Error::os(format!("making {path} writable"), source))?;
        }
        let bytes = (&self.file).seek(SeekFrom::End(0));
        let bytes = bytes.map_err(|source| Error::os(format!("asking {path} for its size"), source))?;
        if bytes != geometry.bytes() {
            let problem = format!("it has {bytes} bytes where the volume has {}", geometry.bytes());
            return Err(Error::path(path.to_string(), problem));
        }
        Ok(())
    }

    /// A number that sysfs shows of it.
    fn attribute(&self, name: &str) -> Option<u64> {
        let path = Path::new("/sys/block").join(self.path.file_name()?).join(name);
        fs::read_to_string(path).ok()?.trim().parse().ok()
    }
}

/// Has a loop device take over the size of its file, which is `bytes` now. The kernel may have been told of another a moment ago,
/// and drops the news when a write ends at the same moment.
pub(super) fn take_over_size(mut device: &File, bytes: u64) -> io::Result<()> {
    for _ in 0..RESIZES {
        // Has the kernel ask for the file's size, which it remembers otherwise.
        sys::loop_info(device.as_fd())?;
        sys::resize_loop(device.as_fd())?;
        if device.seek(SeekFrom::End(0))? == bytes {
            return Ok(());
        }
        std::thread::park_timeout(INTERVAL);
    }
    Err(io::Error::from_raw_os_error(libc::ETIMEDOUT))
}

fn config(backing: &File, geometry: Geometry, name: &str) -> [u8; LOOP_CONFIG_SIZE] {
    let mut config = [0; LOOP_CONFIG_SIZE];
    config[..4].copy_from_slice(&backing.as_fd().as_raw_fd().to_ne_bytes());
    config[BLOCK_SIZE_AT..][..4].copy_from_slice(&geometry.block_size().to_ne_bytes());
    config[INFO_AT + FLAGS_AT..][..4].copy_from_slice(&(AUTOCLEAR | DIRECT_IO).to_ne_bytes());
    let name = &name.as_bytes()[..name.len().min(NAME_SIZE - 1)];
    config[INFO_AT + NAME_AT..][..name.len()].copy_from_slice(name);
    config
}

fn configure_help(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EINVAL | libc::ENOTTY) => {
            "attaching with direct I/O and the volume's block size (that takes Linux 5.8, and blocks no larger than \
             a page)"
        }
        Some(libc::EPERM | libc::EACCES) => "attaching (that takes root, CAP_SYS_ADMIN)",
        _ => "attaching",
    }
}

fn control() -> Result<File, Error> {
    let opened = File::options().read(true).write(true).open("/dev/loop-control");
    opened.map_err(|source| {
        let what = "opening /dev/loop-control (is the module loop loaded? that takes root)";
        Error::os(what, source)
    })
}

/// Another process may be given the same free device, and be faster.
fn take_any(config: &[u8; LOOP_CONFIG_SIZE]) -> Result<LoopDevice, Error> {
    let control = control()?;
    for _ in 0..ATTEMPTS {
        let number = sys::free_loop_device(control.as_fd())
            .map_err(|source| Error::os("finding a free loop device (losetup --detach frees one)", source))?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        if let Some(device) = LoopDevice::open(&path, config)? {
            return Ok(device);
        }
    }
    let problem = "others took every free one first: try again, or name one";
    Err(Error::path("/dev/loop-control", problem))
}

fn take(path: &Path, config: &[u8; LOOP_CONFIG_SIZE], standing: &Standing) -> Result<LoopDevice, Error> {
    let number = path.to_str().and_then(|path| path.strip_prefix("/dev/loop"));
    let Some(number) = number.and_then(|number| number.parse().ok()) else {
        return Err(Error::setting("device", format!("{} is not of the form /dev/loop7", path.display())));
    };
    match sys::add_loop_device(control()?.as_fd(), number) {
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => {
            return Err(Error::os(format!("making {}", path.display()), error));
        }
        _ => {}
    }
    let end = Tick::now().after(PATIENCE);
    loop {
        if let Some(device) = LoopDevice::open(path, config)? {
            return Ok(device);
        }
        if Tick::now() >= end || standing.ended_within(INTERVAL).is_some() {
            let problem =
                format!("it is in use, and still was after {PATIENCE:?}: see losetup, or name another");
            return Err(Error::path(path.display().to_string(), problem));
        }
    }
}
