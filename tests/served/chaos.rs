//! A file system in use while paths fail.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::attachment::Attachment;
use crate::mischief::Mischief;
use crate::mount::Mount;
use crate::rig::Serve;
use crate::testing_support::{Loops, TempDir, require_loops, run};
use crate::tools::{can_run, fio, kernel_errors, kernel_mark, mentions, verify};

const BYTES: u64 = 192 << 20;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn a_file_system_does_not_notice_what_befalls_the_paths() {
    survive("direct");
}

#[test]
fn nor_does_one_behind_dispatchers() {
    survive("lane");
}

fn survive(hand_off: &str) {
    if !can_run() {
        return;
    }
    let Some(loops) = require_loops(4, BYTES) else { return };
    let seed = number("MPIO_SOAK_SEED").unwrap_or(20);
    let seconds = number("MPIO_SOAK_SECONDS").unwrap_or(8);
    println!("MPIO_SOAK_SEED={seed} (timing differs from run to run all the same)");
    live_through(&loops, hand_off, seconds, seed);
}

fn live_through(loops: &Loops, hand_off: &str, seconds: u64, seed: u64) {
    let ways: Vec<&Path> = (0..4).map(|index| loops.device(index)).collect();
    let mut arguments: Vec<String> = ways.iter().map(|way| format!("--path={}", way.display())).collect();
    arguments.extend(
        ["--queues=2", "--policy=least-queue", "--timeout=150ms", "--no-path=hold:60s"].map(str::to_owned),
    );
    arguments.push(format!("--hand-off={hand_off}"));
    let mark = kernel_mark();
    let serve = Serve::start(&arguments);
    let device = serve.device().to_owned();
    let attachment = Attachment::of(&device);
    let directory = TempDir::new();
    let mount = Mount::new(&device, &directory.path().join("mount")).unwrap();

    let fio = fio(mount.path(), seconds);
    let length = format!("--seconds={seconds}");
    let verified = mount.path().join("verified");
    // So little that each block is written again before a lost write lands.
    File::create(&verified).unwrap().set_len(2 << 20).unwrap();
    let verify =
        verify(&verified, &["--size=2M", "--threads=8", "--patience=0s", "--flush-every=300ms", &length]);
    let mut mischief = Mischief::new(&serve, &ways, seed);
    mischief.go_on_until(Instant::now() + Duration::from_secs(seconds));
    let recent = mischief.recent().to_owned();
    println!("{}", verify.succeed());
    fio.succeed();

    drop(mount);
    assert_eq!(mentions("/proc/mounts", &device), [] as [&str; 0], "still mounted");
    let check = ["-f", "-n", device.to_str().unwrap()];
    assert!(run("fsck.ext4", &check), "the file system is damaged; seed {seed}, {recent:#?}");
    assert_eq!(kernel_errors(&device, &mark), [] as [&str; 0], "seed {seed}, {recent:#?}");
    let over = serve.terminate();
    assert_eq!(over.code, Some(0), "{over:#?}");
    assert!(!attachment.stands(), "{} is still attached", device.display());
}
