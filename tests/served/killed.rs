//! The server is killed under load, and started again.

use std::path::{Path, PathBuf};

use crate::mount::Mount;
use crate::rig::{Serve, until};
use crate::testing_support::{LoopDevice, TempDir, require_loops, skip};
use crate::tools::{Running, can_run, verify};

const BYTES: u64 = 48 << 20;

/// A name for the device that outlives its servers: `verify` opens it again.
fn device_name(test: u32) -> String {
    format!("/dev/loop{}", 300 + test + std::process::id() % 4000 * 4)
}

struct Stage {
    arguments: Vec<String>,
    socket: PathBuf,
    _dir: TempDir,
}

impl Stage {
    fn new(ways: &[&Path], device: &str) -> Self {
        let dir = TempDir::new();
        let mut arguments: Vec<String> = ways.iter().map(|way| format!("--path={}", way.display())).collect();
        arguments.extend([format!("--device={device}"), "--timeout=200ms".to_owned()]);
        Self { arguments, socket: dir.path().join("control"), _dir: dir }
    }

    fn start(&self) -> Serve {
        Serve::start_at(&self.arguments, &self.socket)
    }

    /// With a control socket of its own: that of a server which is dying would be waited for before any path.
    fn launch_beside(&self) -> Serve {
        Serve::launch(&self.arguments)
    }
}

/// Until it is told to end.
fn load(device: &str) -> Running {
    verify(
        Path::new(device),
        &["--size=24M", "--threads=8", "--seconds=600", "--patience=100s", "--flush-every=100ms"],
    )
}

/// Ends the load when it has gone on for a while, over the device as it is now; its verdict.
fn conclude(serve: &Serve, mut load: Running) -> String {
    wait_for_load(serve, &mut load);
    load.interrupt();
    load.succeed()
}

/// Whether a process has `node` open.
fn has_open(process: u32, node: &Path) -> bool {
    let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let mut targets = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.any(|target| target == node)
}

/// How often the paths were flushed so far: the sixteenth field of `stat` (Documentation/block/stat.rst).
fn flushes(ways: &[&Path]) -> u64 {
    let of = |way: &&Path| {
        let stat = Path::new("/sys/block").join(way.file_name().unwrap()).join("stat");
        let text = std::fs::read_to_string(stat).unwrap();
        text.split_whitespace().nth(15).expect("Linux 5.5 counts flushes").parse::<u64>().unwrap()
    };
    ways.iter().map(of).sum()
}

/// How many flushes succeeded, as `verify` tells it.
fn told_flushes(verdict: &str) -> u64 {
    let words: Vec<&str> = verdict.split_whitespace().collect();
    let at = words.iter().position(|word| word.starts_with("flushes")).expect("it tells of flushes");
    words[at - 1].parse().unwrap()
}

/// Waits until the load has written so much more.
fn wait_for_load(serve: &Serve, load: &mut Running) {
    let enough = completed(serve) + 2000;
    until("the load does not get on", || completed(serve) >= enough || load.is_over());
    assert!(!load.is_over(), "the load has ended early");
}

fn completed(serve: &Serve) -> u64 {
    serve.must("stats")["all_paths"]["completed"].as_u64().unwrap()
}

#[test]
fn what_was_flushed_before_a_kill_is_there_after_it() {
    if !can_run() {
        return;
    }
    let Some(loops) = require_loops(2, BYTES) else { return };
    let device = device_name(0);
    let ways = [loops.device(0), loops.device(1)];
    let stage = Stage::new(&ways, &device);
    let mut serve = stage.start();
    let before = flushes(&ways);
    let mut load = load(&device);
    for _ in 0..3 {
        wait_for_load(&serve, &mut load);
        let over = serve.kill();
        assert_eq!(over.code, None, "{over:#?}");
        serve = stage.start();
    }
    let verdict = conclude(&serve, load);
    assert!(verdict.contains("outages"), "{verdict}");
    println!("{verdict}");
    // What a killed server has written is in this machine's memory all the same: that it was flushed, only the paths tell.
    // The kernel makes one of several that come together, and the volume sends none where nothing was written.
    let (asked, done) = (told_flushes(&verdict), flushes(&ways) - before);
    assert!(asked > 0 && done >= asked / 8, "{asked} flushes, of which {done} came to the paths");
    assert_eq!(serve.terminate().code, Some(0));
}

#[test]
fn the_writes_of_a_predecessor_that_was_killed_while_its_paths_hung_are_waited_out() {
    if !can_run() {
        return;
    }
    let dir = match TempDir::on_disk() {
        Ok(dir) => dir,
        Err(reason) => return skip(&reason),
    };
    let below = LoopDevice::attach(&dir.file("image", BYTES * 2), &[]).unwrap();
    let mount = Mount::new(below.node(), &dir.path().join("mount")).unwrap();
    let file = mount.path().join("storage");
    std::fs::write(&file, vec![0; usize::try_from(BYTES).unwrap()]).unwrap();
    let ways = [(); 2].map(|()| LoopDevice::attach(&file, &[]).unwrap());
    let device = device_name(1);
    let stage = Stage::new(&[ways[0].node(), ways[1].node()], &device);
    let serve = stage.start();
    let mut load = load(&device);
    wait_for_load(&serve, &mut load);
    assert!(mount.set("--freeze"));
    let mut before = 0;
    until("nothing hangs", || {
        let last = std::mem::replace(&mut before, completed(&serve));
        last == before && serve.must("stats")["all_paths"]["in_flight"].as_u64().unwrap() > 0
    });
    // What hangs keeps the process from ending, and its device with it: the next one is started meanwhile.
    serve.signal("KILL");
    let next = stage.launch_beside();
    next.wait_for(&format!("waiting for {}", ways[0].node().display()));
    // For the claim, that is, and not for an I/O of its own behind its predecessor's.
    let has_path = ways.iter().any(|way| has_open(next.id(), way.node()));
    assert!(mount.set("--unfreeze"));
    assert!(!has_path, "it has opened a path that is claimed");
    let over = serve.over();
    assert_eq!(over.code, None, "{over:#?}");
    let serve = next.serving();
    println!("{}\n{}", conclude(&serve, load), serve.log());
    assert_eq!(serve.terminate().code, Some(0));
}
