//! Files and devices that cannot be paths, and claims that must be free again afterwards.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mpio::path::BlockDevice;
use mpio::{NoPath, Volume, VolumeBuilder};

use crate::meddling::Meddling;
use crate::rig::{BOUND, Rig, assert_says, builder, rank, refusal};
use crate::script::{Act, Place, Script, medium};
use crate::testing_support::{LoopDevice, TempDir, require_loops, run, skip};

const SIZE: u64 = 1 << 20;

/// A path that does not wait for what another has claimed.
fn device(path: impl Into<PathBuf>) -> BlockDevice {
    BlockDevice::new(path).claim_timeout(Duration::ZERO).block_size(512)
}

fn node(path: &Path) -> BlockDevice {
    BlockDevice::new(path).claim_timeout(Duration::ZERO)
}

/// A volume that does not hold it against a real disk that it is slow.
fn steady() -> VolumeBuilder {
    builder().suspect_after(BOUND).late_after(BOUND).no_path(NoPath::hold(BOUND))
}

/// A path that waits for a claim that is about to be free.
fn patient(path: impl Into<PathBuf>) -> BlockDevice {
    device(path).claim_timeout(BOUND)
}

fn build(device: BlockDevice) -> Result<Volume, mpio::Error> {
    builder().path(device).build()
}

/// Asserts that nothing here has the device or file open, and that it can be claimed. With patience: a program that
/// another test starts has everything open for a moment.
#[track_caller]
fn assert_free(path: &Path) {
    let found = std::fs::metadata(path).unwrap();
    let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let open = entries.filter_map(|entry| std::fs::metadata(entry.path()).ok());
    let same = |open: std::fs::Metadata| match found.rdev() {
        0 => (open.dev(), open.ino()) == (found.dev(), found.ino()),
        device => open.rdev() == device,
    };
    assert!(!open.into_iter().any(same), "{} is still open", path.display());
    let volume = build(BlockDevice::new(path).claim_timeout(BOUND)).unwrap();
    assert!(volume.close(BOUND).wait(BOUND));
}

/// Refused on building, and on adding to a volume that goes on.
#[track_caller]
fn refused(path: impl Fn() -> BlockDevice, says: &[&str]) {
    assert_says(&refusal(build(path())), says);
    let script = Script::new("lun", "a", &medium());
    let mut rig = Rig::single(&script);
    assert_says(&refusal(rig.volume.add_path_with(rank(1).assert_same(), path())), says);
    rig.serves();
    rig.finish(&[&script]);
}

#[test]
fn what_is_no_device_is_refused_with_what_to_do() {
    let dir = TempDir::new();
    let missing = dir.path().join("missing");
    refused(|| device(&missing), &["missing", "No such file or directory"]);
    refused(|| device(dir.path()), &["is a directory; name a block device or a regular file"]);
    refused(|| device("/dev/null"), &["/dev/null: is a character device; name a block device"]);
    let empty = dir.file("empty", 0);
    refused(|| patient(&empty), &["empty: has no bytes; give it a size first"]);
    let tiny = dir.file("tiny", 100);
    refused(|| patient(&tiny), &["capacity 0", "at least one block"]);
}

#[test]
fn settings_of_a_device_that_make_no_sense_are_refused() {
    let dir = TempDir::new();
    let file = dir.file("disk", SIZE);
    refused(|| patient(&file).depth(0), &["depth: 0 is not within 1 to 65536"]);
    refused(|| patient(&file).depth(u32::MAX), &["depth: 4294967295 is not within 1 to 65536"]);
    for size in [0, 1000, 1 << 17] {
        refused(|| patient(&file).block_size(size), &["must be a power of two from 512 to 65536"]);
    }
    let _free = build(patient(&file)).unwrap();
}

#[test]
fn one_file_named_twice_is_refused_and_then_free() {
    let dir = TempDir::new();
    let file = dir.file("disk", SIZE);
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let text = refusal(builder().path(device(&file)).path(device(&link)).build());
    assert_says(&text, &["is claimed by this process already", "name each path once"]);
    let mut rig = Rig::new(steady().path(patient(&file)));
    let text = refusal(rig.volume.add_path(device(&link)));
    assert_says(&text, &["link: is claimed by this process already", "within 0 ms"]);
    rig.serves();
    rig.finish(&[]);
}

#[test]
fn a_failure_of_another_path_leaves_the_claim_free() {
    let dir = TempDir::new();
    let file = dir.file("disk", SIZE);
    refusal(builder().path(device(&file)).path(device(dir.path())).build());
    drop(build(patient(&file)).unwrap());
}

#[test]
fn a_path_that_is_refused_leaves_its_claim_free() {
    let dir = TempDir::new();
    let (file, other) = (dir.file("disk", SIZE), dir.file("other", SIZE));
    let mut rig = Rig::new(steady().path(device(&file)));
    let text = refusal(rig.volume.add_path(device(&other)));
    assert_says(&text, &["other: leads to another device (file."]);
    let second = build(patient(&other)).unwrap();
    rig.serves();
    rig.finish(&[]);
    assert!(second.close(BOUND).wait(BOUND));
    assert_free(&file);
    assert_free(&other);
}

#[test]
fn a_removed_path_leaves_its_claim_free_when_that_has_settled() {
    let dir = TempDir::new();
    let file = dir.file("disk", SIZE);
    let mut rig = Rig::new(steady().path(device(&file)));
    rig.serves();
    for _ in 0..8 {
        let only = rig.volume.status().paths[0].id;
        let settled = rig.volume.remove_path(only).unwrap();
        rig.until("removal", |_| settled.is_settled().then_some(()));
        assert_free(&file);
        rig.volume.add_path(patient(&file)).unwrap();
        rig.serves();
    }
    rig.finish(&[]);
    assert_free(&file);
}

#[test]
fn dropping_everything_with_requests_out_leaves_the_claim_free() {
    let dir = TempDir::new();
    let file = dir.file("disk", SIZE);
    for _ in 0..8 {
        let mut rig = Rig::new(steady().path(patient(&file)));
        for block in 0..16 {
            rig.start_write(block, 1, 1);
        }
        rig.queue.poll(mpio::Tick::now(), &mut Vec::new());
        let Rig { volume, queue, .. } = rig;
        drop(volume);
        drop(queue);
    }
    drop(build(patient(&file)).unwrap());
}

#[test]
fn a_panic_at_an_event_is_told_and_the_claim_stays_with_what_may_still_be_under_way() {
    let dir = TempDir::new();
    let file = dir.file("disk", SIZE);
    let script = Script::new("lun", "a", &medium());
    let path = Meddling { inner: device(&file), script: script.clone() };
    let mut rig = Rig::new(steady().path(path));
    rig.serves();
    if script.calls(Place::Event) == 0 {
        return skip("io_uring is not available here");
    }
    script.once(Place::Event, Act::Panic);
    let read = rig.start_read(0, 1);
    rig.end(read).result.unwrap();
    rig.event(&["disk", "down: its code panicked"]);
    rig.serves();
    rig.finish(&[]);
    assert_says(&refusal(build(device(&file))), &["is claimed by this process already"]);
}

#[test]
fn a_file_that_shrinks_takes_its_path_down_until_it_has_its_size_again() {
    let dir = TempDir::new();
    let file = dir.file("disk", SIZE);
    let mut rig = Rig::new(builder().suspect_after(BOUND).late_after(BOUND).path(device(&file)));
    rig.serves();
    let resize = |bytes| std::fs::File::options().write(true).open(&file).unwrap().set_len(bytes).unwrap();
    resize(SIZE / 4);
    let beyond = SIZE / 512 - 8;
    let read = rig.start_read(beyond, 8);
    let error = rig.failure(read).to_string();
    assert!(error.contains("no path left") || error.contains("failed"), "{error}");
    rig.event(&["disk", "down", "512 blocks", "2048"]);
    resize(SIZE);
    rig.recovers();
    rig.write(beyond, 8, 7);
    assert_eq!(rig.read(beyond, 8), 7);
    rig.finish(&[]);
}

#[test]
fn two_loop_devices_over_one_file_are_two_paths_and_one_named_twice_is_not() {
    let Some(loops) = require_loops(2, SIZE) else { return };
    let (first, second) = (loops.device(0), loops.device(1));
    let twice = builder().path(node(first)).path(node(first));
    assert_says(&refusal(twice.build()), &["is claimed by this process already", "name each path once"]);
    let mut rig = Rig::new(steady().path(node(first).claim_timeout(BOUND)).path(node(second)));
    rig.serves();
    let text = refusal(rig.volume.add_path(node(second)));
    assert_says(&text, &["is claimed by this process already"]);
    rig.serves();
    rig.finish(&[]);
    assert_free(first);
    assert_free(second);
}

#[test]
fn a_loop_device_that_another_has_claimed_is_refused_until_it_is_free() {
    use std::os::unix::fs::OpenOptionsExt;
    let Some(loops) = require_loops(1, SIZE) else { return };
    let mut exclusive = std::fs::File::options();
    exclusive.read(true).custom_flags(libc::O_EXCL);
    let holder = exclusive.open(loops.device(0)).unwrap();
    let text = refusal(build(node(loops.device(0))));
    assert_says(&text, &["is claimed by this process already", "within 0 ms"]);
    drop(holder);
    let volume = build(node(loops.device(0)).claim_timeout(BOUND)).unwrap();
    assert!(exclusive.open(loops.device(0)).is_err(), "the volume has the claim");
    assert!(volume.close(BOUND).wait(BOUND));
    assert_free(loops.device(0));
}

#[test]
fn a_mounted_loop_device_is_refused_at_once() {
    let Some(loops) = require_loops(1, 16 << 20) else { return };
    let dir = TempDir::new();
    let (device, place) = (loops.device(0).display().to_string(), dir.path().display().to_string());
    if !run("mkfs.ext4", &["-q", &device]) || !run("mount", &[&device, &place]) {
        return skip("mkfs.ext4 and mount are needed, and root");
    }
    let text = refusal(build(node(loops.device(0)).claim_timeout(BOUND)));
    run("umount", &[&place]);
    assert_says(&text, &["is mounted at", &place, "release it first, or name another device"]);
    assert_free(loops.device(0));
}

#[test]
fn a_read_only_device_or_file_system_is_refused() {
    let dir = TempDir::in_memory();
    let file = dir.file("disk", SIZE);
    match LoopDevice::attach(&file, &["--read-only"]) {
        Ok(device) => assert_says(&refusal(build(node(device.node()))), &["is read-only; make it writable"]),
        Err(reason) => return skip(&format!("loop devices cannot be attached here: {reason}")),
    }
    let place = dir.path().join("mount");
    std::fs::create_dir(&place).unwrap();
    let place = place.display().to_string();
    if !run("mount", &["-t", "tmpfs", "none", &place]) {
        return skip("mounting needs root");
    }
    let file = dir.file("mount/disk", SIZE);
    assert!(run("mount", &["-o", "remount,ro", &place]));
    let text = refusal(build(device(file)));
    run("umount", &[&place]);
    assert_says(&text, &["is read-only; make it writable"]);
}

#[test]
fn the_block_size_of_a_device_is_its_own() {
    let Some(loops) = require_loops(1, SIZE) else { return };
    let text = refusal(build(node(loops.device(0)).block_size(65_536)));
    assert_says(&text, &["has blocks of", "leave the block size of a device to it"]);
    drop(build(node(loops.device(0)).claim_timeout(BOUND)).unwrap());
}
