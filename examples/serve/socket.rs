//! The control socket: a Unix stream that only its owner may use.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::private;

/// Bytes that the kernel has for a socket's name, without the zero at the end (`unix(7)`).
const LONGEST: usize = 107;
/// How long a server that holds the socket may take to answer before it counts as silent, where nobody has less patience.
const GREETING: Duration = Duration::from_secs(4);
/// The least that it is given.
const LEAST: Duration = Duration::from_millis(10);
/// How often and with what pause the directory is tried while another server makes its socket there.
const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(20);

/// A socket that is listened to.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) listener: UnixListener,
    path: PathBuf,
    /// File system and inode, to tell it from another server's.
    inode: (u64, u64),
}

impl Socket {
    /// Makes the socket, and replaces what a dead server left there. `None` if a server holds it that does not answer within
    /// `patience`: one that was killed, perhaps, and whose last writes hang. No other thread may make files meanwhile.
    ///
    /// # Errors
    /// What stands in the way and what to do about it.
    pub(crate) fn bind(path: &Path, patience: Duration) -> Result<Option<Self>, String> {
        let refuse = |problem: String| format!("control socket {}: {problem}", path.display());
        Self::make(path, patience.clamp(LEAST, GREETING)).map_err(refuse)
    }

    fn make(path: &Path, patience: Duration) -> Result<Option<Self>, String> {
        let length = path.as_os_str().len();
        if length > LONGEST {
            return Err(format!(
                "its name has {length} bytes, the kernel takes {LONGEST}; name a shorter one"
            ));
        }
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        let _turn = take_turn(directory)?;
        match predecessor(path, patience)? {
            Predecessor::None => {}
            Predecessor::Dead => {
                fs::remove_file(path).map_err(|error| format!("a leftover cannot be removed: {error}"))?;
            }
            Predecessor::Silent => return Ok(None),
        }
        let listener = private::make(|| UnixListener::bind(path));
        let listener = listener.map_err(|error| format!("it cannot be made: {error}"))?;
        let found = fs::symlink_metadata(path).map_err(|error| format!("it cannot be looked at: {error}"))?;
        Ok(Some(Self { listener, path: path.to_owned(), inode: (found.dev(), found.ino()) }))
    }

    /// Removes it, unless another server has put its own in its place.
    pub(crate) fn remove(&self) {
        let own = |found: fs::Metadata| (found.dev(), found.ino()) == self.inode;
        if fs::symlink_metadata(&self.path).is_ok_and(own) {
            let _ = fs::remove_file(&self.path);
        }
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

/// Who had the socket before.
enum Predecessor {
    None,
    Dead,
    /// It has the socket open and does not answer.
    Silent,
}

fn predecessor(path: &Path, patience: Duration) -> Result<Predecessor, String> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Predecessor::None),
        Err(error) => return Err(format!("it cannot be looked at: {error}")),
        Ok(found) => found,
    };
    if !found.file_type().is_socket() {
        return Err("the file exists and is no socket; remove it, or name another".to_owned());
    }
    match greet(path, patience) {
        Ok(Greeting::Answered) => {
            Err("another server answers there; stop it, or name another socket".to_owned())
        }
        Ok(Greeting::Silence) => Ok(Predecessor::Silent),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(Predecessor::Dead),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Predecessor::None),
        Err(error) => Err(format!("it exists, and whether its server lives cannot be seen: {error}")),
    }
}

enum Greeting {
    Answered,
    Silence,
}

/// Sees whether anybody answers, on a thread of its own: a server whose backlog is full holds up whoever connects.
fn greet(path: &Path, patience: Duration) -> io::Result<Greeting> {
    let (sender, answer) = channel();
    let path = path.to_owned();
    thread::Builder::new().name("serve-greet".to_owned()).spawn(move || {
        let _ = sender.send(converse(&path, patience));
    })?;
    match answer.recv_timeout(patience) {
        Ok(greeting) => greeting,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(Greeting::Silence),
    }
}

fn converse(path: &Path, patience: Duration) -> io::Result<Greeting> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(patience))?;
    // What goes wrong from here on is silence: somebody has the socket open.
    let asked = stream.write_all(b"help\n").and_then(|()| stream.read(&mut [0; 64]));
    Ok(if asked.is_ok_and(|bytes| bytes > 0) { Greeting::Answered } else { Greeting::Silence })
}
