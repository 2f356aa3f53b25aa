//! One of two paths misbehaves: what the users of the device see of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rig::{Serve, until};
use crate::testing_support::{Loops, TempDir, require_loops};
use crate::tools::{Running, can_run};

const BLOCK: usize = 4096;

/// A volume over two ways, of which the first is used while it works.
fn start(options: &[&str]) -> Option<(Loops, Serve)> {
    if !can_run() {
        return None;
    }
    let loops = require_loops(2, 64 << 20)?;
    let ways = (0..2).map(|index| format!("--path={}", loops.device(index).display()));
    let arguments: Vec<String> = ways.chain(options.iter().map(|&option| option.to_owned())).collect();
    let serve = Serve::start(&arguments);
    Some((loops, serve))
}

/// A process that writes one block, past the page cache.
fn write(device: &Path, content: &Path) -> Running {
    let (from, to) = (format!("if={}", content.display()), format!("of={}", device.display()));
    let block = format!("bs={BLOCK}");
    let how = ["count=1", "seek=5", "oflag=direct", "conv=notrunc", "status=none"];
    Running::start("dd", Command::new("dd").args([&from, &to, &block]).args(how))
}

/// The block that it writes.
fn read(device: &Path) -> Vec<u8> {
    let from = format!("if={}", device.display());
    let block = format!("bs={BLOCK}");
    let how = ["count=1", "skip=5", "iflag=direct", "status=none"];
    Command::new("dd").args([&from, &block]).args(how).output().unwrap().stdout
}

fn content(dir: &TempDir, byte: u8) -> PathBuf {
    dir.write(&format!("{byte}"), vec![byte; BLOCK])
}

#[test]
fn of_a_write_that_a_path_has_swallowed_and_its_rewrite_the_rewrite_stays() {
    for sharing in ["shared", "exclusive"] {
        for fence in ["", " fence=300ms"] {
            let options = ["--queues=2", "--policy=failover", "--timeout=200ms", "--sharing", sharing];
            let Some((_loops, serve)) = start(&options) else { return };
            let dir = TempDir::new();
            serve.must(&format!("stall 0 lost{fence}"));
            let mut older = write(serve.device(), &content(&dir, 1));
            // Its path is found out, or it is done the other way.
            until("the path is not found out", || older.is_over() || serve.path(0)["health"] != "up");
            let newer = write(serve.device(), &content(&dir, 2));
            if fence.is_empty() {
                // Nothing but the path's answer shows that the first cannot land any more.
                serve.must("restore 0");
            }
            older.succeed();
            newer.succeed();
            serve.must("restore 0");
            until("the path does not come back", || serve.path(0)["health"] == "up");
            let found = read(serve.device());
            assert_eq!(found, fs::read(content(&dir, 2)).unwrap(), "{sharing}{fence}");
            serve.terminate().with(0);
        }
    }
}

#[test]
fn readers_large_and_small_go_on_beside_a_silent_path() {
    for kind in ["late", "lost"] {
        let Some((_loops, serve)) = start(&["--queues=2", "--timeout=1s"]) else { return };
        serve.must(&format!("stall 0 {kind}"));
        let device = format!("--filename={}", serve.device_name());
        let readers = Running::start(
            "fio",
            Command::new("timeout").args([
                "100",
                "fio",
                "--rw=randread",
                "--direct=1",
                "--ioengine=psync",
                &device,
                "--name=large",
                "--bs=512k",
                "--numjobs=40",
                "--io_size=8m",
                "--name=small",
                "--bs=4k",
                "--numjobs=1",
                "--io_size=1m",
            ]),
        );
        readers.succeed();
        serve.must("restore 0");
        serve.terminate().with(0);
    }
}
