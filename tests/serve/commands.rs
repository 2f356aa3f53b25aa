//! What the commands of the control socket do to a device under I/O.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::Value;

use crate::rig::{Serve, can_serve, in_background, until};
use crate::testing_support::{LoopDevice, Loops, require_loops, run};

const BYTES: u64 = 4 << 20;
const BLOCK: usize = 4096;

/// A server over `count` loop devices to one file, quick to suspect a path.
fn serve(count: usize) -> Option<(Serve, Loops)> {
    serve_by("round-robin", count)
}

/// The same by another policy. One that is set later is heeded from some moment on.
fn serve_by(policy: &str, count: usize) -> Option<(Serve, Loops)> {
    if !can_serve() {
        return None;
    }
    let loops = require_loops(count, BYTES)?;
    let mut arguments = vec!["--timeout", "100ms", "--policy", policy];
    let nodes: Vec<&str> = (0..count).map(|index| loops.device(index).to_str().unwrap()).collect();
    arguments.extend(nodes.iter().flat_map(|node| ["--path", node]));
    Some((Serve::start(&arguments), loops))
}

/// Writes a few blocks, down to the volume, and reads them back.
fn exercise(device: &Path, pattern: u8) {
    let file = File::options().read(true).write(true).open(device).unwrap();
    let data = vec![pattern; 16 * BLOCK];
    for round in 0..8 {
        file.write_all_at(&data, round * data.len() as u64).unwrap();
        file.sync_all().unwrap();
    }
    // Past the page cache, which a second opening does not share once this one is closed.
    drop(file);
    assert!(fs::read(device).unwrap()[..data.len()] == data, "what was written is read");
}

fn health(serve: &Serve, path: u64) -> Value {
    serve.path(path)["health"].clone()
}

#[test]
fn stats_and_paths_tell_what_there_is() {
    let Some((serve, loops)) = serve(2) else { return };
    exercise(serve.device(), 0xa5);
    let stats = serve.must("stats");
    assert_eq!(stats["device"], serve.device_name());
    assert_eq!(stats["policy"], "round-robin");
    assert_eq!(stats["blocks"].as_u64().unwrap() * stats["block_size"].as_u64().unwrap(), BYTES);
    assert_eq!(
        (&stats["no_path"], &stats["timeout"], &stats["ghosts"]),
        (&"hold:30s".into(), &"100ms".into(), &0.into())
    );
    assert!(stats["deadline"].is_null() && stats["uptime_ms"].is_u64());
    for number in 0..2 {
        // It may have been suspect, if this machine was slow.
        until("a path is not up", || health(&serve, number) == "up");
        let path = serve.path(number);
        assert_eq!(path["name"], loops.device(usize::try_from(number).unwrap()).to_str().unwrap());
        assert_eq!(
            (&path["health"], &path["access"], &path["incarnation"]),
            (&"up".into(), &"optimized".into(), &1.into())
        );
        assert!(path["completed"].as_u64() > Some(0) && path["bytes"].as_u64() > Some(0), "{path}");
        assert!(path["latency_us"]["p99"].as_u64() >= path["latency_us"]["p50"].as_u64(), "{path}");
        assert_eq!(path["failed"]["unknown"], 0);
    }
}

#[test]
fn a_path_that_fails_is_gone_without_a_trace_for_the_user_and_comes_back() {
    let Some((serve, _loops)) = serve(2) else { return };
    serve.must("fail 0");
    assert_eq!(serve.path(0)["faults"], serde_json::json!(["failed"]));
    exercise(serve.device(), 1);
    until("path 0 never goes down", || health(&serve, 0) == "down");
    serve.must("restore 0");
    until("path 0 never comes back", || health(&serve, 0) == "up");
    assert_eq!(serve.path(0)["faults"], serde_json::json!([]));
    exercise(serve.device(), 2);
}

#[test]
fn lost_writes_are_fenced_and_done_elsewhere() {
    let Some((serve, loops)) = serve_by("failover", 2) else { return };
    // What comes next is a write, and goes to the first path.
    serve.must("stall 0 lost fence=10ms");
    exercise(serve.device(), 3);
    serve.wait_for("fenced (proven)");
    assert_eq!(serve.path(0)["fence"]["grade"], "proven");
    until("path 1 is not up", || health(&serve, 1) == "up");
    serve.must("restore 0");
    until("path 0 never comes back", || health(&serve, 0) == "up");
    assert!(fs::read(loops.file()).unwrap()[..BLOCK].iter().all(|&byte| byte == 3));
}

#[test]
fn a_write_without_a_fence_waits_until_its_path_is_restored() {
    let Some((serve, _loops)) = serve_by("failover", 2) else { return };
    serve.must("stall 0 late");
    let device = serve.device().to_owned();
    let done = in_background(move || exercise(&device, 4));
    until("path 0 never goes down", || health(&serve, 0) == "down");
    assert!(done.try_recv().is_err(), "the write waits");
    serve.must("restore 0");
    done.recv().unwrap();
}

#[test]
fn errors_and_slowness_are_survived() {
    let Some((serve, _loops)) = serve(2) else { return };
    for fault in [
        "error 0 0.2 before",
        "error 0 20% after",
        "error 1 200000ppm busy",
        "error 0 10% before fence=5ms",
        "error 0 10% after fence=5ms",
        "slow 1 2ms",
    ] {
        serve.must(fault);
        exercise(serve.device(), 5);
        serve.must("restore 0");
        serve.must("restore 1");
    }
    let stats = serve.must("stats");
    assert!(stats["all_paths"]["failed"]["unknown"].as_u64() > Some(0), "{stats}");
}

#[test]
fn a_medium_error_reaches_the_user() {
    let Some((serve, _loops)) = serve(1) else { return };
    serve.must("error 0 1 medium");
    assert_eq!(serve.path(0)["faults"][0], "error 100% medium");
    assert_eq!(serve.path(0)["transport"], "loop");
    let file = File::open(serve.device()).unwrap();
    // Of the second half: nothing else has a reason to have it cached.
    assert!(file.read_at(&mut [0; BLOCK], BYTES / 2).is_err());
    serve.must("error 0 0 medium");
    file.read_at(&mut [0; BLOCK], BYTES / 2).unwrap();
}

#[test]
fn paths_are_added_and_removed_and_numbered_for_good() {
    let Some((serve, loops)) = serve(1) else { return };
    let extra = LoopDevice::attach(loops.file(), &[]).unwrap();
    let add = format!("add {}", extra.node().display());
    assert_eq!(serve.must(&add)["path"], 1);
    let twice = serve.control(&add)["error"].to_string();
    assert!(twice.contains("is the same way to the device as"), "{twice}");
    exercise(serve.device(), 6);
    serve.must("remove 0");
    until("path 0 stays", || serve.path(0).is_null());
    assert_eq!(serve.control("fail 0")["error"], "there is no path 0; there is 1");
    exercise(serve.device(), 7);
    let back = format!("add {}", loops.device(0).display());
    assert_eq!(serve.must(&back)["path"], 2);
    exercise(serve.device(), 8);
    assert_eq!(serve.must("paths")["paths"].as_array().unwrap().len(), 2);
}

#[test]
fn the_policy_is_changed_under_way() {
    let Some((serve, _loops)) = serve(2) else { return };
    for name in ["failover", "least-queue", "adaptive-latency", "round-robin"] {
        assert_eq!(serve.must(&format!("policy {name}"))["policy"], name);
        exercise(serve.device(), 9);
        assert_eq!(serve.must("stats")["policy"], name);
    }
    assert_eq!(serve.must("policy adaptive")["policy"], "adaptive-latency");
}

#[test]
fn a_volume_whose_paths_have_grown_grows_while_it_is_used() {
    let Some((serve, loops)) = serve(2) else { return };
    let user = File::options().read(true).write(true).open(serve.device()).unwrap();
    File::options().write(true).open(loops.file()).unwrap().set_len(2 * BYTES).unwrap();
    assert_eq!(serve.must("grow")["bytes"], BYTES, "no path has");
    let grown = |index: usize| run("losetup", &["--set-capacity", loops.device(index).to_str().unwrap()]);
    assert!(grown(1));
    let refused = serve.control("grow")["error"].to_string();
    assert!(
        refused.contains(loops.device(0).to_str().unwrap()) && refused.contains("still has"),
        "{refused}"
    );
    assert!(grown(0));
    assert_eq!(serve.must("grow")["bytes"], 2 * BYTES);
    assert_eq!(serve.must("stats")["blocks"].as_u64().unwrap() * 512, 2 * BYTES);
    user.write_all_at(&[7; BLOCK], 2 * BYTES - BLOCK as u64).unwrap();
    user.sync_all().unwrap();
    let mut found = [0; BLOCK];
    File::open(loops.file()).unwrap().read_exact_at(&mut found, 2 * BYTES - BLOCK as u64).unwrap();
    assert_eq!(found, [7; BLOCK]);
    drop(user);
    serve.terminate().with(0);
}
