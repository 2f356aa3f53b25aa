//! Whether a device is local or behind a fabric.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use super::fault::Link;
use super::node::{self, Node};
use super::nvme;
use super::sys::{self, LoopStatus};

/// File systems whose data is on another machine, by the magic number of `statfs(2)`.
const NETWORK_FILE_SYSTEMS: [u32; 15] = [
    0x0000_6969, // NFS
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB2
    0x0000_517b, // SMB
    0x6573_5546, // FUSE, virtiofs
    0x00c3_6400, // Ceph
    0x0102_1997, // 9P
    0x5346_414f, // AFS
    0x6b41_4653, // kAFS
    0x7461_636f, // OCFS2
    0x0116_1970, // GFS2
    0x0bd0_0bd0, // Lustre
    0x4750_4653, // GPFS
    0x1983_0326, // BeeGFS
    0x7375_7245, // Coda
];

/// File systems whose data is in this machine's memory.
const MEMORY_FILE_SYSTEMS: [u32; 3] = [
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x9584_58f6, // hugetlbfs
];

/// Levels of devices that are made of others to be looked through.
const DEEPEST_STACK: u32 = 8;

/// How long a fabric of which no more is known is assumed to hold a command that the kernel has given up: twice what initiators
/// commonly wait before they end one (`dev_loss_tmo` and SCSI timeouts of 30 s).
const UNKNOWN_QUIET: Duration = Duration::from_mins(1);

/// How long a command that the kernel has given up may still take effect, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Quiet {
    pub(super) time: Duration,
    pub(super) derivation: String,
}

/// The time for a device behind a fabric; of one that is made of others, the longest of theirs.
pub(super) fn quiet(node: &Node, device: &File) -> Quiet {
    let own = keep_alive(node).map(|keep_alive| of_nvme(keep_alive, nvme::controller(device).ok()));
    let Quiet { time, derivation } =
        own.or_else(|| of_scsi(node)).unwrap_or_else(|| of_parts(node, DEEPEST_STACK));
    let below = multipath_below(node).unwrap_or_default();
    Quiet { time, derivation: format!("{derivation}{below}") }
}

fn of_parts(node: &Node, levels: u32) -> Quiet {
    let unknown = Quiet {
        time: UNKNOWN_QUIET,
        derivation:
            "no time is known of this transport: twice the 30 s after which initiators commonly end a command"
                .to_owned(),
    };
    let slaves = fs::read_dir(node.disk().join("slaves")).into_iter().flatten().flatten();
    let parts = slaves.filter(|_| levels > 0).filter_map(|slave| fs::canonicalize(slave.path()).ok());
    let times = parts.map(|dir| {
        let part = Node::at(dir);
        let of_nvme = keep_alive(&part).map(|keep_alive| of_nvme(keep_alive, None));
        of_nvme.or_else(|| of_scsi(&part)).unwrap_or_else(|| of_parts(&part, levels.saturating_sub(1)))
    });
    times.max_by_key(|quiet| quiet.time).unwrap_or(unknown)
}

/// TP4129: a controller ends what a host had sent when it misses its keep alives, which it notices after two of its timeouts, or three
/// where any traffic counts as one; what it has under way then can take effect for its command quiesce time more.
fn of_nvme(keep_alive: Duration, controller: Option<nvme::Controller>) -> Quiet {
    let timeouts = if controller.is_some_and(|controller| !controller.is_traffic_based) { 2 } else { 3 };
    let told = controller.map(|controller| controller.quiesce).filter(|quiesce| !quiesce.is_zero());
    let (quiesce, how) = match told {
        Some(quiesce) => (quiesce, "its quiesce time (CQT)"),
        None => (keep_alive, "as much again, since it tells no quiesce time (CQT)"),
    };
    let derivation = format!(
        "NVMe: {timeouts} keep alive timeouts of {} s (kato), and {} ms, {how}",
        keep_alive.as_secs(),
        quiesce.as_millis()
    );
    Quiet { time: keep_alive * timeouts + quiesce, derivation }
}

/// How long a frame lives in a Fibre Channel fabric at most, `R_A_TOV` (FC-FS), 10 s unless the fabric says otherwise; no file of
/// the kernel's tells it.
const FRAME_LIFE: Duration = Duration::from_secs(10);
/// How long an iSCSI target keeps what it was sent over a connection that is gone: `DefaultTime2Wait` and
/// `DefaultTime2Retain`, 2 and
/// 20 s unless negotiated (RFC 7143 sections 13.15 and 13.16).
const SESSION_LIFE: Duration = Duration::from_secs(22);

/// The time for a SCSI disk behind Fibre Channel or iSCSI. What the kernel has given up it has also tried to abort, or its port or
/// session is gone.
fn of_scsi(node: &Node) -> Option<Quiet> {
    let ways = node.disk().ancestors().filter_map(|dir| Some((dir, dir.file_name()?.to_string_lossy())));
    for (dir, name) in ways {
        if name.starts_with("rport-") {
            let derivation = format!(
                "Fibre Channel: a frame lives {0} s at most (R_A_TOV), and as much again for the target to end what has reached it",
                FRAME_LIFE.as_secs()
            );
            return Some(Quiet { time: FRAME_LIFE * 2, derivation });
        }
        if numbered(&name, "session") {
            let told = node::read(&dir.join("iscsi_session").join(&*name).join("recovery_tmo"))?;
            let recovery = Duration::from_secs(told.parse().ok()?);
            let derivation = format!(
                "iSCSI: the target may notice the loss of a session as late as this host does, {} s (recovery_tmo), and keeps what it \
                 was sent for {} s (DefaultTime2Wait and DefaultTime2Retain)",
                recovery.as_secs(),
                SESSION_LIFE.as_secs()
            );
            return Some(Quiet { time: recovery + SESSION_LIFE, derivation });
        }
    }
    None
}

/// The keep alive timeout of an NVMe disk's controllers, the longest; `None` if one has none.
fn keep_alive(node: &Node) -> Option<Duration> {
    let device = node.disk().join("device");
    let controllers = fs::read_dir(&device).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = controllers.chain([device]).filter(|path| path.join("transport").exists());
    let seconds =
        all.map(|path| node::read(&path.join("kato"))?.parse().ok().filter(|&seconds: &u64| seconds > 0));
    seconds.collect::<Option<Vec<u64>>>()?.into_iter().max().map(Duration::from_secs)
}

/// How a disk is reached, in a word.
pub(super) fn name(node: &Node) -> String {
    if let Some(transport) = node.of_disk("device/transport") {
        return transport;
    }
    let parts: Vec<String> = node.disk().iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if let Some(name) = parts.last().filter(|_| parts.iter().any(|part| part == "virtual")) {
        return name.chars().take_while(char::is_ascii_alphabetic).collect();
    }
    let names = [
        ("rport-", "fc"),
        ("session", "iscsi"),
        ("end_device-", "sas"),
        ("ata", "ata"),
        ("usb", "usb"),
        ("virtio", "virtio"),
        ("nvme", "nvme"),
        ("host", "scsi"),
    ];
    let is_on_the_way = |prefix: &str| {
        parts.iter().any(|part| match part.strip_prefix(prefix) {
            Some(rest) => rest.starts_with(|first: char| first.is_ascii_digit()),
            None => false,
        })
    };
    names.iter().find(|(prefix, _)| is_on_the_way(prefix)).map_or("", |&(_, name)| name).to_owned()
}

/// What is to be said of a device that is itself several paths.
fn multipath_below(node: &Node) -> Option<&'static str> {
    let is_mapped = node.of_disk("dm/uuid").is_some_and(|uuid| uuid.starts_with("mpath-"));
    let is_head = node.of_disk("device/iopolicy").is_some();
    if is_mapped {
        Some("; below is dm-multipath, which sends a write again by itself: name its paths instead")
    } else if is_head {
        Some(
            "; below is the kernel's own NVMe multipath, which sends a write again by itself: boot with \
             nvme_core.multipath=N to have each path here",
        )
    } else {
        None
    }
}

/// What sysfs says of a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Local,
    Fabric,
    Unknown,
}

/// The link of a block device. What is not known to be local counts as a fabric.
pub(super) fn device_link(node: &Node, status: Option<LoopStatus>) -> Link {
    if let Some(status) = status {
        return loop_link(node, status).unwrap_or(Link::Fabric);
    }
    match device_transport(node.disk()) {
        Transport::Local => Link::Local,
        Transport::Fabric | Transport::Unknown => Link::Fabric,
    }
}

/// The link of a loop device is that of its backing file, if that can still be reached by its name.
fn loop_link(node: &Node, status: LoopStatus) -> Option<Link> {
    let name = node.of_disk("loop/backing_file")?;
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(name).ok()?;
    let found = file.metadata().ok()?;
    (found.dev() == status.device && found.ino() == status.inode).then(|| file_link(&file))
}

/// The link of a regular file: that of the disks that its file system is on. What is not known to be on local ones, or in memory, counts
/// as behind a fabric.
pub(super) fn file_link(file: &File) -> Link {
    file_link_within(file, DEEPEST_STACK)
}

fn file_link_within(file: &File, levels: u32) -> Link {
    let (Ok(magic), Ok(found)) = (sys::file_system(file), file.metadata()) else { return Link::Fabric };
    if NETWORK_FILE_SYSTEMS.contains(&magic) {
        return Link::Fabric;
    }
    if MEMORY_FILE_SYSTEMS.contains(&magic) {
        return Link::Local;
    }
    let disks = match libc::major(found.dev()) {
        // It has a number of its own, which is no disk's.
        0 => mounted_from(file).map_or_else(Vec::new, |source| members(&source, Path::new("/sys/fs/btrfs"))),
        _ => vec![Node::of(found.dev())],
    };
    match disks.iter().map(|node| transport_within(node.disk(), levels)).reduce(Transport::and) {
        Some(Transport::Local) => Link::Local,
        Some(Transport::Fabric | Transport::Unknown) | None => Link::Fabric,
    }
}

/// The device that the file system of an open file was mounted from (`proc_pid_mountinfo(5)`).
fn mounted_from(file: &File) -> Option<Node> {
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let mount = about.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let source = source_of(&mounts, mount)?;
    let found = fs::metadata(source).ok()?;
    found.file_type().is_block_device().then(|| Node::of(found.rdev()))
}

/// What a mount is of: the second field after the lone dash.
fn source_of<'a>(mounts: &'a str, mount: &str) -> Option<&'a str> {
    let line = mounts.lines().find(|line| line.split(' ').next() == Some(mount))?;
    line.split_once(" - ")?.1.split(' ').nth(1)
}

/// The disk, and all that are one btrfs with it; none if that is not to be seen.
fn members(source: &Node, file_systems: &Path) -> Vec<Node> {
    let lists = fs::read_dir(file_systems).into_iter().flatten().flatten();
    for list in lists.map(|entry| entry.path().join("devices")) {
        let links = fs::read_dir(list).into_iter().flatten().flatten();
        let nodes: Vec<Node> =
            links.filter_map(|link| fs::canonicalize(link.path()).ok()).map(Node::at).collect();
        if nodes.contains(source) {
            return nodes;
        }
    }
    Vec::new()
}

fn device_transport(disk: &Path) -> Transport {
    transport_within(disk, DEEPEST_STACK)
}

/// A device that is made of others (LVM, MD) has the transport of what it is made of.
fn transport_within(disk: &Path, levels: u32) -> Transport {
    let name = disk.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with("nvme") {
        return nvme_transport(&disk.join("device"));
    }
    if let Some(file) = node::read(&disk.join("loop/backing_file")).filter(|_| levels > 0) {
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(file);
        return match opened.map(|file| file_link_within(&file, levels - 1)) {
            Ok(Link::Local) => Transport::Local,
            Ok(Link::Fabric) => Transport::Fabric,
            Err(_) => Transport::Unknown,
        };
    }
    let own = by_location(disk);
    let slaves = fs::read_dir(disk.join("slaves")).into_iter().flatten().flatten();
    let below = slaves.filter_map(|slave| fs::canonicalize(slave.path()).ok());
    if own != Transport::Unknown || levels == 0 {
        return own;
    }
    let of_slave = |slave: std::path::PathBuf| {
        let is_partition = slave.join("partition").exists();
        let disk = if is_partition { slave.parent().unwrap_or(&slave) } else { &slave };
        transport_within(disk, levels - 1)
    };
    below.map(of_slave).reduce(Transport::and).unwrap_or(own)
}

impl Transport {
    /// Of what needs both.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Fabric, _) | (_, Self::Fabric) => Self::Fabric,
            (Self::Local, Self::Local) => Self::Local,
            _ => Self::Unknown,
        }
    }
}

/// An NVMe disk hangs on one controller, or on a subsystem with several.
fn nvme_transport(device: &Path) -> Transport {
    let own = node::read(&device.join("transport"));
    let controllers = fs::read_dir(device).into_iter().flatten().flatten();
    let theirs = controllers.filter_map(|entry| node::read(&entry.path().join("transport")));
    let all: Vec<String> = own.into_iter().chain(theirs).collect();
    match all.as_slice() {
        [] => Transport::Unknown,
        some if some.iter().all(|transport| transport == "pcie") => Transport::Local,
        _ => Transport::Fabric,
    }
}

/// A disk's place in the tree of devices names the transports on the way to it.
fn by_location(disk: &Path) -> Transport {
    let parts = || disk.iter().map(|part| part.to_string_lossy());
    if parts().any(|part| is_fabric(&part)) {
        return Transport::Fabric;
    }
    if parts().any(|part| is_local(&part)) {
        return Transport::Local;
    }
    Transport::Unknown
}

/// Fibre Channel and SRP remote ports, iSCSI sessions, network block devices.
fn is_fabric(part: &str) -> bool {
    part.starts_with("rport-") || numbered(part, "session") || numbered(part, "nbd")
}

/// ATA, SAS, USB, virtio, MMC, persistent memory, and disks of memory.
fn is_local(part: &str) -> bool {
    let buses = ["ata", "usb", "virtio", "ndbus", "zram", "ram", "nullb"];
    part == "mmc_host" || part.starts_with("end_device-") || buses.iter().any(|bus| numbered(part, bus))
}

fn numbered(part: &str, prefix: &str) -> bool {
    part.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing_support::TempDir;

    #[test]
    fn the_place_in_the_device_tree_tells_the_transport() {
        let table = [
            ("pci0000:00/0000:00:02.0/virtio1/block/vda", Transport::Local),
            ("pci0000:00/0000:00:04.0/virtio2/host0/target0:0:0/0:0:0:1/block/sda", Transport::Local),
            ("pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda", Transport::Local),
            (
                "pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sdb",
                Transport::Local,
            ),
            (
                "pci0000:00/0000:02:00.0/host0/port-0:0/end_device-0:0/target0:0:0/0:0:0:0/block/sda",
                Transport::Local,
            ),
            ("virtual/block/zram0", Transport::Local),
            ("pci0000:00/0000:81:00.0/host1/rport-1:0-0/target1:0:0/1:0:0:0/block/sdc", Transport::Fabric),
            ("platform/host3/session1/target3:0:0/3:0:0:1/block/sdd", Transport::Fabric),
            ("virtual/block/nbd0", Transport::Fabric),
            ("virtual/block/dm-0", Transport::Unknown),
            ("virtual/block/md127", Transport::Unknown),
            ("pci0000:00/0000:03:00.0/host0/target0:2:0/0:2:0:0/block/sda", Transport::Unknown),
        ];
        for (place, transport) in table {
            assert_eq!(by_location(&Path::new("/sys/devices").join(place)), transport, "{place}");
        }
    }

    #[test]
    fn nvme_is_local_if_every_controller_is_on_pcie() {
        let dir = TempDir::new();
        dir.write("nvme0n1/device/transport", "pcie\n");
        assert_eq!(device_transport(&dir.path().join("nvme0n1")), Transport::Local);
        dir.write("nvme1n1/device/nvme1/transport", "tcp\n");
        dir.write("nvme1n1/device/nvme2/transport", "pcie\n");
        assert_eq!(device_transport(&dir.path().join("nvme1n1")), Transport::Fabric);
        assert_eq!(device_transport(&dir.path().join("nvme2n1")), Transport::Unknown);
    }

    #[test]
    fn a_device_that_is_made_of_others_is_as_local_as_they_all_are() {
        let dir = TempDir::new();
        let at = |name: &str| dir.path().join(name);
        dir.write("virtio1/block/vda/vda1/partition", "1\n");
        dir.write("rport-1:0-0/block/sdc/size", "1\n");
        dir.write("dm-0/slaves/none", "");
        for (disk, slave) in [
            ("dm-1", "virtio1/block/vda/vda1"),
            ("dm-2", "rport-1:0-0/block/sdc"),
            ("dm-3", "dm-1"),
            ("dm-4", "dm-1"),
            ("dm-4", "dm-2"),
        ] {
            let slaves = at(disk).join("slaves");
            fs::create_dir_all(&slaves).unwrap();
            std::os::unix::fs::symlink(at(slave), slaves.join(slave.replace('/', "!"))).unwrap();
        }
        let expected = [
            ("dm-0", Transport::Unknown),
            ("dm-1", Transport::Local),
            ("dm-2", Transport::Fabric),
            ("dm-3", Transport::Local),
            ("dm-4", Transport::Fabric),
        ];
        for (disk, transport) in expected {
            assert_eq!(device_transport(&at(disk)), transport, "{disk}");
        }
    }

    #[test]
    fn a_time_is_derived_from_keep_alives() {
        let dir = TempDir::new();
        let node = Node::at(dir.path().join("nvme0n1"));
        assert_eq!(keep_alive(&node), None);
        dir.write("nvme0n1/device/transport", "tcp\n");
        dir.write("nvme0n1/device/kato", "5\n");
        assert_eq!(keep_alive(&node), Some(Duration::from_secs(5)));
        // A head of several.
        dir.write("nvme1n1/device/iopolicy", "numa\n");
        for (controller, kato) in [("nvme1", "5"), ("nvme2", "15")] {
            dir.write(&format!("nvme1n1/device/{controller}/transport"), "tcp\n");
            dir.write(&format!("nvme1n1/device/{controller}/kato"), kato);
        }
        let head = Node::at(dir.path().join("nvme1n1"));
        assert_eq!(keep_alive(&head), Some(Duration::from_secs(15)));
        assert!(multipath_below(&head).is_some() && multipath_below(&node).is_none());
        dir.write("nvme1n1/device/nvme2/kato", "0");
        assert_eq!(keep_alive(&head), None, "without keep alives nothing ends it");
        fs::create_dir_all(dir.path().join("dm-0/slaves")).unwrap();
        let mapped = Node::at(dir.path().join("dm-0"));
        assert_eq!(of_parts(&mapped, 1).time, UNKNOWN_QUIET);
        for (disk, kato) in [("nvme0n1", "5"), ("nvme2n1", "60")] {
            dir.write(&format!("{disk}/device/transport"), "tcp");
            dir.write(&format!("{disk}/device/kato"), kato);
            std::os::unix::fs::symlink(dir.path().join(disk), dir.path().join("dm-0/slaves").join(disk))
                .unwrap();
        }
        assert_eq!(of_parts(&mapped, 1).time, Duration::from_mins(4));

        let five = Duration::from_secs(5);
        assert_eq!(of_nvme(five, None).time, five * 4);
        assert!(of_nvme(five, None).derivation.contains("3 keep alive timeouts of 5 s"));
    }

    #[test]
    fn a_time_is_derived_for_fibre_channel_and_for_iscsi() {
        let dir = TempDir::new();
        let at = |place: &str| Node::at(dir.path().join(place));
        let fc = "host1/rport-1:0-0/target1:0:0/1:0:0:0/block/sdc";
        dir.write(&format!("{fc}/size"), "8");
        assert_eq!(of_scsi(&at(fc)).unwrap().time, Duration::from_secs(20));
        let iscsi = "host3/session1/target3:0:0/3:0:0:1/block/sdd";
        dir.write(&format!("{iscsi}/size"), "8");
        assert_eq!(of_scsi(&at(iscsi)), None, "nothing is told");
        let told = "host3/session1/iscsi_session/session1/recovery_tmo";
        dir.write(told, "-1\n");
        assert_eq!(of_scsi(&at(iscsi)), None, "it never gives up");
        dir.write(told, "120\n");
        let quiet = of_scsi(&at(iscsi)).unwrap();
        assert_eq!(quiet.time, Duration::from_secs(142));
        assert!(quiet.derivation.contains("120 s (recovery_tmo)"), "{}", quiet.derivation);
        assert_eq!(of_scsi(&at("virtio2/host0/target0:0:0/0:0:0:1/block/sda")), None);
        // A device over both: the longest.
        fs::create_dir_all(dir.path().join("dm-0/slaves")).unwrap();
        for (name, disk) in [("sdc", fc), ("sdd", iscsi)] {
            std::os::unix::fs::symlink(dir.path().join(disk), dir.path().join("dm-0/slaves").join(name))
                .unwrap();
        }
        assert_eq!(of_parts(&at("dm-0"), 1).time, Duration::from_secs(142));
    }

    #[test]
    fn a_file_system_without_a_disk_number_is_traced_to_all_its_disks() {
        let mounts = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
                      36 22 0:33 /root /data\\040x rw,noatime shared:1 master:2 - btrfs /dev/sda2 rw,subvol=/root\n\
                      40 22 0:40 / /over rw - overlay overlay rw,upperdir=/u\n";
        assert_eq!(source_of(mounts, "36"), Some("/dev/sda2"));
        assert_eq!(source_of(mounts, "40"), Some("overlay"));
        assert_eq!(source_of(mounts, "3"), None);
        let dir = TempDir::new();
        for (disk, list) in
            [("virtio1/block/vda", "one"), ("rport-1:0-0/block/sdc", "two"), ("virtio2/block/vdb", "two")]
        {
            dir.write(&format!("{disk}/size"), "8");
            let devices = dir.path().join("btrfs").join(list).join("devices");
            fs::create_dir_all(&devices).unwrap();
            let link = devices.join(disk.rsplit('/').next().unwrap());
            std::os::unix::fs::symlink(dir.path().join(disk), link).unwrap();
        }
        let lists = dir.path().join("btrfs");
        let node = |disk: &str| Node::at(dir.path().join(disk).canonicalize().unwrap());
        assert_eq!(members(&node("virtio1/block/vda"), &lists).len(), 1);
        assert_eq!(members(&node("virtio2/block/vdb"), &lists).len(), 2);
        assert!(members(&Node::at("/nonexistent".into()), &lists).is_empty());
    }

    #[test]
    fn a_file_in_memory_is_local_and_one_of_an_unknown_file_system_is_not() {
        let memory = TempDir::in_memory();
        let file = File::create(memory.path().join("file")).unwrap();
        if sys::file_system(&file).unwrap() == MEMORY_FILE_SYSTEMS[0] {
            assert_eq!(file_link(&file), Link::Local);
        }
        // On no disk that anybody knows.
        assert_eq!(file_link(&File::open("/proc/self/stat").unwrap()), Link::Fabric);
    }

    #[test]
    fn what_is_unknown_counts_as_a_fabric() {
        assert_eq!(device_link(&Node::at("/sys/devices/virtual/block/dm-9".into()), None), Link::Fabric);
    }
}
