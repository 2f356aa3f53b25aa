//! The logical units of this host, as text.

use std::fmt::Write;
use std::path::Path;

use mpio::discover::Unit;

use crate::figures;

/// Each unit with its ways below it.
pub(crate) fn units(units: &[Unit]) -> String {
    let mut text = String::new();
    for unit in units {
        let _ = writeln!(text, "{} {}", unit.wwid, figures::bytes(unit.bytes));
        for path in &unit.paths {
            let node = path.node.display().to_string();
            let access = path.access.to_string();
            let place = path.place.as_deref().unwrap_or_default();
            let used = path.used_by.as_deref().map_or(String::new(), |user| format!(", {user}"));
            let _ = writeln!(
                text,
                "  {node:<16} {:<8} {access:<14} {}{used} [{place}]",
                path.number, path.transport
            );
        }
    }
    if text.is_empty() && !Path::new("/sys/class/block").is_dir() {
        text.push_str(
            "there is no /sys/class/block, which lists block devices: mount sysfs, or have the container see it; or name \
             devices with --path\n",
        );
    } else if text.is_empty() {
        text.push_str(
            "no SCSI disk or NVMe namespace with an identifier was found; name devices with --path\n",
        );
    }
    text
}
