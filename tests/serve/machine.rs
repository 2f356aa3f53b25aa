//! Machines that lack something.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use crate::rig::{Serve, can_serve, program};
use crate::testing_support::{TempDir, run, skip};

/// A user that owns nothing.
const NOBODY: u32 = 65_534;

/// It could not start, says why, and names no device.
#[track_caller]
fn refused(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(output.stdout.is_empty(), "{output:?}");
    for word in words {
        assert!(said.contains(word), "it does not mention {word:?}: {said}");
    }
}

#[test]
fn without_root_it_says_so() {
    if !can_serve() {
        return;
    }
    let dir = TempDir::in_memory();
    let file = dir.file("file", 1 << 20);
    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    // Where anybody may run it. Another process makes it: one that a test starts meanwhile would have it open for writing.
    let copy = dir.path().join("serve");
    assert!(run("cp", &[program().to_str().unwrap(), copy.to_str().unwrap()]));
    let output = Command::new(copy).arg("--path").arg(file).uid(NOBODY).gid(NOBODY).output().unwrap();
    refused(&output, &["not root"]);
}

/// Runs `serve` over a file with a `/dev` of its own, which has but these character devices.
fn with_devices(devices: &[(&str, u32, u32)]) -> Option<Output> {
    if !can_serve() {
        return None;
    }
    if !run("unshare", &["--mount", "true"]) {
        skip("there is no unshare, or it is not allowed");
        return None;
    }
    let dir = TempDir::new();
    let file = dir.file("file", 1 << 20);
    let nodes = devices.iter().map(|(name, major, minor)| format!("mknod /dev/{name} c {major} {minor} && "));
    let nodes: String = nodes.collect();
    let script = format!("mount -t tmpfs none /dev && {nodes}exec \"$0\" --path \"$1\"");
    let unshared = ["--mount", "--propagation", "private", "sh", "-c", &script];
    let called =
        Command::new("unshare").args(unshared).arg(program()).arg(file).stdin(Stdio::null()).output();
    Some(called.unwrap())
}

#[test]
fn without_fuse_it_says_so() {
    let Some(output) = with_devices(&[("loop-control", 10, 237)]) else { return };
    refused(&output, &["/dev/fuse"]);
}

#[test]
fn without_loop_devices_it_says_so() {
    let Some(output) = with_devices(&[("fuse", 10, 229)]) else { return };
    refused(&output, &["/dev/loop-control"]);
}

#[test]
fn with_sysfs_masked_it_serves_and_cannot_list() {
    if !can_serve() {
        return;
    }
    if !run("unshare", &["--mount", "true"]) {
        return skip("there is no unshare, or it is not allowed");
    }
    // As containers do it.
    let mut masked = Command::new("unshare");
    let script = "mount -t tmpfs none /sys && exec \"$0\" \"$@\"";
    masked.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(program());
    let dir = TempDir::new();
    let file = dir.file("file", 1 << 20);
    let socket = dir.path().join("control");
    let serve = Serve::launch_by(masked, &["--path", file.to_str().unwrap()], &socket).serving();
    let device = fs::File::options().write(true).open(serve.device()).unwrap();
    device.write_all_at(&[7; 4096], 4096).unwrap();
    device.sync_all().unwrap();
    assert_eq!(fs::read(&file).unwrap()[4096..8192], [7; 4096]);
    drop(device);
    let over = serve.terminate();
    over.with(0);
    assert!(over.log.contains("there is no /sys/dev/block"), "{}", over.log);

    let mut masked = Command::new("unshare");
    masked.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(program()).arg("--list");
    let listed = masked.output().unwrap();
    let text = String::from_utf8_lossy(&listed.stdout);
    assert!(listed.status.success() && text.contains("mount sysfs"), "{listed:?}");
}
