//! Command lines that cannot be served.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Output, Stdio};
use std::{fs, str};

use crate::rig::{Serve, in_background, program};
use crate::testing_support::{LoopDevice, TempDir, require_loops};

const USAGE: i32 = 2;
const CANNOT_START: i32 = 3;

fn serve(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// It ends with this code, says this on standard error, and nothing on standard output.
#[track_caller]
fn refused(arguments: &[&str], code: i32, words: &[&str]) {
    let output = serve(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?} names a device: {output:?}");
    for word in words {
        assert!(said.contains(word), "{arguments:?} does not mention {word:?}: {said}");
    }
}

#[test]
fn options_that_make_no_sense_are_refused_with_what_would() {
    let file = ["--path", "/dev/null"];
    let table: &[(&[&str], &[&str])] = &[
        (&[], &["no path", "--path"]),
        (&["--path"], &["--path", "needs a value"]),
        (&["--path", ""], &["--path", "empty"]),
        (&["--path="], &["--path", "empty"]),
        (&["/dev/sda"], &["/dev/sda", "--path"]),
        (&["--paths", "x"], &["--paths", "no such option"]),
        (&["--"], &["no such option"]),
        (&["-x"], &["-x", "no such option"]),
        (&["--policy", "fastest"], &["fastest", "failover", "round-robin", "least-queue", "adaptive"]),
        (&["--policy="], &["failover"]),
        (&["--policy", "failover", "--policy", "failover"], &["--policy", "twice"]),
        (&["--frontend", "ublk"], &["ublk", "there is fuse"]),
        (&["--queues", "0"], &["--queues", "1 to 64"]),
        (&["--queues", "65"], &["--queues", "1 to 64"]),
        (&["--queues", "-1"], &["--queues", "1 to 64"]),
        (&["--queues", "99999999999999999999"], &["--queues"]),
        (&["--hand-off", "post"], &["post", "direct", "lane"]),
        (&["--queue-depth", "many"], &["--queue-depth", "1 to 16384"]),
        (&["--timeout", "5"], &["--timeout", "5s"]),
        (&["--timeout", "0s"], &["--timeout", "1ms"]),
        (&["--timeout", "-5s"], &["--timeout"]),
        (&["--timeout", "1.5s"], &["--timeout", "whole number"]),
        (&["--timeout", "s"], &["--timeout"]),
        (&["--timeout", "5 s"], &["--timeout"]),
        (&["--timeout", "5sec"], &["--timeout"]),
        (&["--timeout", "99999999999999999999s"], &["--timeout"]),
        (&["--timeout", "400d"], &["--timeout", "a year"]),
        (&["--timeout", "18446744073709551615h"], &["--timeout", "a year"]),
        (&["--timeout", "none"], &["--timeout"]),
        (&["--deadline", "0s"], &["--deadline", "none"]),
        (&["--deadline", "never"], &["--deadline"]),
        (&["--claim-timeout", "long"], &["--claim-timeout"]),
        (&["--no-path", "hold"], &["--no-path", "hold:30s"]),
        (&["--no-path", "hold:"], &["--no-path"]),
        (&["--no-path", "hold:30"], &["--no-path"]),
        (&["--no-path", "fail:30s"], &["--no-path"]),
        (&["--no-path", "wait:30s"], &["--no-path"]),
        (&["--assert-same=yes"], &["--assert-same", "no value"]),
    ];
    for (arguments, words) in table {
        let lacks_path = words.contains(&"no path") || words.contains(&"--path");
        let path: &[&str] = if lacks_path { &[] } else { &file };
        refused(&[arguments, path].concat(), USAGE, words);
    }
}

#[test]
fn a_value_that_is_no_text_is_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let output =
        Command::new(program()).arg("--policy").arg(OsStr::from_bytes(b"\xff\xfe")).output().unwrap();
    assert_eq!(output.status.code(), Some(USAGE));
    let output = Command::new(program()).arg("--path").arg(OsStr::from_bytes(b"/\xff\xfe")).output().unwrap();
    assert_eq!(output.status.code(), Some(CANNOT_START), "a name need not be text");
}

#[test]
fn help_names_every_option_and_every_exit_code() {
    let output = serve(&["--help"]);
    let help = str::from_utf8(&output.stdout).unwrap();
    assert!(output.status.success());
    let options = "--path --assert-same --claim-timeout --policy --queues --hand-off --queue-depth --no-path --timeout --deadline \
                   --frontend --device --control";
    for word in options.split_whitespace().chain(["Exit code: 0", "1 serving", "2 wrong", "3 it", "4 it"]) {
        let flat = help.replace('\n', " ");
        assert!(flat.contains(word), "help does not mention {word}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 100), "help fits a terminal");
}

#[test]
fn paths_that_cannot_be_served_are_refused() {
    let dir = TempDir::new();
    let name = |file: &str| dir.path().join(file).display().to_string();
    dir.file("empty", 0);
    dir.file("file", 1 << 20);
    dir.file("other", 1 << 20);
    dir.file("larger", 2 << 20);
    std::os::unix::fs::symlink(name("file"), name("link")).unwrap();
    let table: &[(&[&str], &[&str])] = &[
        (&["/nonexistent/device"], &["/nonexistent/device", "No such file"]),
        (&["/dev/null"], &["/dev/null", "character device"]),
        (&["/dev"], &["/dev", "directory"]),
        (&[&name("empty")], &["empty", "size"]),
        (&[&name("file"), &name("file")], &["same way", "once"]),
        (&[&name("file"), &name("link")], &["same way", "once"]),
        (&[&name("file"), &name("other")], &["another device"]),
        (&[&name("file"), &name("larger")], &["another device"]),
    ];
    for (paths, words) in table {
        let arguments: Vec<&str> = paths.iter().flat_map(|path| ["--path", path]).collect();
        refused(&arguments, CANNOT_START, words);
    }
}

#[test]
fn a_claim_that_is_taken_is_waited_for_only_as_long_as_told() {
    let dir = TempDir::new();
    let file = dir.file("file", 1 << 20);
    let lock = fs::File::open(&file).unwrap();
    lock.lock().unwrap();
    let path = file.to_str().unwrap();
    refused(&["--path", path, "--claim-timeout", "50ms"], CANNOT_START, &["claimed", "50 ms"]);
}

#[test]
fn a_device_that_is_read_only_is_refused_at_once() {
    if require_loops(1, 1 << 20).is_none() {
        return;
    }
    let dir = TempDir::in_memory();
    let device = LoopDevice::attach(&dir.file("file", 1 << 20), &["--read-only"]).unwrap();
    let node = device.node().to_str().unwrap();
    refused(&["--path", node], CANNOT_START, &[node, "read-only"]);
}

#[test]
fn a_control_socket_that_cannot_be_is_refused_before_any_path_is_touched() {
    let dir = TempDir::new();
    dir.write("file", "kept");
    let name = |file: &str| dir.path().join(file).display().to_string();
    let long = name(&"x".repeat(120));
    let table: &[(&str, &[&str])] = &[
        (&long, &["bytes", "107", "shorter"]),
        ("/nonexistent/control", &["no directory /nonexistent"]),
        (&name("file"), &["no socket"]),
        (&name("file/control"), &["no directory"]),
        (dir.path().to_str().unwrap(), &["no socket"]),
    ];
    for (socket, words) in table {
        refused(&["--path", "/nonexistent", "--control", socket], CANNOT_START, words);
    }
    assert_eq!(fs::read(name("file")).unwrap(), b"kept");
}

#[test]
fn a_socket_is_taken_over_from_a_dead_server_alone() {
    let dir = TempDir::new();
    let name = |file: &str| dir.path().join(file).display().to_string();
    let (socket, path) = (name("live"), ["--path", "/nonexistent", "--claim-timeout", "50ms"]);
    let listener = UnixListener::bind(&socket).unwrap();
    // A server that is dying answers nobody: it is waited for.
    refused(&[&path[..], &["--control", &socket]].concat(), CANNOT_START, &["silent"]);
    // Whoever greets is answered, however late, and those that gave up too, which are still in its backlog.
    let answering = in_background(move || {
        for stream in listener.incoming() {
            let (mut stream, mut said) = (stream.unwrap(), [0; 5]);
            if stream.read_exact(&mut said).is_ok() && said != *b"help\n" {
                break;
            }
            let _ = stream.write_all(b"{}\n");
        }
    });
    refused(&["--path", "/nonexistent", "--control", &socket], CANNOT_START, &["another server"]);
    UnixStream::connect(&socket).unwrap().write_all(b"over\n").unwrap();
    answering.recv().unwrap();
    let live = socket;
    // Its file is left, and replaced.
    refused(&["--path", "/nonexistent", "--control", &live], CANNOT_START, &["No such file"]);
    assert!(!fs::exists(live).unwrap(), "the socket is removed at the end");
}

#[test]
fn a_signal_ends_it_while_it_waits_for_a_path() {
    let dir = TempDir::new();
    let file = dir.file("file", 1 << 20);
    let lock = fs::File::open(&file).unwrap();
    lock.lock().unwrap();
    let path = file.to_str().unwrap();
    let mut serve = Serve::launch(&["--path", path]);
    serve.wait_for("waiting for");
    serve.wait_for(&format!("open in process {}", std::process::id()));
    let socket = fs::metadata(serve.socket()).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, Permissions::from_mode(0o600).mode());
    assert!(serve.is_running());
    let stats = serve.control("stats");
    assert!(stats["ok"] == false && stats["error"].as_str().unwrap().contains(path), "{stats}");
    let over = serve.terminate();
    over.with(0);
    assert!(
        over.log.contains("ends before it has begun to serve, while connecting its paths"),
        "{}",
        over.log
    );
    let serve = Serve::launch(&["--path", path]);
    serve.wait_for("waiting for");
    serve.must("quit");
    serve.over().with(0);
}
