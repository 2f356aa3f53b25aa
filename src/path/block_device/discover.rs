//! The logical units that this host has, and by which ways.
//!
//! Read from sysfs; nothing is opened. Disks that have an identifier which is unique in the world are listed, each unit once: SCSI
//! disks and NVMe namespaces. Partitions, and what is made of disks (device mapper, MD, loop devices), are not.
//!
//! ```no_run
//! for unit in mpio::discover::units() {
//!     println!("{} {} bytes", unit.wwid, unit.bytes);
//!     for path in &unit.paths {
//!         println!("  {} {} {} {:?}", path.node.display(), path.transport, path.access, path.used_by);
//!     }
//! }
//! ```

use std::path::PathBuf;

use super::claim;
use super::host::{self, HostDevice};
use super::identity::Subject;
use super::node::{self, Node};
use super::{access, transport};
use crate::path::{AccessState, BlockDevice, Identifier, IdentifierKind, Identity};

/// A logical unit, or namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unit {
    /// Its name, as `multipath -ll` and the kernel write it: `3` and the NAA identifier of a SCSI unit, `uuid.`, `eui.` or `nvme.` and
    /// what follows of a namespace.
    pub wwid: String,
    /// All identifiers that its paths show.
    pub identity: Identity,
    /// Its size in bytes: the least that a path shows.
    pub bytes: u64,
    /// The ways to it, by name.
    pub paths: Vec<UnitPath>,
}

/// One way to a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnitPath {
    /// Its device, such as `/dev/sdb`.
    pub node: PathBuf,
    /// Its number, such as `8:16`.
    pub number: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// What the kernel knows of its access state; optimized where it follows none.
    pub access: AccessState,
    /// How it is reached: `tcp`, `rdma`, `fc` or `pcie` of NVMe; `fc`, `iscsi`, `sas`, `ata`, `usb`, `virtio` or `scsi`; else empty.
    pub transport: String,
    /// Where it hangs: the address of an NVMe controller, the place of a SCSI disk in the tree of devices.
    pub place: Option<String>,
    /// Who uses it, in words: where it is mounted, what is built on it.
    pub used_by: Option<String>,
}

impl UnitPath {
    /// Whether this process has the device open.
    pub(crate) fn is_open_here(&self) -> bool {
        node::parsed(&self.number).is_some_and(claim::is_device_open_here)
    }
}

impl Unit {
    /// A path for each way that nobody uses.
    pub fn devices(&self) -> impl Iterator<Item = BlockDevice> {
        self.paths.iter().filter(|path| path.used_by.is_none()).map(|path| BlockDevice::new(&path.node))
    }
}

/// All units of this host, by name; none where sysfs is not to be read.
pub fn units() -> Vec<Unit> {
    grouped(&host::devices())
}

fn grouped(devices: &[HostDevice]) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    for device in devices {
        let identifiers = identifiers(device);
        let Some(wwid) = wwid(&device.node, &identifiers) else { continue };
        let path = path(device);
        let is_it =
            |unit: &&mut Unit| identifiers.iter().any(|one| unit.identity.identifiers().contains(one));
        if let Some(unit) = units.iter_mut().find(is_it) {
            unit.bytes = unit.bytes.min(path.bytes);
            unit.paths.push(path);
            unit.identity = with(std::mem::take(&mut unit.identity), identifiers);
        } else {
            let identity = with(Identity::none(), identifiers);
            units.push(Unit { wwid, identity, bytes: path.bytes, paths: vec![path] });
        }
    }
    units.sort_by(|a, b| a.wwid.cmp(&b.wwid));
    units
}

/// Those of a whole disk; none of anything else.
fn identifiers(device: &HostDevice) -> Vec<Identifier> {
    let HostDevice { number, node, .. } = device;
    if node.is_partition() || node.own("loop/backing_file").is_some() {
        return Vec::new();
    }
    Subject { number: *number, node, status: None, file: None }.of_disk()
}

fn with(identity: Identity, identifiers: Vec<Identifier>) -> Identity {
    identifiers.into_iter().fold(identity, |identity, one| identity.with(one.kind, one.value))
}

fn path(device: &HostDevice) -> UnitPath {
    let HostDevice { path, number, node } = device;
    let holders = node.holders();
    let used_by = claim::lasting_user(*number, node)
        .or_else(|| (!holders.is_empty()).then(|| format!("is claimed by {}", holders.join(", "))));
    UnitPath {
        node: path.clone(),
        number: node::number(*number),
        bytes: node.len().unwrap_or(0),
        access: access::of_kernel(node).unwrap_or(AccessState::Optimized),
        transport: transport::name(node),
        place: node.place(),
        used_by,
    }
}

/// The kernel's name of a namespace; of a SCSI unit the identifier that multipath-tools prefers, after the number of its kind
/// (`parse_vpd_pg83` in libmultipath/discovery.c).
fn wwid(node: &Node, identifiers: &[Identifier]) -> Option<String> {
    let first = identifiers.iter().min_by_key(|identifier| rank(identifier))?;
    Some(match first.kind {
        IdentifierKind::ScsiNaa => format!("3{}", first.value),
        IdentifierKind::ScsiEui64 => format!("2{}", first.value),
        IdentifierKind::ScsiName => format!("8{}", first.value),
        // Blanks are written as multipath-tools does.
        IdentifierKind::ScsiT10 => {
            format!("1{}", first.value.split_whitespace().collect::<Vec<_>>().join("_"))
        }
        _ => node.of_disk("wwid").unwrap_or_else(|| first.to_string()),
    })
}

/// NAA 6 comes first, then NAA 5 and 2, EUI-64, the name, the vendor's own.
fn rank(identifier: &Identifier) -> u8 {
    match (identifier.kind, identifier.value.chars().next()) {
        (IdentifierKind::ScsiNaa, Some('6')) => 0,
        (IdentifierKind::ScsiNaa, Some('5')) => 1,
        (IdentifierKind::ScsiNaa, _) => 2,
        (IdentifierKind::ScsiEui64, _) => 3,
        (IdentifierKind::ScsiName, _) => 4,
        (IdentifierKind::ScsiT10, _) => 5,
        _ => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing_support::TempDir;

    fn disk(dir: &TempDir, name: &str, number: u64) -> HostDevice {
        HostDevice { path: PathBuf::from("/dev").join(name), number, node: Node::at(dir.path().join(name)) }
    }

    #[test]
    fn ways_to_one_unit_are_listed_under_its_name() {
        let dir = TempDir::new();
        let page = |last| [0, 0x83, 0, 12, 1, 3, 0, 8, 0x50, 1, 2, 3, 4, 5, 6, last];
        for (name, last, sectors) in [("sda", 7, "2048"), ("sdb", 8, "8"), ("sdc", 7, "4096")] {
            dir.write(&format!("{name}/device/vpd_pg83"), page(last));
            dir.write(&format!("{name}/size"), sectors);
        }
        dir.write("sdc/device/access_state", "standby\n");
        dir.write("sda/holders/dm-0/size", "1");
        dir.write("sda/sda1/partition", "1\n");
        dir.write("sda/sda1/start", "2\n");
        dir.write("nvme0n1/nsid", "1\n");
        dir.write("nvme0n1/uuid", "12345678-9abc-def0-1234-56789abcdef0\n");
        dir.write("nvme0n1/wwid", "uuid.12345678-9abc-def0-1234-56789abcdef0\n");
        dir.write("vda/size", "8");
        let names = ["sda", "sda/sda1", "sdb", "sdc", "nvme0n1", "vda"];
        let devices: Vec<HostDevice> =
            (1..).zip(names).map(|(number, name)| disk(&dir, name, 0xffff_0000 + number)).collect();
        let units = grouped(&devices);
        let wwids: Vec<&str> = units.iter().map(|unit| unit.wwid.as_str()).collect();
        assert_eq!(
            wwids,
            ["35001020304050607", "35001020304050608", "uuid.12345678-9abc-def0-1234-56789abcdef0"]
        );
        let [unit, ..] = &units[..] else { panic!("three were found") };
        assert_eq!((unit.bytes, unit.paths.len()), (1 << 20, 2));
        assert_eq!(unit.paths[1].access, AccessState::Standby);
        assert_eq!(unit.paths[0].used_by.as_deref(), Some("is claimed by dm-0"));
        assert_eq!(unit.devices().count(), 1);
    }

    #[test]
    fn a_unit_is_named_by_what_multipath_tools_would_take() {
        let identifier = |kind, value: &str| Identifier { kind, value: value.to_owned() };
        let node = Node::at("/nonexistent".into());
        let all = [
            identifier(IdentifierKind::ScsiT10, "LIO-ORG disk"),
            identifier(IdentifierKind::ScsiNaa, "5001"),
            identifier(IdentifierKind::ScsiNaa, "6001"),
            identifier(IdentifierKind::ScsiName, "iqn.x"),
        ];
        assert_eq!(wwid(&node, &all).as_deref(), Some("36001"));
        assert_eq!(wwid(&node, &all[..1]).as_deref(), Some("1LIO-ORG_disk"));
        assert_eq!(wwid(&node, &[]), None);
    }
}
