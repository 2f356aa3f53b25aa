//! What a path found at its end.

use std::fmt;
use std::time::Duration;

use crate::block::{Geometry, Limits};

/// What a path says of itself and of the device when it has connected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// Which device it is.
    pub identity: Identity,
    /// Its block size and size.
    pub geometry: Geometry,
    /// What one request may ask for.
    pub limits: Limits,
    /// What a flush through this path covers.
    pub cache: Cache,
    /// Whether I/O may go this way.
    pub access: AccessState,
    /// Whether the array prefers this way to others (`PREF` of its target port group, SPC-5 section 6.37): among those that are not
    /// optimized it is then used first. As it was when the path connected.
    pub preferred: bool,
    /// Attempts that the path can have out at once, over all queues.
    pub depth: u32,
    /// How well the path can make sure that earlier attempts no longer take effect.
    pub fence: FenceSupport,
    /// How that is known, in words for the user; may be empty.
    pub fence_derivation: String,
    /// How the device is reached, in a word such as `tcp`, `fc` or `loop`; may be empty.
    pub transport: String,
    /// Where it hangs, by names that last when it goes and comes back: the address of an NVMe controller, the place of a disk in
    /// the tree of devices.
    pub place: Option<String>,
}

impl Description {
    /// A device without a volatile cache, optimized, 64 attempts deep, with no fence.
    pub const fn new(identity: Identity, geometry: Geometry, limits: Limits) -> Self {
        Self {
            identity,
            geometry,
            limits,
            cache: Cache::None,
            access: AccessState::Optimized,
            preferred: false,
            depth: 64,
            fence: FenceSupport::None,
            fence_derivation: String::new(),
            transport: String::new(),
            place: None,
        }
    }
}

/// Kind of a logical unit's identifier. Only globally unique ones tell that two paths lead to one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum IdentifierKind {
    /// SCSI VPD page 0x83, association 0, designator type 3 (NAA).
    ScsiNaa,
    /// SCSI VPD page 0x83, association 0, designator type 2 (EUI-64 based).
    ScsiEui64,
    /// SCSI VPD page 0x83, association 0, designator type 8 (SCSI name string).
    ScsiName,
    /// SCSI VPD page 0x83, association 0, designator type 1 (T10 vendor id).
    ScsiT10,
    /// NVMe namespace UUID (NVM Express base specification, namespace identification descriptor 3).
    NvmeUuid,
    /// NVMe namespace globally unique identifier (descriptor 2).
    NvmeNguid,
    /// NVMe IEEE extended unique identifier (descriptor 1).
    NvmeEui64,
    /// NVMe subsystem name with the namespace's number in it (NVM Express base specification 2.0 section 4.5).
    NvmeSubsystem,
    /// File system and inode of a regular file, also when it is behind a loop device.
    File,
    /// Given by the user or by a path of the user's own making.
    Custom,
}

/// One identifier of a logical unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identifier {
    /// What the value is.
    pub kind: IdentifierKind,
    /// The value, as the field writes it.
    pub value: String,
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            IdentifierKind::ScsiNaa => "naa",
            IdentifierKind::ScsiEui64 | IdentifierKind::NvmeEui64 => "eui",
            IdentifierKind::ScsiName => "name",
            IdentifierKind::ScsiT10 => "t10",
            IdentifierKind::NvmeUuid => "uuid",
            IdentifierKind::NvmeNguid => "nguid",
            // Its value says by itself what it is.
            IdentifierKind::NvmeSubsystem => "nvme",
            IdentifierKind::File => "file",
            IdentifierKind::Custom => "custom",
        };
        write!(f, "{kind}.{}", self.value)
    }
}

/// What tells one logical unit from every other, and one way to it from another way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    identifiers: Vec<Identifier>,
    node: Option<String>,
}

/// How two identities compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kinship<'a> {
    /// At least one identifier is common and none conflicts.
    Same,
    /// The two disagree on an identifier of one kind.
    Different(&'a Identifier, &'a Identifier),
    /// Nothing to compare.
    Unknown,
}

impl Identity {
    /// No identifiers: such a path joins a volume only where the caller asserts that it belongs.
    pub const fn none() -> Self {
        Self { identifiers: Vec::new(), node: None }
    }

    /// With one more identifier.
    #[must_use]
    pub fn with(mut self, kind: IdentifierKind, value: impl Into<String>) -> Self {
        let identifier = Identifier { kind, value: value.into() };
        if !self.identifiers.contains(&identifier) {
            self.identifiers.push(identifier);
        }
        self
    }

    /// With the name of this way to the device (a device node's number, an address): the same named twice in one
    /// volume is refused.
    #[must_use]
    pub fn with_node(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }

    /// The same device, whatever the way to it.
    pub(crate) fn without_node(mut self) -> Self {
        self.node = None;
        self
    }

    /// The identifiers.
    pub fn identifiers(&self) -> &[Identifier] {
        &self.identifiers
    }

    /// The name of this way to the device.
    pub fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// Compares identifiers of the same kind. A device may have several of one kind: one in common is enough, and
    /// kinds that only one side has say nothing.
    pub(crate) fn kinship<'a>(&'a self, other: &'a Self) -> Kinship<'a> {
        let mut found = Kinship::Unknown;
        for mine in &self.identifiers {
            let Some(theirs) = other.identifiers.iter().find(|theirs| theirs.kind == mine.kind) else {
                continue;
            };
            if !self.shares(other, mine.kind) {
                return Kinship::Different(mine, theirs);
            }
            found = Kinship::Same;
        }
        found
    }

    fn shares(&self, other: &Self, kind: IdentifierKind) -> bool {
        let mut mine = self.identifiers.iter().filter(|identifier| identifier.kind == kind);
        mine.any(|identifier| other.identifiers.contains(identifier))
    }
}

/// A path's access state: ALUA (SPC-5 section 5.17) and ANA (NVMe base specification 2.0 section 8.1) in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessState {
    /// The best way (active/optimized).
    Optimized,
    /// Works, but not the best way (active/non-optimized).
    NonOptimized,
    /// About to change: I/O waits.
    Transitioning,
    /// Takes no I/O until it is made active (standby).
    Standby,
    /// Takes no I/O (unavailable, inaccessible, offline).
    Inaccessible,
}

impl AccessState {
    /// Whether I/O may be sent.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Optimized | Self::NonOptimized)
    }
}

impl fmt::Display for AccessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Optimized => "optimized",
            Self::NonOptimized => "non-optimized",
            Self::Transitioning => "transitioning",
            Self::Standby => "standby",
            Self::Inaccessible => "inaccessible",
        })
    }
}

/// Name of a cache that several paths share: the backing inode of loop devices, a SCSI logical unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheScope(pub String);

/// Where completed writes may still be volatile.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cache {
    /// Nowhere: a completed write is durable, a flush has nothing to do.
    None,
    /// In one cache behind all paths that name this scope: a flush through any of them covers it.
    Shared(CacheScope),
    /// In a cache that only a flush through this path reaches, or it is not known to be otherwise.
    Private,
}

/// How a path can make sure that nothing sent earlier still takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FenceSupport {
    /// By a proof that the path gives when it is asked ([`Path::fence`](super::Path::fence)).
    Proven,
    /// By the answer to everything that was sent: a proof where nothing lies between that could deliver what it has ended.
    Answered,
    /// By waiting this long after everything that was sent over the connection was handed back.
    Assumed(Duration),
    /// Not at all, and writes of unknown fate are sent again at once, at the user's own risk: an old one can land over newer
    /// data. Linux's dm-multipath and native NVMe multipath do the same.
    Resend,
    /// Not at all: what is unknown waits until the device answers, or until it is
    /// [vouched for](crate::Volume::vouch).
    None,
}

impl fmt::Display for FenceSupport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proven => f.write_str("proven"),
            Self::Answered => f.write_str("proven by its answers"),
            Self::Resend => f.write_str("none (resend at once)"),
            Self::Assumed(quiesce) => write!(f, "assumed after {} ms", quiesce.as_millis()),
            Self::None => f.write_str("none (hold)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naa(value: &str) -> Identity {
        Identity::none().with(IdentifierKind::ScsiNaa, value)
    }

    #[test]
    fn one_identifier_in_common_makes_kin() {
        let both = naa("6001").with(IdentifierKind::ScsiName, "iqn.x");
        assert_eq!(both.kinship(&naa("6001")), Kinship::Same);
        assert_eq!(naa("6001").with(IdentifierKind::ScsiNaa, "6002").kinship(&naa("6002")), Kinship::Same);
    }

    #[test]
    fn a_conflict_of_one_kind_outweighs_agreement_in_another() {
        let a = naa("6001").with(IdentifierKind::ScsiName, "iqn.x");
        let b = naa("6002").with(IdentifierKind::ScsiName, "iqn.x");
        assert!(matches!(a.kinship(&b), Kinship::Different(..)));
        assert!(matches!(b.kinship(&a), Kinship::Different(..)));
    }

    #[test]
    fn nothing_to_compare_is_not_kin() {
        assert_eq!(Identity::none().kinship(&naa("6001")), Kinship::Unknown);
        let name = Identity::none().with(IdentifierKind::ScsiName, "iqn.x");
        assert_eq!(name.kinship(&naa("6001")), Kinship::Unknown);
    }
}
