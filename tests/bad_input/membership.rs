//! Paths that do not belong together, or to no volume at all.

use mpio::path::{AccessState, IdentifierKind, Identity};
use mpio::{BlockCount, Error, Geometry, Limits, PathOptions};

use crate::rig::{Pair, Rig, assert_goes, assert_says, builder, rank, refusal};
use crate::script::{Answer, BLOCK, BLOCKS, Medium, Place, Script, TRANSFER, medium};
use crate::scripted::Scripted;

/// Builds a volume over a path that does well and `other`.
fn built_with(options: PathOptions, other: &Script, medium: &Medium) -> Result<mpio::Volume, Error> {
    let first = Script::new("lun", "first", medium);
    builder().path(Scripted::new("first", &first)).path_with(options, Scripted::new("other", other)).build()
}

/// The same refusal from building with the path and from adding it, after which the rest goes on.
fn refused(options: PathOptions, change: impl Fn(Script) -> Script, says: &[&str]) {
    let medium = medium();
    let other = change(Script::new("lun", "other", &medium));
    assert_says(&refusal(built_with(options, &other, &medium)), says);
    added(options, change, Some(says));
}

/// Adds a path to a volume that works; the refusal that is expected, if one is.
fn added(options: PathOptions, change: impl Fn(Script) -> Script, says: Option<&[&str]>) {
    let pair = Pair::new();
    let other = change(Script::new("lun", "other", &pair.bad.state().medium));
    let result = pair.rig.volume.add_path_with(options, Scripted::new("other", &other));
    match says {
        Some(says) => assert_says(&refusal(result), says),
        None => drop(result.unwrap()),
    }
    pair.finish();
}

fn identified(script: Script, identity: &Identity) -> Script {
    script.describe(|description| description.identity = identity.clone())
}

fn limited(script: Script, limits: Limits) -> Script {
    script.describe(|description| description.limits = limits)
}

#[test]
fn a_volume_needs_a_path() {
    assert_eq!(refusal(builder().build()), "a volume needs at least one path");
}

#[test]
fn the_same_way_named_twice_is_refused() {
    let same = Identity::none().with(IdentifierKind::Custom, "lun").with_node("b");
    let pair = Pair::new();
    let other = identified(Script::new("lun", "b", &medium()), &same);
    let text = refusal(pair.rig.volume.add_path(Scripted::new("again", &other)));
    assert_says(&text, &["again: is the same way to the device as good", "name each path once"]);
    pair.finish();
    let medium = medium();
    let twice = Script::new("lun", "first", &medium);
    assert_says(&refusal(built_with(PathOptions::new(), &twice, &medium)), &["other: is the same way"]);
}

#[test]
fn without_an_identifier_in_common_a_path_needs_the_caller_s_word() {
    for identity in [Identity::none(), Identity::none().with(IdentifierKind::NvmeUuid, "0123")] {
        let change = |script| identified(script, &identity);
        let says = ["other: has no identifier in common with", "assert_same"];
        refused(PathOptions::new(), change, &says);
        added(PathOptions::new().assert_same(), change, None);
    }
}

#[test]
fn a_conflicting_identifier_outweighs_the_caller_s_word() {
    let another = Identity::none().with(IdentifierKind::Custom, "another");
    let says = ["other: leads to another device (custom.another) than", "(custom.lun): leave it out"];
    for options in [PathOptions::new(), PathOptions::new().assert_same()] {
        refused(options, |script| identified(script, &another), &says);
    }
}

#[test]
fn another_block_size_is_refused() {
    let change = |script: Script| {
        script.describe(|description| description.geometry = Geometry::new(4096, BLOCKS).unwrap())
    };
    refused(
        PathOptions::new(),
        change,
        &["other: has blocks of 4096 bytes, the volume has 512", "same block size"],
    );
}

#[test]
fn a_smaller_size_is_refused_and_a_larger_one_taken() {
    let sized = |blocks| {
        move |script: Script| {
            script.describe(|description| description.geometry = Geometry::new(BLOCK, blocks).unwrap())
        }
    };
    refused(
        PathOptions::new(),
        sized(BLOCKS - 1),
        &["other: has 63 blocks, the volume has 64", "at least as large"],
    );
    added(PathOptions::new(), sized(BLOCKS + 1), None);
}

#[test]
fn building_takes_the_lowest_limits_and_adding_refuses_lower_ones() {
    let blocks = BlockCount::new(16);
    let of =
        |bytes| Limits::new(bytes).with_discard(blocks).with_write_zeroes(blocks).with_memory_alignment(512);
    let (full, eight) = (of(TRANSFER), BlockCount::new(8));
    let lower = [
        (of(TRANSFER / 2), "takes 4096 bytes in a transfer, the volume promised 8192"),
        (full.with_discard(eight), "takes 8 blocks in a discard, the volume promised 16"),
        (full.with_write_zeroes(eight), "takes 8 blocks in a write zeroes, the volume promised 16"),
        (
            full.with_memory_alignment(4096),
            "needs buffers at multiples of 4096 bytes, the volume promised 512",
        ),
    ];
    for (limits, says) in lower {
        let medium = medium();
        let other = limited(Script::new("lun", "other", &medium), limits);
        let first = limited(Script::new("lun", "first", &medium), full);
        let mut rig = Rig::new(builder().path(Scripted::new("first", &first)));
        let text = refusal(rig.volume.add_path(Scripted::new("other", &other)));
        assert_says(&text, &["other", says, "build the volume with this path to lower its limits"]);
        rig.serves();
        rig.finish(&[&first]);
        let both = builder().path(Scripted::new("first", &first)).path(Scripted::new("other", &other));
        assert_eq!(both.build().unwrap().limits(), limits);
    }
}

#[test]
fn a_path_that_no_volume_could_use_is_refused() {
    refused(
        PathOptions::new(),
        |script| script.describe(|description| description.depth = 0),
        &["other: says that it takes no attempts at all (depth 0)", "give it a depth of 1 or more"],
    );
    for bytes in [0, BLOCK - 1] {
        let says = format!("other: takes {bytes} bytes in a transfer: it must take a block of 512");
        refused(PathOptions::new(), |script| limited(script, Limits::new(bytes)), &[&says]);
    }
    for alignment in [0, 3, 8192, u32::MAX] {
        let limits = Limits::new(TRANSFER).with_memory_alignment(alignment);
        let says = format!("other: needs buffers at multiples of {alignment} bytes");
        refused(
            PathOptions::new(),
            |script| limited(script, limits),
            &[&says, "a power of two, 4096 at most"],
        );
    }
    refused(
        PathOptions::new().weight(0),
        |script| script,
        &["other: a weight of 0 would never be used", "1 or more"],
    );
}

#[test]
fn a_volume_has_64_paths_and_no_more() {
    let medium = medium();
    let ways = |count: usize| -> Vec<Script> {
        (0..count).map(|way| Script::new("lun", &way.to_string(), &medium)).collect()
    };
    let over = |scripts: &[Script]| {
        scripts.iter().fold(builder(), |builder, script| builder.path(Scripted::new("one of many", script)))
    };
    let too_many = ways(65);
    assert_says(&refusal(over(&too_many).build()), &["paths: 65 are more than the 64"]);
    assert!(too_many.iter().all(|script| script.calls(Place::Connect) == 0), "none was even tried");
    let scripts = ways(64);
    let mut rig = Rig::new(over(&scripts));
    let last = Script::new("lun", "last", &medium);
    let text = refusal(rig.volume.add_path(Scripted::new("the last", &last)));
    assert_says(&text, &["the last: a volume has at most 64 paths", "remove one first"]);
    rig.serves();
    rig.finish(&scripts.iter().collect::<Vec<_>>());
}

#[test]
fn extreme_weights_ranks_and_depths_are_taken() {
    for depth in [1, u32::MAX] {
        let medium = medium();
        let script = Script::new("lun", "a", &medium).describe(|description| description.depth = depth);
        let options = PathOptions::new().weight(u32::MAX).rank(u32::MAX);
        let mut rig = Rig::new(builder().path_with(options, Scripted::new("only", &script)));
        rig.serves();
        rig.finish(&[&script]);
    }
}

#[test]
fn a_volume_whose_last_path_was_removed_still_knows_its_device() {
    let medium = medium();
    let script = Script::new("lun", "a", &medium);
    let mut rig = Rig::single(&script);
    rig.serves();
    let only = rig.volume.status().paths[0].id;
    let settled = rig.volume.remove_path(only).unwrap();
    rig.until("removal", |_| settled.is_settled().then_some(()));
    let waiting = rig.start_read(0, 1);
    assert_says(&rig.failure(waiting).to_string(), &["no path left"]);
    let another = Script::new("another", "b", &medium);
    let text = refusal(rig.volume.add_path(Scripted::new("another", &another)));
    assert_says(&text, &["another: leads to another device (custom.another) than only (custom.lun)"]);
    let again = Script::new("lun", "a", &medium);
    rig.volume.add_path(Scripted::new("again", &again)).unwrap();
    rig.serves();
    assert_goes(&another);
    rig.finish(&[&script, &again]);
}

/// What becomes of a path between two connections.
type Change = fn(Script) -> Script;

#[test]
fn a_path_that_connects_anew_to_something_else_stays_down() {
    let medium = medium();
    let changes: [(Change, &str); 6] = [
        (
            |script| identified(script, &Identity::none().with(IdentifierKind::Custom, "x")),
            "leads to another device now (custom.x) than before (custom.lun)",
        ),
        (|script| identified(script, &Identity::none()), "no longer has any of the identifiers that it had"),
        (
            |script| script.describe(|description| description.geometry = Geometry::new(BLOCK, 8).unwrap()),
            "has 8 blocks",
        ),
        (
            |script| {
                script.describe(|description| description.geometry = Geometry::new(1024, BLOCKS).unwrap())
            },
            "has blocks of 1024",
        ),
        (|script| limited(script, Limits::new(BLOCK)), "takes 512 bytes in a transfer"),
        (|script| script.describe(|description| description.depth = 0), "depth 0"),
    ];
    for (change, says) in changes {
        let script = Script::new("lun", "a", &medium);
        let good = script.state().description.clone();
        let mut rig = Rig::single(&script);
        rig.serves();
        change(script.clone());
        script.answer(Answer::Fail(mpio::path::Fault::NotSent(mpio::Cause::Disconnected)));
        let read = rig.start_read(0, 1);
        assert_says(&rig.failure(read).to_string(), &["no path left"]);
        rig.event(&["only", "down", says]);
        script.clone().describe(|description| *description = good);
        rig.recovers();
        rig.serves();
        rig.finish(&[&script]);
    }
}

#[test]
fn a_device_that_shrinks_takes_its_path_down_until_it_grows_again() {
    let mut pair = Pair::new();
    pair.bad.answer(Answer::Fail(mpio::path::Fault::Refused(AccessState::Standby)));
    pair.rig.serves();
    pair.rig.until("a probe", |_| (pair.bad.calls(Place::Probe) > 0).then_some(()));
    let sized = |script: &Script, blocks| {
        let geometry = Geometry::new(BLOCK, blocks).unwrap();
        script.clone().describe(|description| description.geometry = geometry);
        script.resize(blocks);
    };
    sized(&pair.bad, BLOCKS - 1);
    assert_says(
        &pair.rig.event(&["bad", "down: has 63 blocks left"]),
        &["the volume has 64", "give the device its size back"],
    );
    // That it connects does not bring it back.
    let tries = pair.bad.calls(Place::Connect);
    pair.rig.until("more tries", |_| (pair.bad.calls(Place::Connect) > tries + 1).then_some(()));
    assert!(!pair.rig.was_told("bad): up again"));
    pair.rig.serves();
    sized(&pair.bad, BLOCKS + 5);
    pair.rig.event(&["bad", "now has 69 blocks"]);
    pair.rig.event(&["bad", "up again"]);
    assert_eq!(pair.rig.volume.geometry().capacity(), BLOCKS);
    pair.finish();
}

#[test]
fn an_access_state_that_changes_unasked_is_told_and_heeded() {
    let mut pair = Pair::new();
    pair.bad.answer(Answer::Fail(mpio::path::Fault::Refused(AccessState::Standby)));
    pair.rig.serves();
    pair.rig.until("a probe", |_| (pair.bad.calls(Place::Probe) > 0).then_some(()));
    pair.bad.access(AccessState::Inaccessible);
    pair.rig.event(&["bad", "access state is inaccessible"]);
    pair.rig.serves();
    pair.bad.access(AccessState::Optimized);
    pair.finish();
}

#[test]
fn every_path_in_standby_leaves_requests_to_the_no_path_rule() {
    let script = Script::new("lun", "a", &medium());
    script.answer_all(Answer::Fail(mpio::path::Fault::Refused(AccessState::Standby)));
    let mut rig = Rig::new(builder().path_with(rank(0), Scripted::new("only", &script)));
    let write = rig.start_write(0, 1, 1);
    assert_says(&rig.failure(write).to_string(), &["no path left after"]);
    script.answer_all(Answer::Serve);
    rig.recovers();
    rig.serves();
    rig.finish(&[&script]);
}
