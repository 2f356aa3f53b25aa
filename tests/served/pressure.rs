//! The device of a server is written back to, and swapped to, while memory is short.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::mount::Mount;
use crate::rig::Serve;
use crate::testing_support::{LoopDevice, TempDir, run, skip};
use crate::tools::{Running, can_run, mentions};

const LIMIT: usize = 48 << 20;
/// What a process of the group keeps in memory, and in its swap.
const HELD: usize = LIMIT * 3;
/// How a child is told what it is to do in the group.
const ROLE: &str = "MPIO_TEST_HOLDS_MEMORY";

/// A control group whose processes have little memory; removed when dropped.
struct Group(PathBuf);

impl Group {
    /// `None`, with the reason said, where there are no such groups. Both kinds are known: the unified hierarchy, and
    /// the memory controller's own.
    fn new(name: &str) -> Option<Self> {
        let name = format!("mpio-test-{name}-{}", std::process::id());
        for (root, limit) in
            [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")]
        {
            let path = PathBuf::from(root).join(&name);
            if fs::create_dir(&path).is_err() {
                continue;
            }
            let group = Self(path);
            // Elsewhere than in a hierarchy it is a directory like any other.
            let is_group = group.0.join(limit).exists();
            if is_group && fs::write(group.0.join(limit), LIMIT.to_string()).is_ok() {
                return Some(group);
            }
        }
        skip("memory cannot be limited here: there is no control group for it");
        None
    }

    /// Runs a command line of the shell in it.
    fn run(&self, name: &'static str, line: &str, role: &str) -> Running {
        let enter = format!("echo $$ > {}/cgroup.procs && exec {line}", self.0.display());
        Running::start(name, Command::new("sh").args(["-c", &enter]).env(ROLE, role))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_dirty_page_cache_is_written_back_while_memory_is_short() {
    if !can_run() {
        return;
    }
    let Some(group) = Group::new("cache") else { return };
    // In memory, which is quicker: nothing is read here that is just being written.
    let backing = TempDir::in_memory();
    let file = backing.file("image", 384 << 20);
    let ways = [(); 2].map(|()| LoopDevice::attach(&file, &[]).unwrap());
    let serve = Serve::start(&ways.each_ref().map(|way| format!("--path={}", way.node().display())));
    let dir = TempDir::new();
    let mount = Mount::new(serve.device(), &dir.path().join("mount")).unwrap();
    let place = mount.path().display();
    // Written through the cache and through a mapping: together several times what the group may have in memory.
    let files =
        format!("--directory={place} --bs=64k --verify=crc32c --verify_fatal=1 --verify_state_save=0");
    let mapping = LIMIT / 4 * 5;
    let buffered = group.run(
        "buffered",
        &format!("fio --name=buffered --rw=write --ioengine=psync --size={HELD} {files}"),
        "",
    );
    let mapped = group.run(
        "mapped",
        &format!("fio --name=mapped --rw=randwrite --ioengine=mmap --size={mapping} {files}"),
        "",
    );
    buffered.succeed();
    mapped.succeed();
    drop(mount);
    assert_eq!(serve.terminate().code, Some(0));
}

/// Not where others need the machine: whatever of it the kernel swaps out meanwhile depends on this device.
#[test]
#[ignore = "swaps the whole machine's memory to the device: .ci/long runs it"]
fn memory_is_swapped_to_the_device_and_back() {
    if !can_run() {
        return;
    }
    let Some(group) = Group::new("swap") else { return };
    // On a disk: what is in memory could itself be swapped, to this very device, which would wait for itself.
    let dir = TempDir::new();
    let file = dir.file("image", 256 << 20);
    let ways = [(); 2].map(|()| LoopDevice::attach(&file, &[]).unwrap());
    let serve = Serve::start(&ways.each_ref().map(|way| format!("--path={}", way.node().display())));
    let Some(swap) = Swap::on(serve.device_name()) else { return };
    let test = std::env::current_exe().unwrap();
    let line = format!("{} --exact pressure::what_the_child_does --nocapture", test.display());
    let said = group.run("holder", &line, "yes").succeed();
    assert!(said.contains("all is as it was written"), "{said}");
    let written = serve.must("stats")["all_paths"]["bytes"].as_u64().unwrap();
    assert!(
        written > u64::try_from(HELD - LIMIT).unwrap(),
        "{written} bytes went to the swap: it was not needed"
    );
    assert_eq!(mentions("/proc/swaps", serve.device()).len(), 1);
    drop(swap);
    assert_eq!(serve.terminate().code, Some(0));
}

/// A device in use as swap, until dropped.
struct Swap(String);

impl Swap {
    fn on(device: &str) -> Option<Self> {
        assert!(run("mkswap", &[device]), "mkswap {device} failed");
        if run("swapon", &["--priority=100", device]) {
            return Some(Self(device.to_owned()));
        }
        skip("the kernel takes no swap");
        None
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        assert!(run("swapoff", &[&self.0]), "swapoff {} failed", self.0);
    }
}

/// Not a test of its own: what the process in the group does.
#[test]
fn what_the_child_does() {
    if std::env::var(ROLE).as_deref() != Ok("yes") {
        return;
    }
    let word = |round: usize, index: usize| (index * 4096 + round).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut held = vec![0_usize; HELD / size_of::<usize>()];
    for round in 0..3 {
        for (index, held) in held.iter_mut().enumerate() {
            *held = word(round, index);
        }
        let wrong = held.iter().enumerate().position(|(index, &held)| held != word(round, index));
        assert_eq!(wrong, None, "memory came back from the swap as something else");
    }
    println!("all is as it was written");
}
