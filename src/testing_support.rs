//! What tests share: temporary directories, loop devices, and skips that cannot go unseen.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Says that a test is skipped and why; where `MPIO_REQUIRE=all` it fails instead.
pub(crate) fn skip(reason: &str) {
    assert!(std::env::var("MPIO_REQUIRE").as_deref() != Ok("all"), "MPIO_REQUIRE=all, but {reason}");
    // Past the harness, which keeps to itself what a test that passes prints.
    let name = std::thread::current().name().unwrap_or("test").to_owned();
    let _ = writeln!(std::io::stderr(), "skipped {name}: {reason}");
}

/// A directory that is removed with all it has.
#[derive(Debug)]
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// In memory, where the machine has such a file system.
    pub(crate) fn in_memory() -> Self {
        let shm = Path::new("/dev/shm");
        Self::within(if shm.is_dir() { shm } else { Path::new("/tmp") })
    }

    /// On a medium that moves each sector whole, between whatever loop devices over one file: a file system that gives
    /// direct I/O to its disk. In memory a read through one of them finds a write through another half done, at any byte.
    pub(crate) fn on_disk() -> Result<Self, String> {
        let beside = std::env::current_exe().ok().and_then(|test| Some(test.parent()?.to_owned()));
        let places = [Some(std::env::temp_dir()), beside, Some("/var/tmp".into())];
        let found: Vec<_> = places.into_iter().flatten().map(|place| (kind(&place), place)).collect();
        match found.iter().find(|(kind, _)| DISK_FILE_SYSTEMS.contains(&kind.as_str())) {
            Some((_, place)) => Ok(Self::within(place)),
            None => Err(format!("TMPDIR has to be on ext4 or XFS, and there is only {found:?}")),
        }
    }

    fn within(base: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("mpio-test-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, and the directories on the way to it.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// A file of `bytes` zeroes.
    pub(crate) fn file(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.0.join(name);
        fs::File::create(&path).unwrap().set_len(bytes).unwrap();
        path
    }
}

/// File systems with direct I/O to their disk, by the names of stat(1).
const DISK_FILE_SYSTEMS: [&str; 2] = ["ext2/ext3", "xfs"];

/// The kind of file system that a directory is on.
fn kind(directory: &Path) -> String {
    let called = Command::new("stat").args(["--file-system", "--format=%T"]).arg(directory).output();
    called.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A loop device, detached when dropped.
#[derive(Debug)]
pub(crate) struct LoopDevice(PathBuf);

impl LoopDevice {
    /// Attaches `file`, with direct I/O if its file system takes it, and with more `options` of losetup(8).
    pub(crate) fn attach(file: &Path, options: &[&str]) -> Result<Self, String> {
        let flags = ["--find", "--show", "--direct-io=on", "--partscan"];
        let called = Command::new("losetup").args(flags).args(options).arg(file).output();
        let output = called.map_err(|error| format!("losetup: {error}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            Ok(Self(text(&output.stdout).into()))
        } else {
            Err(text(&output.stderr))
        }
    }

    /// Its node.
    pub(crate) fn node(&self) -> &Path {
        &self.0
    }

    /// Whether its I/O goes past the page cache.
    fn is_direct(&self) -> bool {
        let attribute = Path::new("/sys/block").join(self.0.file_name().unwrap()).join("loop/dio");
        fs::read_to_string(attribute).is_ok_and(|text| text.trim() == "1")
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

/// Loop devices over one file, which is [on a disk](TempDir::on_disk).
#[derive(Debug)]
pub(crate) struct Loops {
    devices: Vec<LoopDevice>,
    file: PathBuf,
    _dir: TempDir,
}

impl Loops {
    pub(crate) fn device(&self, index: usize) -> &Path {
        self.devices[index].node()
    }

    /// The file behind them.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }
}

/// `count` loop devices over one file of `bytes`, or `None` where this machine cannot have them.
pub(crate) fn require_loops(count: usize, bytes: u64) -> Option<Loops> {
    match loops(count, bytes) {
        Ok(loops) => Some(loops),
        Err(reason) => {
            skip(&format!("loop devices cannot be attached here (needs root and losetup): {reason}"));
            None
        }
    }
}

fn loops(count: usize, bytes: u64) -> Result<Loops, String> {
    let dir = TempDir::on_disk()?;
    let file = dir.file("backing", bytes);
    let devices: Result<Vec<_>, _> = (0..count).map(|_| LoopDevice::attach(&file, &[])).collect();
    let devices = devices?;
    match devices.iter().find(|device| !device.is_direct()) {
        Some(device) => Err(format!("{} does not keep to direct I/O", device.node().display())),
        None => Ok(Loops { devices, file, _dir: dir }),
    }
}

/// Runs a program that needs root or a package; whether it succeeded.
pub(crate) fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}
