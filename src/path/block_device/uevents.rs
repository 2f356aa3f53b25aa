//! What the kernel says of devices as it happens: uevents, over a netlink socket (`lib/kobject_uevent.c`).

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::node::{self, Node};
use super::sys::{Netlink, Received};
use crate::error::Error;
use crate::os::{polled, sleep_on};
use crate::path::Identity;
use crate::time::Tick;

/// The least time between two looks: whatever the kernel says in between is looked at together. A host whose devices change by the
/// thousand has its paths probed a few times a second.
const LEAST_PAUSE: Duration = Duration::from_millis(250);
/// Places that are told apart; beyond them everything counts as changed.
const MOST_PLACES: usize = 256;
/// Messages that are taken in at once; the rest comes at the next turn.
const MOST_MESSAGES: u32 = 10_000;

/// Kinds of device whose changes matter to paths.
const SUBSYSTEMS: [&[u8]; 3] = [b"block", b"scsi", b"nvme"];

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(unreachable_pub, reason = "reached from outside by the fuzzer alone, behind a feature")]
pub struct Uevent<'a> {
    /// What happened: `add`, `remove`, `change`, `move`, `online`, `offline`, `bind`, `unbind`.
    pub action: &'a [u8],
    /// Where in sysfs, below `/sys`, from a slash on.
    pub place: &'a [u8],
    /// Of which kind the device is, such as `block`.
    pub subsystem: &'a [u8],
    /// Of a block device `disk` or `partition`; else mostly empty.
    pub kind: &'a [u8],
}

/// Takes a message of the kernel's apart. `None` if it is none.
#[allow(unreachable_pub, reason = "reached from outside by the fuzzer alone, behind a feature")]
pub fn uevent(message: &[u8]) -> Option<Uevent<'_>> {
    let mut lines = message.split(|&byte| byte == 0);
    // What udev sends has another beginning.
    let _headline = lines.next().filter(|line| line.contains(&b'@'))?;
    let (mut action, mut place, mut subsystem, mut kind) = (None, None, None, &b""[..]);
    for line in lines {
        let Some(at) = line.iter().position(|&byte| byte == b'=') else { continue };
        let value = &line[at + 1..];
        match &line[..at] {
            b"ACTION" => action = Some(value),
            b"DEVPATH" => place = Some(value),
            b"SUBSYSTEM" => subsystem = Some(value),
            b"DEVTYPE" => kind = value,
            _ => {}
        }
    }
    let place = place.filter(|place: &&[u8]| place.starts_with(b"/"))?;
    Some(Uevent { action: action?, place, subsystem: subsystem?, kind })
}

/// What has happened since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Directories in sysfs of what changed.
    places: BTreeSet<PathBuf>,
    /// A disk came or went.
    came_or_went: bool,
    /// A disk or partition came, or is other than it was: it may be of use by now.
    is_new: bool,
    /// Too much for all of it to be known.
    is_incomplete: bool,
}

impl Changes {
    /// As if everything had changed.
    pub(crate) fn all() -> Self {
        Self { came_or_went: true, is_new: true, is_incomplete: true, ..Self::default() }
    }

    /// What one message says.
    #[cfg(test)]
    pub(crate) fn of(action: &str, place: &str, kind: &str) -> Self {
        let mut changes = Self::default();
        let (action, place, kind) = (action.as_bytes(), place.as_bytes(), kind.as_bytes());
        changes.take_in(&Uevent { action, place, subsystem: b"block", kind });
        changes
    }

    /// Whether a disk that was of no use may be of use now.
    pub(crate) const fn may_help(&self) -> bool {
        self.is_new
    }

    /// Whether a disk may have come or gone.
    pub(crate) const fn may_have_come_or_gone(&self) -> bool {
        self.came_or_went
    }

    /// Whether they may be about the device that a path has this identity of. What is said of one that is gone already names a place
    /// that nothing leads to any more.
    pub(crate) fn concern(&self, identity: &Identity) -> bool {
        let Some(number) = number(identity) else { return self.is_incomplete };
        let node = Node::of(number);
        self.is_incomplete || self.touch(node.disk()) || self.came_or_went && !node.disk().is_dir()
    }

    /// Takes in what was said later.
    pub(crate) fn add(&mut self, later: Self) {
        self.places.extend(later.places);
        self.came_or_went |= later.came_or_went;
        self.is_new |= later.is_new;
        self.is_incomplete |= later.is_incomplete;
    }

    /// Something above a disk concerns it (its controller), as does something below it (its partitions).
    fn touch(&self, disk: &Path) -> bool {
        self.places.iter().any(|place| disk.starts_with(place) || place.starts_with(disk))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty() && !self.is_incomplete
    }

    fn take_in(&mut self, uevent: &Uevent<'_>) {
        if !SUBSYSTEMS.contains(&uevent.subsystem) {
            return;
        }
        let is_block = uevent.subsystem == b"block";
        let is_coming_or_going = uevent.action == b"add" || uevent.action == b"remove";
        self.came_or_went |= is_block && is_coming_or_going && uevent.kind != b"partition";
        self.is_new |= is_block && uevent.action != b"remove";
        if self.places.len() == MOST_PLACES {
            *self = Self::all();
        }
        if !self.is_incomplete {
            self.places.insert(Path::new("/sys").join(OsStr::from_bytes(&uevent.place[1..])));
        }
    }
}

/// Whether the device of a path with this identity is there. `None` if that cannot be told: it is no device, or sysfs is not to be
/// seen.
pub(crate) fn is_there(identity: &Identity) -> Option<bool> {
    let number = number(identity)?;
    let known = identity.node()?.split_once(", disk ").map(|(_, sequence)| sequence);
    let is_seen = Path::new("/sys/dev/block").is_dir();
    is_seen.then(|| {
        let node = Node::of(number);
        let sequence = node.sequence();
        node.disk().is_dir() && (known.is_none() || sequence.is_none() || known == sequence.as_deref())
    })
}

/// The device that a path goes to, as [`UnitPath`](super::discover::UnitPath) writes its number.
pub(crate) fn number_of(identity: &Identity) -> Option<String> {
    number(identity).map(node::number)
}

/// The device that a path goes to, by the name of its node.
fn number(identity: &Identity) -> Option<u64> {
    let node = identity.node()?;
    node::parsed(node.split_once(',').map_or(node, |(number, _)| number))
}

/// Hears what the kernel says.
#[derive(Debug)]
pub(crate) struct Listener {
    /// `None` where the kernel says nothing.
    socket: Option<Netlink>,
    /// Closed when it is to end.
    line: UnixStream,
    next_look: Tick,
}

/// Ends its [`Listener`] when it is dropped.
#[derive(Debug)]
pub(crate) struct Line(UnixStream);

impl Line {
    /// Ends the listener, whoever else may have a copy of the descriptor.
    pub(crate) fn hang_up(&self) {
        // It may have ended by itself.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Listener {
    /// # Errors
    /// If there is no such socket.
    pub(crate) fn open() -> Result<(Self, Line), Error> {
        let socket = Netlink::uevents().map_err(cannot)?;
        Self::over(Some(socket))
    }

    /// One that may hear nothing.
    pub(crate) fn open_if_possible() -> Result<(Self, Line), Error> {
        Self::over(Netlink::uevents().ok())
    }

    fn over(socket: Option<Netlink>) -> Result<(Self, Line), Error> {
        let (line, other_end) = UnixStream::pair().map_err(cannot)?;
        Ok((Self { socket, line, next_look: Tick::ZERO }, Line(other_end)))
    }

    /// Waits until something has happened, or `until`: what it was. `None` when it is to end.
    pub(crate) fn wait(&mut self, until: Option<Tick>) -> Option<Changes> {
        let mut changes = Changes::default();
        loop {
            self.take_in(&mut changes);
            let now = Tick::now();
            if !changes.is_empty() && now >= self.next_look || until.is_some_and(|until| now >= until) {
                self.next_look = now.after(LEAST_PAUSE);
                return Some(changes);
            }
            let wake = if changes.is_empty() { until } else { Some(self.next_look) };
            // What has begun to change is looked at together with what comes until then; the kernel says if that was too much.
            let socket = self.socket.as_ref().filter(|_| changes.is_empty());
            let mut descriptors = [polled(Some(self.line.as_fd())), polled(socket.map(AsFd::as_fd))];
            sleep_on(&mut descriptors, wake);
            if descriptors[0].revents != 0 {
                return None;
            }
        }
    }

    /// Takes in what is there. The socket is emptied also when the kernel says that some were lost: until it is, it says so no more.
    fn take_in(&self, changes: &mut Changes) {
        let Some(socket) = &self.socket else { return };
        let mut buffer = [0; 8192];
        let mut has_lost = false;
        for _ in 0..MOST_MESSAGES {
            match socket.receive(&mut buffer) {
                Ok(Received::Message(bytes)) => {
                    if let Some(uevent) = uevent(&buffer[..bytes]) {
                        changes.take_in(&uevent);
                    }
                }
                Ok(Received::Foreign) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // ENOBUFS.
                Err(_) => has_lost = true,
            }
        }
        if has_lost {
            *changes = Changes::all();
        }
    }
}

fn cannot(source: io::Error) -> Error {
    Error::os("listening to what the kernel says of devices", source)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADD: &[u8] = b"add@/devices/virtio/block/vda\0ACTION=add\0DEVPATH=/devices/virtio/block/vda\0\
                         SUBSYSTEM=block\0DEVTYPE=disk\0MAJOR=254\0MINOR=0\0DEVNAME=vda\0SEQNUM=7\0";

    fn changes(messages: &[(&str, &str, &str)]) -> Changes {
        let mut changes = Changes::default();
        for (action, place, subsystem) in messages {
            let text = format!("{action}@{place}\0ACTION={action}\0DEVPATH={place}\0SUBSYSTEM={subsystem}\0");
            changes.take_in(&uevent(text.as_bytes()).unwrap());
        }
        changes
    }

    #[test]
    fn a_message_is_taken_apart() {
        let expected = Uevent {
            action: b"add",
            place: b"/devices/virtio/block/vda",
            subsystem: b"block",
            kind: b"disk",
        };
        assert_eq!(uevent(ADD), Some(expected));
        for end in 0..ADD.len() {
            // What was cut off is not made up.
            assert!(uevent(&ADD[..end]).is_none_or(|found| b"block".starts_with(found.subsystem)), "{end}");
        }
        assert_eq!(uevent(b"libudev\0\xfe\xed\xca\xfe"), None);
        assert_eq!(uevent(b"add@x\0ACTION=add\0DEVPATH=x\0SUBSYSTEM=block\0"), None, "no place below /sys");
    }

    #[test]
    fn what_happens_above_and_below_a_disk_concerns_it_and_nothing_else_does() {
        let disk = Path::new("/sys/devices/pci/nvme/nvme0/nvme0n1");
        let touches = |place: &str, subsystem: &str| changes(&[("change", place, subsystem)]).touch(disk);
        assert!(
            touches("/devices/pci/nvme/nvme0", "nvme") && touches("/devices/pci/nvme/nvme0/nvme0n1", "block")
        );
        assert!(touches("/devices/pci/nvme/nvme0/nvme0n1/nvme0n1p1", "block"));
        assert!(
            !touches("/devices/pci/nvme/nvme0/nvme0n12", "block")
                && !touches("/devices/pci/nvme/nvme0", "net")
        );
        assert!(changes(&[("change", "/devices/x", "net")]).is_empty());
        let of_disk = |action: &str| changes(&[(action, "/devices/x/block/sda", "block")]);
        assert!(of_disk("add").may_have_come_or_gone() && of_disk("add").may_help());
        assert!(of_disk("remove").may_have_come_or_gone() && !of_disk("remove").may_help());
        assert!(!of_disk("change").may_have_come_or_gone() && of_disk("change").may_help());
        assert!(!changes(&[("add", "/devices/x", "scsi")]).may_have_come_or_gone());
    }

    #[test]
    fn of_too_many_changes_everything_counts_as_changed() {
        let mut changes = Changes::default();
        for number in 0..10_000 {
            let place = format!("/devices/virtual/block/loop{number}");
            changes.take_in(&Uevent {
                action: b"change",
                place: place.as_bytes(),
                subsystem: b"block",
                kind: b"disk",
            });
        }
        assert_eq!(changes, Changes::all());
        assert!(changes.concern(&Identity::none()));
    }

    #[test]
    fn a_path_is_known_by_its_node() {
        let identity = |node: &str| Identity::none().with_node(node);
        assert_eq!(number(&identity("8:16, disk 12")), Some(libc::makedev(8, 16)));
        assert_eq!(number(&identity("8:16")), Some(libc::makedev(8, 16)));
        assert_eq!(number(&identity("file 8:1:77")), None);
        assert_eq!(number(&Identity::none()), None);
    }
}
