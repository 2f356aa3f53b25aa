//! The control socket: a Unix stream that only its owner may use.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::private;

/// Bytes that the kernel has for a socket's name, without the zero at the end (`unix(7)`).
const LONGEST: usize = 107;
/// How long a server that holds the socket may take to let one in before it counts as alive but busy.
const GREETING: Duration = Duration::from_secs(2);
/// How often and with what pause the directory is tried while another server makes its socket there.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// A socket that is listened to. It is removed when dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) listener: UnixListener,
    path: PathBuf,
    /// File system and inode, to tell it from another server's.
    inode: (u64, u64),
}

impl Socket {
    /// Makes the socket, and replaces what a dead server left there. No other thread may make files meanwhile.
    ///
    /// # Errors
    /// What stands in the way and what to do about it.
    pub(crate) fn bind(path: &Path) -> Result<Self, String> {
        let refuse = |problem: String| format!("control socket {}: {problem}", path.display());
        Self::make(path).map_err(refuse)
    }

    fn make(path: &Path) -> Result<Self, String> {
        let length = path.as_os_str().len();
        if length > LONGEST {
            return Err(format!(
                "its name has {length} bytes, the kernel takes {LONGEST}; name a shorter one"
            ));
        }
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        let _turn = take_turn(directory)?;
        clear(path)?;
        let listener = private::make(|| UnixListener::bind(path));
        let listener = listener.map_err(|error| format!("it cannot be made: {error}"))?;
        let found = fs::symlink_metadata(path).map_err(|error| format!("it cannot be looked at: {error}"))?;
        Ok(Self { listener, path: path.to_owned(), inode: (found.dev(), found.ino()) })
    }
}

/// Two servers must not take each other's new socket for a leftover: the directory is locked while one is made.
fn take_turn(directory: &Path) -> Result<File, String> {
    let place = directory.display();
    let opened = File::open(directory).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("there is no directory {place}; make it, or name a socket elsewhere"),
        _ => format!("{place} cannot be opened: {error}"),
    })?;
    if !opened.metadata().is_ok_and(|found| found.is_dir()) {
        return Err(format!("{place} is no directory; name a socket elsewhere"));
    }
    for _ in 0..TRIES {
        match opened.try_lock() {
            Ok(()) => return Ok(opened),
            Err(fs::TryLockError::WouldBlock) => thread::park_timeout(PAUSE),
            Err(fs::TryLockError::Error(error)) => return Err(format!("{place} cannot be locked: {error}")),
        }
    }
    Err(format!("{place} is locked by another process; stop it, or name a socket elsewhere"))
}

/// Removes what a dead server left.
fn clear(path: &Path) -> Result<(), String> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("it cannot be looked at: {error}")),
        Ok(found) => found,
    };
    if !found.file_type().is_socket() {
        return Err("the file exists and is no socket; remove it, or name another".to_owned());
    }
    match greet(path) {
        // Nobody has it open: its server is dead.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| format!("a leftover cannot be removed: {error}"))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("it exists, and whether its server lives cannot be seen: {error}")),
        Ok(()) => Err("another server answers there; stop it, or name another socket".to_owned()),
    }
}

/// Connects to the socket. A server whose backlog is full holds up whoever connects: that one lives.
fn greet(path: &Path) -> io::Result<()> {
    let (sender, answer) = channel();
    let path = path.to_owned();
    thread::Builder::new().name("serve-greet".to_owned()).spawn(move || {
        let _ = sender.send(UnixStream::connect(path).map(drop));
    })?;
    match answer.recv_timeout(GREETING) {
        Ok(connected) => connected,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(()),
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let own = |found: fs::Metadata| (found.dev(), found.ino()) == self.inode;
        if fs::symlink_metadata(&self.path).is_ok_and(own) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
