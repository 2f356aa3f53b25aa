//! Whether a path belongs to a volume.

use crate::block::{Geometry, Limits};
use crate::error::Error;
use crate::path::{Description, Kinship};

/// What a volume promised when it was built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    pub(crate) geometry: Geometry,
    pub(crate) limits: Limits,
}

/// Who vouches that a path leads to the volume's device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Voucher {
    /// An identifier in common.
    #[default]
    Identity,
    /// The caller, where there is no identifier to compare.
    Caller,
}

/// Checks a path's description against the volume's promise.
pub(super) fn fits(name: &str, description: &Description, promise: &Promise) -> Result<(), Error> {
    let (mine, theirs) = (promise.geometry, description.geometry);
    if mine.block_size() != theirs.block_size() {
        return Err(Error::path(
            name,
            format!(
                "has blocks of {} bytes, the volume has {}: all paths need the same block size",
                theirs.block_size(),
                mine.block_size()
            ),
        ));
    }
    if theirs.capacity() < mine.capacity() {
        return Err(Error::path(
            name,
            format!(
                "has {} blocks, the volume has {}: a path must be at least as large (is it another device?)",
                theirs.capacity(),
                mine.capacity()
            ),
        ));
    }
    if !description.limits.covers(promise.limits) {
        return Err(Error::path(name, lower_limit(&description.limits, &promise.limits)));
    }
    Ok(())
}

fn lower_limit(theirs: &Limits, mine: &Limits) -> String {
    let (what, have, need) = if theirs.transfer_bytes < mine.transfer_bytes {
        ("bytes in a transfer", theirs.transfer_bytes, mine.transfer_bytes)
    } else if theirs.discard_blocks < mine.discard_blocks {
        ("blocks in a discard", theirs.discard_blocks.get(), mine.discard_blocks.get())
    } else if theirs.write_zeroes_blocks < mine.write_zeroes_blocks {
        ("blocks in a write zeroes", theirs.write_zeroes_blocks.get(), mine.write_zeroes_blocks.get())
    } else {
        ("bytes of buffer alignment at most", theirs.memory_alignment, mine.memory_alignment)
    };
    format!(
        "takes {have} {what}, the volume promised {need}: build the volume with this path to lower its limits"
    )
}

/// Checks that two paths lead to one device, by two ways.
pub(super) fn kin(
    name: &str,
    description: &Description,
    other_name: &str,
    other: &Description,
    voucher: Voucher,
) -> Result<(), Error> {
    let (mine, theirs) = (&description.identity, &other.identity);
    if mine.node().is_some() && mine.node() == theirs.node() {
        return Err(Error::path(
            name,
            format!("is the same way to the device as {other_name}: name each path once"),
        ));
    }
    match mine.kinship(theirs) {
        Kinship::Same => Ok(()),
        Kinship::Different(a, b) => {
            Err(Error::path(name, format!("leads to another device ({a}) than {other_name} ({b})")))
        }
        Kinship::Unknown if voucher == Voucher::Caller => Ok(()),
        Kinship::Unknown => Err(Error::path(
            name,
            format!(
                "has no identifier in common with {other_name}: if both lead to one device, say so when adding it (assert_same)"
            ),
        )),
    }
}
