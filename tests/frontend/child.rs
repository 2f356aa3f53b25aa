//! A server in a process of its own, to be killed.

use std::io::{BufRead, BufReader, Lines, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use mpio::Volume;
use mpio::frontend::fuse::{Buffers, Options, Server};
use mpio::path::BlockDevice;

use crate::attachment::Attachment;
use crate::rig::{Plan, Rig, queues};

/// How the child is told that it is one.
const ROLE: &str = "MPIO_TEST_SERVES";

/// The other process.
pub(crate) struct Serving {
    pub(crate) device: PathBuf,
    pub(crate) attachment: Attachment,
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Serving {
    /// Starts it. When told to [`go`](Self::go), what is sent to its volume hangs from then on; in the role `hold and stop`
    /// it also stops. A role that is a path is that of serving this file.
    pub(crate) fn start(role: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child::the_other_process", "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = lines.by_ref().map_while(Result::ok).find(|line| line.contains("/dev/loop")).unwrap();
        let device = PathBuf::from(&line[line.find("/dev/loop").unwrap()..]);
        let attachment = Attachment::of(&device);
        Self { device, attachment, process, lines }
    }

    /// Waits for a line of output that has `text` in it.
    pub(crate) fn wait_for(&mut self, text: &str) {
        self.lines.by_ref().map_while(Result::ok).find(|line| line.contains(text)).unwrap();
    }

    /// Has it do what its role says.
    pub(crate) fn go(&mut self) {
        drop(self.process.stdin.take());
    }

    /// Kills it, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Does nothing unless it is the other process.
#[test]
fn the_other_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    if role.starts_with('/') {
        return serve_file(&role);
    }
    let rig = Rig::try_new(Plan::default(), &Options::new()).unwrap();
    println!("{}", rig.node());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    rig.medium.hold();
    println!("held");
    if role == "hold and stop" {
        let _ = rig.server.stop(Duration::ZERO);
    }
    rig.medium.wait_for_held(1);
    println!("has a write");
    loop {
        std::thread::park();
    }
}

/// Serves a file, with queues that sleep on rings.
fn serve_file(file: &str) {
    let buffers = Buffers::new(2, 32).unwrap();
    let volume = buffers.register(Volume::builder()).queues(2).path(BlockDevice::new(file)).build().unwrap();
    let server = Server::start(queues(&volume), buffers, &Options::new()).unwrap();
    println!("{}", server.device().display());
    loop {
        std::thread::park();
    }
}
