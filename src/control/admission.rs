//! Whether a path belongs to a volume.

use crate::block::{Geometry, Limits};
use crate::buffer::ALIGNMENT;
use crate::error::Error;
use crate::path::{Description, Identifier, Kinship};

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

/// Checks what a path says of itself: whether any volume could use it.
pub(super) fn sane(name: &str, description: &Description) -> Result<(), Error> {
    let Limits { transfer_bytes, memory_alignment, .. } = description.limits;
    let block_size = description.geometry.block_size();
    let problem = if description.depth == 0 {
        "says that it takes no attempts at all (depth 0): give it a depth of 1 or more".to_owned()
    } else if transfer_bytes < block_size {
        format!("takes {transfer_bytes} bytes in a transfer: it must take a block of {block_size} at least")
    } else if !memory_alignment.is_power_of_two() || memory_alignment > ALIGNMENT {
        format!(
            "needs buffers at multiples of {memory_alignment} bytes: it must be a power of two, {ALIGNMENT} at most"
        )
    } else {
        return Ok(());
    };
    Err(Error::path(name, problem))
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
    let takes = |have: u32, what: &str, need: u32| format!("takes {have} {what}, the volume promised {need}");
    let lower = if theirs.transfer_bytes < mine.transfer_bytes {
        takes(theirs.transfer_bytes, "bytes in a transfer", mine.transfer_bytes)
    } else if theirs.discard_blocks < mine.discard_blocks {
        takes(theirs.discard_blocks.get(), "blocks in a discard", mine.discard_blocks.get())
    } else if theirs.write_zeroes_blocks < mine.write_zeroes_blocks {
        takes(theirs.write_zeroes_blocks.get(), "blocks in a write zeroes", mine.write_zeroes_blocks.get())
    } else {
        let (theirs, mine) = (theirs.memory_alignment, mine.memory_alignment);
        format!("needs buffers at multiples of {theirs} bytes, the volume promised {mine}")
    };
    format!("{lower}: build the volume with this path to lower its limits")
}

/// Checks that two paths lead to one device, by two ways.
pub(super) fn kin(
    name: &str,
    description: &Description,
    other_name: &str,
    (other, node): (&Description, Option<&str>),
    voucher: Voucher,
) -> Result<(), Error> {
    let (mine, theirs) = (&description.identity, &other.identity);
    if mine.node().is_some() && mine.node() == node {
        return Err(Error::path(
            name,
            format!("is the same way to the device as {other_name}: name each path once"),
        ));
    }
    match mine.kinship(theirs) {
        Kinship::Same => Ok(()),
        Kinship::Different(a, b) => Err(Error::path(name, another_device(a, other_name, b))),
        Kinship::Unknown if voucher == Voucher::Caller => Ok(()),
        Kinship::Unknown => Err(Error::path(
            name,
            format!(
                "has no identifier in common with {other_name}: if both lead to one device, say so when adding it (assert_same)"
            ),
        )),
    }
}

fn another_device(mine: &Identifier, other_name: &str, theirs: &Identifier) -> String {
    format!(
        "leads to another device ({mine}) than {other_name} ({theirs}): leave it out, or build a volume of its own for it"
    )
}

/// Checks that a path leads where it led before.
pub(super) fn unchanged(
    name: &str,
    description: &Description,
    before: &Description,
    voucher: Voucher,
) -> Result<(), Error> {
    match description.identity.kinship(&before.identity) {
        Kinship::Same => Ok(()),
        Kinship::Different(now, then) => Err(Error::path(
            name,
            format!("leads to another device now ({now}) than before ({then}): remove it, or mend the way"),
        )),
        Kinship::Unknown if voucher == Voucher::Caller || before.identity.identifiers().is_empty() => Ok(()),
        Kinship::Unknown => {
            Err(Error::path(name, "no longer has any of the identifiers that it had: is it another device?"))
        }
    }
}
