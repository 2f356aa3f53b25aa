//! Access states: ALUA of SCSI disks, ANA of NVMe namespaces.

use std::fs::{self, File};
use std::path::Path as FilePath;
use std::time::Duration;

use super::fault::Link;
use super::node::{self, Node};
use super::{nvme, scsi, vpd83};
use crate::path::AccessState;

/// What the kernel goes by. `None` where it follows none.
pub(super) fn of_kernel(node: &Node) -> Option<AccessState> {
    // The names of `sdev_access_states` in drivers/scsi/scsi_sysfs.c, and of `nvme_ana_state_names` in
    // drivers/nvme/host/multipath.c.
    let word = node.of_disk("device/access_state").or_else(|| node.of_disk("ana_state"))?;
    Some(match word.as_str() {
        "active/optimized" | "optimized" => AccessState::Optimized,
        "active/non-optimized" | "lba-dependent" | "non-optimized" => AccessState::NonOptimized,
        "transitioning" | "change" => AccessState::Transitioning,
        "standby" => AccessState::Standby,
        "unavailable" | "offline" | "inaccessible" | "persistent-loss" => AccessState::Inaccessible,
        _ => return None,
    })
}

/// Whether the disk's target port group is preferred, as the kernel last heard.
pub(super) fn is_preferred(node: &Node) -> bool {
    node.of_disk("device/preferred_path").is_some_and(|text| text == "1")
}

/// The state for which the kernel sends nothing to a SCSI disk that it can reach (`alua_prep_fn` in
/// `drivers/scsi/device_handler/scsi_dh_alua.c`). What it has sent before and could not end is not over while the disk is *running*: a
/// command is given up only when it was aborted, or with the whole disk (`scsi_eh_ready_devs` in `drivers/scsi/scsi_error.c`).
pub(super) fn refusal(node: &Node) -> Option<AccessState> {
    refused(node, of_kernel(node)?)
}

/// The same for a `state` that the array has told.
pub(super) fn refused(node: &Node, state: AccessState) -> Option<AccessState> {
    // Of a SCSI disk, of an NVMe controller.
    let is_running = node.of_disk("device/state").is_some_and(|state| state == "running" || state == "live");
    let refuses = match state {
        AccessState::Standby | AccessState::Inaccessible => true,
        // The SCSI layer sends again what a disk in transition has refused; the NVMe driver gives up after a few tries.
        AccessState::Transitioning => node.of_disk("nsid").is_some(),
        AccessState::Optimized | AccessState::NonOptimized => false,
    };
    (refuses && is_running).then_some(state)
}

/// Whether the array may refuse I/O for a disk's access state.
pub(super) fn has_states(node: &Node, disk: &File) -> bool {
    of_kernel(node).is_some() || of_array(node, disk).is_some()
}

/// The age up to which the failure of a write that was refused says no more than that. The NVMe driver sends again what it had sent
/// when a fabric's connection was lost, `reconnect_delay` after that at the earliest (`nvme_tcp_reconnect_or_remove` in
/// `drivers/nvme/host/tcp.c`): of an older write it is the second try that was refused.
pub(super) fn refused_at_once(node: &Node, link: Link) -> Duration {
    if node.of_disk("nsid").is_none() || link == Link::Local {
        return Duration::MAX;
    }
    let number = |text: Option<String>| text.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    // Without retries what was lost ends at once.
    let retries = number(node::read(FilePath::new("/sys/module/nvme_core/parameters/max_retries")));
    Duration::from_secs(if retries > 0 { number(node.of_disk("device/reconnect_delay")) } else { 0 })
}

/// The state at this moment: what the array says when it is asked. Where the kernel has not heard yet that it is active again,
/// it is told, and what the kernel says counts: it sends nothing before.
pub(super) fn now(node: &Node, disk: &File) -> AccessState {
    match (of_array(node, disk), of_kernel(node)) {
        (Some(array), Some(kernel)) if array.is_active() && !kernel.is_active() => {
            // The first has it hear of a change that the disk has yet to tell, the second of one that it has told. Whatever comes of
            // them shows the next time.
            let _ = scsi::test_unit_ready(disk);
            let _ = fs::write(node.disk().join("device/rescan"), "1");
            of_kernel(node).unwrap_or(kernel)
        }
        (array, kernel) => array.or(kernel).unwrap_or(AccessState::Optimized),
    }
}

fn of_array(node: &Node, disk: &File) -> Option<AccessState> {
    if let Some(nsid) = node.of_disk("nsid") {
        // Without its own multipath the kernel does not look at the log.
        return match node.of_disk("ana_state") {
            Some(_) => None,
            None => nvme::access(disk, nsid.parse().ok()?).ok()?,
        };
    }
    if !has_groups(&fs::read(node.disk().join("device/inquiry")).ok()?) {
        return None;
    }
    let page = fs::read(node.disk().join("device/vpd_pg83")).ok()?;
    scsi::access(disk, vpd83::target_port_group(&page)?).ok()?
}

/// Whether a disk says in its standard inquiry data that it has target port groups (TPGS, SPC-5 section 6.7.2).
fn has_groups(inquiry: &[u8]) -> bool {
    inquiry.get(5).is_some_and(|byte| byte & 0x30 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing_support::TempDir;

    #[test]
    fn the_kernel_s_words_are_known() {
        let dir = TempDir::new();
        let node = Node::at(dir.path().join("sda"));
        assert_eq!(of_kernel(&node), None);
        for (word, state) in [
            ("active/optimized\n", Some(AccessState::Optimized)),
            ("active/non-optimized\n", Some(AccessState::NonOptimized)),
            ("lba-dependent\n", Some(AccessState::NonOptimized)),
            ("standby\n", Some(AccessState::Standby)),
            ("unavailable\n", Some(AccessState::Inaccessible)),
            ("offline\n", Some(AccessState::Inaccessible)),
            ("transitioning\n", Some(AccessState::Transitioning)),
            ("(unknown)\n", None),
        ] {
            dir.write("sda/device/access_state", word);
            assert_eq!(of_kernel(&node), state, "{word}");
        }
        dir.write("nvme0c0n1/ana_state", "inaccessible\n");
        assert_eq!(of_kernel(&Node::at(dir.path().join("nvme0c0n1"))), Some(AccessState::Inaccessible));
    }

    #[test]
    fn what_the_kernel_cannot_reach_was_not_refused() {
        let dir = TempDir::new();
        let node = Node::at(dir.path().join("sda"));
        dir.write("sda/device/access_state", "standby\n");
        for (state, refusal) in
            [("running", Some(AccessState::Standby)), ("transport-offline", None), ("offline", None)]
        {
            dir.write("sda/device/state", state);
            assert_eq!(super::refusal(&node), refusal, "{state}");
        }
        dir.write("sda/device/state", "running");
        for sent in ["transitioning", "active/optimized", "active/non-optimized"] {
            dir.write("sda/device/access_state", sent);
            assert_eq!(super::refusal(&node), None, "{sent}");
        }
    }

    #[test]
    fn what_nvme_over_a_fabric_has_refused_is_known_for_as_long_as_it_cannot_have_connected_anew() {
        let dir = TempDir::new();
        let node = Node::at(dir.path().join("nvme0n1"));
        assert_eq!(refused_at_once(&node, Link::Fabric), Duration::MAX, "no NVMe");
        dir.write("nvme0n1/nsid", "1\n");
        assert_eq!(refused_at_once(&node, Link::Local), Duration::MAX);
        assert_eq!(refused_at_once(&node, Link::Fabric), Duration::ZERO);
        dir.write("nvme0n1/device/state", "live\n");
        for state in [AccessState::Inaccessible, AccessState::Transitioning] {
            assert_eq!(refused(&node, state), Some(state));
        }
        assert_eq!(refused(&node, AccessState::NonOptimized), None);
        dir.write("nvme0n1/device/state", "connecting\n");
        assert_eq!(refused(&node, AccessState::Inaccessible), None);
    }

    #[test]
    fn a_disk_without_groups_is_not_asked_for_them() {
        assert!(!has_groups(&[0, 0, 6, 2, 31, 0x80]) && !has_groups(&[0, 0]));
        assert!(has_groups(&[0, 0, 6, 2, 31, 0x30]));
    }
}
