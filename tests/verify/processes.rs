//! The program itself, on files and loop devices that are meddled with from outside. `cargo test` builds it; where only
//! this test is built, `cargo build --example verify` does.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Lines, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread;

use crate::stamp::{self, Stamp};
use crate::state::Saved;
use crate::testing_support::{LoopDevice, TempDir, require_loops, run, skip};

const BLOCK_SIZE: usize = 512;
const MIB: u64 = 1 << 20;

fn program() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let program = here.parent().and_then(Path::parent).unwrap().join("examples/verify");
    assert!(program.exists(), "{} is not there: cargo build --example verify", program.display());
    program
}

/// `verify` with these options on a device.
fn verify(device: &Path, options: &str) -> Command {
    let mut command = Command::new(program());
    command.args(options.split_whitespace()).arg("--json").arg(device);
    command
}

/// Runs it to its end.
fn result(device: &Path, options: &str) -> (i32, String) {
    outcome(verify(device, options).output().unwrap())
}

/// Exit code, and what it printed: the result, then the rest.
fn outcome(output: Output) -> (i32, String) {
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.code().unwrap_or(-1), text)
}

fn start(device: &Path, options: &str) -> Child {
    verify(device, options).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn number(text: &str, name: &str) -> u64 {
    let rest = text.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("no {name}: {text}")).1;
    rest.split([',', '}']).next().unwrap().parse().unwrap()
}

/// The stamp in a block of a file, whatever its run.
fn stamp_of(file: &File, block: u64) -> Option<Stamp> {
    let mut bytes = [0; BLOCK_SIZE];
    file.read_exact_at(&mut bytes, block * BLOCK_SIZE as u64).ok()?;
    let word = |index: usize| u64::from_le_bytes(bytes[index * 8..][..8].try_into().unwrap());
    let stamp = Stamp { run: word(1), block: word(2), generation: word(3), writer: word(4) };
    let whole = stamp::describe(&bytes, stamp.run, stamp.block);
    (whole == format!("generation {} (writer {})", stamp.generation, stamp.writer)).then_some(stamp)
}

/// Waits until `block` bears a generation of at least this.
fn await_generation(file: &File, block: u64, generation: u64, child: &mut Child) -> Stamp {
    loop {
        match stamp_of(file, block) {
            Some(stamp) if stamp.generation >= generation => return stamp,
            _ => assert_eq!(child.try_wait().unwrap(), None, "verify ended early"),
        }
        thread::yield_now();
    }
}

#[test]
fn an_honest_loop_device_is_right() {
    let Some(loops) = require_loops(1, 8 * MIB) else { return };
    let (code, text) = result(loops.device(0), "--seconds 4 --threads 4 --size 2M");
    assert_eq!(code, 0, "{text}");
    assert!(number(&text, "overlapped") > 0 && number(&text, "flushes") > 1, "{text}");
    assert_eq!(number(&text, "errors"), 0, "{text}");
}

#[test]
fn an_old_image_that_is_put_back_behind_its_back_is_found() {
    let Some(loops) = require_loops(1, 8 * MIB) else { return };
    // It may be overwritten before a read finds it.
    let found = (0..20).any(|_| {
        let (code, text) = put_back_an_old_image(loops.device(0), loops.file());
        let faults: u64 = ["ghost", "lost", "stale"].map(|fault| number(&text, fault)).iter().sum();
        assert!(code == 0 || code == 1 && faults > 0, "{code} {text}");
        code == 1
    });
    assert!(found);
}

fn put_back_an_old_image(device: &Path, backing: &Path) -> (i32, String) {
    let file = OpenOptions::new().read(true).write(true).open(backing).unwrap();
    let mut old = [0; BLOCK_SIZE];
    // The stamps of the round before must not be taken for this one's.
    file.write_all_at(&[0; 16 * BLOCK_SIZE], 0).unwrap();
    let mut child = start(device, "--seconds 600 --threads 2 --blocks 16 --max-io 2048 --zero-percent 0");
    await_generation(&file, 3, 10, &mut child);
    file.read_exact_at(&mut old, 3 * BLOCK_SIZE as u64).unwrap();
    await_generation(&file, 3, 200, &mut child);
    file.write_all_at(&old, 3 * BLOCK_SIZE as u64).unwrap();
    interrupt(&child);
    outcome(child.wait_with_output().unwrap())
}

#[test]
fn a_kill_at_any_moment_leaves_a_state_to_go_on_from() {
    let Some(loops) = require_loops(1, 8 * MIB) else { return };
    let dir = TempDir::new();
    let state = dir.path().join("state");
    let options = format!("--threads 4 --flush-every 10ms --patience 30s --state {}", state.display());
    let file = File::open(loops.file()).unwrap();
    let mut child = start(loops.device(0), &format!("{options} --seconds 600 --size 1M"));
    for round in 1..6 {
        let past = stamp_of(&file, 5).map_or(0, |stamp| stamp.generation);
        await_generation(&file, 5, past + 1, &mut child);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(state.exists(), "round {round}");
        child = start(loops.device(0), &format!("{options} --seconds 600 --resume"));
    }
    await_generation(&file, 5, 1, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    let (code, text) = result(loops.device(0), &format!("{options} --seconds 1 --resume"));
    assert_eq!(code, 0, "{text}");
    assert_eq!(number(&text, "errors"), 0, "{text}");
}

#[test]
fn an_image_from_before_the_last_flush_is_found_by_the_next_process() {
    let dir = TempDir::new();
    let (device, state) = (dir.file("device", MIB), dir.path().join("state"));
    let options = format!("--state {}", state.display());
    if !takes_direct_io(&device) {
        return;
    }
    let (code, text) = result(&device, &format!("{options} --seconds 0"));
    assert_eq!(code, 0, "{text}");
    let old = std::fs::read(&device).unwrap();
    let changed = || {
        let (old, new) = (old.chunks(BLOCK_SIZE), std::fs::read(&device).unwrap());
        old.zip(new.chunks(BLOCK_SIZE)).filter(|(old, new)| old != new).count()
    };
    while changed() <= 150 * 4096 / BLOCK_SIZE {
        let (code, text) = result(&device, &format!("{options} --seconds 1 --resume"));
        assert_eq!(code, 0, "{text}");
    }
    std::fs::write(&device, &old).unwrap();
    let (code, text) = result(&device, &format!("{options} --seconds 0 --resume"));
    assert_eq!(code, 1, "{text}");
    assert!(number(&text, "lost") > 100, "{text}");
}

/// Whether files there take direct I/O: those of some file systems in memory do not.
fn takes_direct_io(file: &Path) -> bool {
    let (code, text) = result(file, "--seconds 0 --blocks 1");
    let takes = code == 0;
    assert!(takes || text.contains("O_DIRECT"), "{text}");
    if !takes {
        skip("files in the directory for temporary files do not take direct I/O");
    }
    takes
}

/// A device that goes away and comes back, maybe as another one: a link that leads to it.
struct Leaving {
    link: PathBuf,
    device: Option<LoopDevice>,
    backing: PathBuf,
    state: PathBuf,
    _dir: TempDir,
}

impl Leaving {
    fn required() -> Option<Self> {
        let dir = TempDir::in_memory();
        let (backing, link) = (dir.file("backing", 8 * MIB), dir.path().join("device"));
        match LoopDevice::attach(&backing, &[]) {
            Ok(device) => {
                symlink(device.node(), &link).unwrap();
                let state = dir.path().join("state");
                Some(Self { link, device: Some(device), backing, state, _dir: dir })
            }
            Err(reason) => {
                skip(&format!("loop devices cannot be attached here (needs root and losetup): {reason}"));
                None
            }
        }
    }

    fn start(&self) -> (Child, Lines<BufReader<ChildStderr>>) {
        let state = self.state.display();
        let options = format!(
            "--seconds 600 --threads 4 --blocks 64 --max-io 4K --flush-every 10ms --state {state} --zero-percent 0"
        );
        let mut child = start(&self.link, &options);
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        (child, lines)
    }

    /// Its writes fail from now on, so that it is closed; then it is detached.
    fn leave(&mut self, lines: &mut Lines<BufReader<ChildStderr>>) {
        let device = ReadOnly::set(self.device.take().unwrap());
        await_line(lines, "outage 1: the device is gone");
        std::fs::remove_file(&self.link).unwrap();
        drop(device);
    }

    fn come_back(&mut self) {
        let device = LoopDevice::attach(&self.backing, &[]).unwrap();
        symlink(device.node(), &self.link).unwrap();
        self.device = Some(device);
    }

    fn file(&self) -> File {
        OpenOptions::new().read(true).write(true).open(&self.backing).unwrap()
    }
}

/// A device whose writes fail. The node would keep that for whoever attaches to it next.
struct ReadOnly(LoopDevice);

impl ReadOnly {
    fn set(device: LoopDevice) -> Self {
        assert!(run("blockdev", &["--setro", device.node().to_str().unwrap()]));
        Self(device)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = run("blockdev", &["--setrw", self.0.node().to_str().unwrap()]);
    }
}

fn await_line(lines: &mut Lines<BufReader<ChildStderr>>, text: &str) {
    let found = lines.any(|line| line.unwrap().contains(text));
    assert!(found, "verify never said: {text}");
}

#[test]
fn a_device_that_is_detached_and_attached_elsewhere_is_gone_on_with() {
    let Some(mut leaving) = Leaving::required() else { return };
    let (mut child, mut lines) = leaving.start();
    await_generation(&leaving.file(), 5, 5, &mut child);
    leaving.leave(&mut lines);
    leaving.come_back();
    await_line(&mut lines, "outage 1 is over");
    interrupt(&child);
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let (code, text) = outcome(child.wait_with_output().unwrap());
    assert_eq!(code, 0, "{text}{rest:?}");
    assert_eq!(number(&text, "outages"), 1, "{text}");
    assert!(number(&text, "errors") > 0, "{text}");
}

#[test]
fn flushed_data_that_is_gone_after_an_outage_is_found() {
    let Some(mut leaving) = Leaving::required() else { return };
    let (mut child, mut lines) = leaving.start();
    let file = leaving.file();
    let mut old = [0; BLOCK_SIZE];
    let generation = await_generation(&file, 5, 5, &mut child).generation;
    file.read_exact_at(&mut old, 5 * BLOCK_SIZE as u64).unwrap();
    // A later one, in case it was rewritten between the two reads; torn, it would be found all the more.
    let durable = || Saved::read(&leaving.state).map_or(0, |saved| saved.durable[5]);
    while durable() <= generation + 50 {
        assert_eq!(child.try_wait().unwrap(), None);
        thread::yield_now();
    }
    leaving.leave(&mut lines);
    file.write_all_at(&old, 5 * BLOCK_SIZE as u64).unwrap();
    leaving.come_back();
    await_line(&mut lines, "outage 1 is over");
    interrupt(&child);
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let (code, text) = outcome(child.wait_with_output().unwrap());
    assert_eq!(code, 1, "{text}{rest:?}");
    assert!(text.contains("check after outage 1"), "{text}");
}

#[test]
fn a_device_that_does_not_come_back_has_an_exit_code_of_its_own() {
    let Some(mut leaving) = Leaving::required() else { return };
    let mut child = start(&leaving.link, "--seconds 600 --size 1M --patience 3s");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    await_generation(&leaving.file(), 5, 5, &mut child);
    leaving.leave(&mut lines);
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let (code, text) = outcome(child.wait_with_output().unwrap());
    assert_eq!(code, 3, "{text}{rest:?}");
    assert!(text.contains("did not come back"), "{text}");
}

/// As Ctrl-C does.
fn interrupt(child: &Child) {
    assert!(run("kill", &["-INT", &child.id().to_string()]));
}

#[test]
fn what_cannot_be_used_is_refused_with_a_reason() {
    let dir = TempDir::new();
    let small = dir.file("small", 100);
    let data = dir.write("data", vec![7; 8192]);
    let huge = dir.file("huge", 1 << 38);
    let file = dir.file("file", MIB);
    let garbage = dir.write("garbage", "garbage");
    let resume = format!("--resume --state {}", garbage.display());
    let gone = format!("--resume --state {}", dir.path().join("none").display());
    let exists = format!("--state {}", garbage.display());
    let cases = [
        (dir.path().join("none"), "", "does not exist"),
        (dir.path().to_owned(), "", "neither a block device nor a regular file"),
        ("/dev/null".into(), "", "neither a block device nor a regular file"),
        (small, "", "too small"),
        (file.clone(), "--blocks 1000", "too small"),
        (file.clone(), "--offset 5", "not a multiple"),
        (file.clone(), "--offset 2M", "too small"),
        (file.clone(), "--size 5000", "not a multiple"),
        (data, "", "holds data at byte 0"),
        (huge, "--size 100G --block-size 4K", "blocks are more than"),
        (file.clone(), &resume, "not a state file"),
        (file.clone(), &gone, "cannot be read"),
        (file, &exists, "exists"),
    ];
    for (device, options, problem) in cases {
        let (code, text) = result(&device, options);
        let direct = !text.contains("O_DIRECT");
        assert!(code == 2 && (text.contains(problem) || !direct), "{options}: {code} {text}");
    }
}

#[test]
fn a_device_in_use_or_read_only_is_refused() {
    let Some(loops) = require_loops(1, 8 * MIB) else { return };
    let claim = OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(loops.device(0)).unwrap();
    let (code, text) = result(loops.device(0), "");
    assert!(code == 2 && text.contains("is in use"), "{text}");
    drop(claim);
    let read_only = LoopDevice::attach(loops.file(), &["--read-only"]).unwrap();
    let (code, text) = result(read_only.node(), "");
    assert!(code == 2 && text.contains("read-only"), "{text}");
}

#[test]
fn a_reader_that_goes_away_does_not_change_the_exit_code() {
    let Some(loops) = require_loops(1, 8 * MIB) else { return };
    let mut child = start(loops.device(0), "--seconds 0");
    let mut first = [0; 1];
    let _ = child.stderr.take().unwrap().read(&mut first);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
