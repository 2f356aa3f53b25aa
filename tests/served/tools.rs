//! The programs that use a served device.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::rig;
use crate::testing_support::{run, skip};

/// Whether this machine can do all of this; says that a test is skipped where not.
pub(crate) fn can_run() -> bool {
    if !rig::can_serve() {
        return false;
    }
    for (program, flag) in [("fio", "--version"), ("mkfs.ext4", "-V"), ("fsck.ext4", "-V")] {
        if !run(program, &[flag]) {
            skip(&format!("there is no {program} here"));
            return false;
        }
    }
    true
}

/// A program at work. It is killed when dropped.
pub(crate) struct Running {
    child: Option<Child>,
    name: &'static str,
}

impl Running {
    pub(crate) fn start(name: &'static str, command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { child: Some(child), name }
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// As Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(run("kill", &["-INT", &id]), "{} cannot be interrupted", self.name);
    }

    /// Waits for its end, which must be a success; what it said.
    pub(crate) fn succeed(mut self) -> String {
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        let said = said(&output);
        assert!(output.status.success(), "{}: {}\n{said}", self.name, output.status);
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let output = child.wait_with_output().unwrap();
            eprintln!("--- {} was left at work\n{}---", self.name, said(&output));
        }
    }
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

/// The example `verify`, as cargo built it beside this test, on a device or file that it may overwrite.
pub(crate) fn verify(target: &Path, options: &[&str]) -> Running {
    let program = example("verify");
    let mut command = Command::new(program);
    Running::start("verify", command.args(options).arg("--destroy").arg(target))
}

fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().join("examples").join(name)
}

/// fio, which writes a file of its own in `directory` and reads everything back.
pub(crate) fn fio(directory: &Path, seconds: u64) -> Running {
    let mut command = Command::new("fio");
    let place = format!("--directory={}", directory.display());
    let time = format!("--runtime={seconds}");
    Running::start(
        "fio",
        command.args([
            "--name=verified",
            "--rw=randrw",
            "--bsrange=4k-256k",
            "--size=24M",
            "--ioengine=libaio",
            "--direct=1",
            "--iodepth=16",
            "--verify=crc32c",
            "--verify_backlog=64",
            "--verify_fatal=1",
            "--verify_state_save=0",
            "--time_based",
            &time,
            &place,
        ]),
    )
}

/// What the kernel has logged of failed I/O on a device, or of a damaged file system there, since `mark`.
pub(crate) fn kernel_errors(device: &Path, mark: &str) -> Vec<String> {
    let name = device.file_name().unwrap().to_str().unwrap();
    let names = [format!("dev {name},"), format!("device {name})")];
    let text = kernel_log();
    // The log is a ring: where the mark is gone, all of it came later.
    let since = text.rfind(mark).map_or(0, |at| at + mark.len());
    let is_error = |line: &&str| line.contains("error") && names.iter().any(|name| line.contains(name));
    text[since..].lines().filter(is_error).map(str::to_owned).collect()
}

/// The last line of the kernel's log, which has its time.
pub(crate) fn kernel_mark() -> String {
    kernel_log().lines().last().unwrap_or_default().to_owned()
}

/// Nothing where it cannot be read.
fn kernel_log() -> String {
    let output = Command::new("dmesg").output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// Lines of a table in /proc that name `what`.
pub(crate) fn mentions(table: &str, what: &Path) -> Vec<String> {
    let text = fs::read_to_string(table).unwrap();
    let what = what.display().to_string();
    text.lines().filter(|line| line.split_whitespace().any(|word| word == what)).map(str::to_owned).collect()
}
