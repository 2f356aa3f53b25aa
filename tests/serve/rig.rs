//! A `serve` that runs: started, commanded, ended, and never left behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::Value;

use crate::testing_support::{TempDir, run, skip};

/// Bound of every wait: whatever takes longer hangs.
const BOUND: Duration = Duration::from_mins(2);
/// How often is looked at what cannot be waited for.
const GLANCE: Duration = Duration::from_millis(10);

/// Whether this machine can serve volumes; says that a test is skipped where not.
pub(crate) fn can_serve() -> bool {
    let missing = if fs::metadata("/proc/self").is_ok_and(|found| found.uid() != 0) {
        "root"
    } else if fs::File::open("/dev/fuse").is_err() {
        "/dev/fuse"
    } else if !Path::new("/dev/loop-control").exists() {
        "/dev/loop-control"
    } else if !run("losetup", &["--version"]) {
        "losetup"
    } else {
        return true;
    };
    skip(&format!("volumes cannot be served here: there is no {missing}"));
    false
}

/// The program, as cargo built it beside this test.
pub(crate) fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples/serve");
    let how = "build it: cargo build --features fuse --example serve";
    let built = fs::metadata(&program).unwrap_or_else(|_| panic!("there is no {}; {how}", program.display()));
    // One that is older than what it is made of would make these tests say nothing.
    let recipe = fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    let sources = recipe.split_whitespace().skip(1).filter_map(|source| fs::metadata(source).ok());
    let newest = sources.filter_map(|source| source.modified().ok()).max();
    assert!(newest <= built.modified().ok(), "{} is older than its sources; {how}", program.display());
    program
}

/// A `serve` and what it says. It is killed when dropped, and with it goes its device.
pub(crate) struct Serve {
    child: Child,
    device: PathBuf,
    socket: PathBuf,
    log: Arc<Log>,
    /// Of its socket, where nobody chose another.
    dir: Option<TempDir>,
}

/// A `serve` that has ended.
#[derive(Debug)]
pub(crate) struct Over {
    /// Its exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// The same in words, for messages.
    pub(crate) how: String,
    pub(crate) log: String,
}

impl Over {
    /// It has ended with this exit code.
    #[track_caller]
    pub(crate) fn with(&self, code: i32) {
        assert_eq!(self.code, Some(code), "{}:\n{}", self.how, self.log);
    }
}

impl Serve {
    /// Starts it with these arguments and a control socket, and waits until it serves.
    pub(crate) fn start<A: AsRef<str>>(arguments: &[A]) -> Self {
        Self::launch(arguments).serving()
    }

    /// The same, with the control socket there.
    pub(crate) fn start_at<A: AsRef<str>>(arguments: &[A], socket: &Path) -> Self {
        Self::launch_at(arguments, socket).serving()
    }

    /// Starts it and waits for nothing.
    pub(crate) fn launch<A: AsRef<str>>(arguments: &[A]) -> Self {
        let dir = TempDir::new();
        let mut launched = Self::launch_at(arguments, &dir.path().join("control"));
        launched.dir = Some(dir);
        launched
    }

    /// The same, with the control socket there.
    pub(crate) fn launch_at<A: AsRef<str>>(arguments: &[A], socket: &Path) -> Self {
        Self::launch_by(Command::new(program()), arguments, socket)
    }

    /// The same, by a command that becomes the program, to which these arguments are added.
    pub(crate) fn launch_by<A: AsRef<str>>(mut by: Command, arguments: &[A], socket: &Path) -> Self {
        let mut child = by
            .args(arguments.iter().map(AsRef::as_ref))
            .arg("--control")
            .arg(socket)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::follow(child.stderr.take().unwrap());
        Self { child, device: PathBuf::new(), socket: socket.to_owned(), log, dir: None }
    }

    /// Waits until it serves.
    pub(crate) fn serving(mut self) -> Self {
        match self.first_line() {
            Some(device) => {
                self.device = device.into();
                self
            }
            None => panic!("serve did not start: {:#?}", self.over()),
        }
    }

    /// The first line on standard output; `None` when it ends without.
    fn first_line(&mut self) -> Option<String> {
        let out = BufReader::new(self.child.stdout.take().unwrap());
        let lines = in_background(move || out.lines().next()?.ok());
        lines.recv_timeout(BOUND).expect("serve says nothing and does not end")
    }

    /// The device that it serves.
    pub(crate) fn device(&self) -> &Path {
        &self.device
    }

    pub(crate) fn device_name(&self) -> &str {
        self.device.to_str().unwrap()
    }

    /// Where its control socket is.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until it has logged `text`.
    pub(crate) fn wait_for(&self, text: &str) {
        self.log.wait_for(text);
    }

    /// Its answer to a command.
    pub(crate) fn control(&self, line: &str) -> Value {
        Connection::open(&self.socket).ask(line)
    }

    /// Its answer to a command that must succeed.
    pub(crate) fn must(&self, line: &str) -> Value {
        let answer = self.control(line);
        assert_eq!(answer["ok"], true, "{line}: {answer}\n{}", self.log());
        answer
    }

    /// What `paths` says of path `number`.
    pub(crate) fn path(&self, number: u64) -> Value {
        let answer = self.must("paths");
        let paths = answer["paths"].as_array().unwrap();
        paths.iter().find(|path| path["path"] == number).cloned().unwrap_or(Value::Null)
    }

    /// Sends a signal: `TERM`, `INT`, `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.id());
        assert!(run("sh", &["-c", &kill]), "{kill} failed");
    }

    /// Kills it, and waits until it is gone.
    pub(crate) fn kill(mut self) -> Over {
        self.child.kill().unwrap();
        self.wait()
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn terminate(self) -> Over {
        self.signal("TERM");
        self.over()
    }

    /// Waits for its end.
    pub(crate) fn over(mut self) -> Over {
        self.wait()
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn wait(&mut self) -> Over {
        let mut status: Option<ExitStatus> = None;
        until("serve does not end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        self.log.wait_for_end();
        let status = status.unwrap();
        Over { code: status.code(), how: status.to_string(), log: self.log() }
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of serve\n{}---", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `done`, or fails with `problem`.
pub(crate) fn until(problem: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < BOUND, "{problem}");
        thread::park_timeout(GLANCE);
    }
}

/// Runs `work` on a thread; its result comes through the receiver.
pub(crate) fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, result) = channel();
    let name = "background".to_owned();
    thread::Builder::new()
        .name(name)
        .spawn(move || {
            let _ = sender.send(work());
        })
        .unwrap();
    result
}

/// A client of a control socket.
pub(crate) struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    pub(crate) fn open(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// One command, one answer.
    pub(crate) fn ask(&mut self, line: &str) -> Value {
        self.send(format!("{line}\n").as_bytes());
        self.answer().expect("there is an answer")
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// The stream itself, for mischief.
    pub(crate) fn stream(&mut self) -> &mut UnixStream {
        self.stream.get_mut()
    }

    /// The next answer; `None` when the server has closed the connection.
    pub(crate) fn answer(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).unwrap();
        (read > 0).then(|| {
            assert!(line.ends_with('\n'), "an answer is a whole line: {line:?}");
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?} is no JSON: {error}"))
        })
    }
}

/// What a process says on standard error, as it comes.
struct Log {
    said: Mutex<Said>,
    more: Condvar,
}

#[derive(Default)]
struct Said {
    text: String,
    is_over: bool,
}

impl Log {
    fn follow(stderr: impl Read + Send + 'static) -> Arc<Self> {
        let log = Arc::new(Self { said: Mutex::default(), more: Condvar::new() });
        let here = Arc::clone(&log);
        drop(in_background(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut said = here.lock();
                said.text.push_str(&line);
                said.text.push('\n');
                drop(said);
                here.more.notify_all();
            }
            here.lock().is_over = true;
            here.more.notify_all();
        }));
        log
    }

    /// Also after a test has failed: its log is wanted most then.
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self) -> String {
        self.lock().text.clone()
    }

    fn wait_for(&self, text: &str) {
        let said = self.lock();
        let waits = |said: &mut Said| !said.text.contains(text) && !said.is_over;
        let (said, _) = self.more.wait_timeout_while(said, BOUND, waits).unwrap();
        assert!(said.text.contains(text), "serve never said {text:?}:\n{}", said.text);
    }

    fn wait_for_end(&self) {
        let said = self.lock();
        let (said, _) = self.more.wait_timeout_while(said, BOUND, |said| !said.is_over).unwrap();
        assert!(said.is_over, "standard error stays open");
    }
}

/// Whether a loop device is attached, to whatever file: one that was let go of may be given to another test at once.
pub(crate) fn is_attached(device: &Path) -> bool {
    let name = device.file_name().unwrap();
    Path::new("/sys/block").join(name).join("loop/backing_file").exists()
}
