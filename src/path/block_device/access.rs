//! Access states: ALUA of SCSI disks, ANA of NVMe namespaces.

use std::fs::{self, File};

use super::node::Node;
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
    let is_running = node.of_disk("device/state").is_some_and(|state| state == "running");
    let refuses = matches!(state, AccessState::Standby | AccessState::Inaccessible);
    (refuses && is_running).then_some(state)
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
    fn a_disk_without_groups_is_not_asked_for_them() {
        assert!(!has_groups(&[0, 0, 6, 2, 31, 0x80]) && !has_groups(&[0, 0]));
        assert!(has_groups(&[0, 0, 6, 2, 31, 0x30]));
    }
}
