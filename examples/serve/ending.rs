//! How the service ends, in good order or otherwise.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use mpio::frontend::fuse::{Ended, Server};
use mpio::{Error, Tick, Volume};

use crate::log::Log;
use crate::service::News;
use crate::users;

/// How long one try to detach the device takes.
const TRY: Duration = Duration::from_secs(1);
/// How often it is said what is waited for.
const REMINDER: Duration = Duration::from_secs(10);
/// How long the paths may take to let go when everything is answered.
const GRACE: Duration = Duration::from_secs(10);
/// The same when nothing more is waited for.
const NO_GRACE: Duration = Duration::from_secs(1);

/// Why the process ends. The numbers are its exit codes, which `--help` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Asked = 0,
    Failed = 1,
    Usage = 2,
    NotStarted = 3,
    Forced = 4,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        Self::from(ending as u8)
    }
}

/// Waits for the end, and sees to it.
pub(crate) struct End<'a> {
    volume: Volume,
    server: Arc<Server>,
    /// Disconnected when the last event is logged.
    story: Receiver<()>,
    log: &'a Arc<Log>,
    stage: Stage,
    /// How many signals have come.
    signals: u32,
    /// Set when something could not be written that the kernel had cached.
    lost: Arc<AtomicBool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Asked to end as soon as nobody uses the device.
    Ending,
    /// Made to end.
    Forced,
}

impl<'a> End<'a> {
    pub(crate) fn new(volume: Volume, server: Arc<Server>, story: Receiver<()>, log: &'a Arc<Log>) -> Self {
        Self { volume, server, story, log, stage: Stage::Serving, signals: 0, lost: Arc::default() }
    }

    /// Serves until it is over.
    pub(crate) fn wait(mut self, inbox: &Receiver<News>) -> Ending {
        let ended = loop {
            match inbox.recv() {
                Ok(News::Signal(name)) => self.signalled(name),
                Ok(News::Quit) if self.stage == Stage::Serving => self.ask("quit"),
                Ok(News::Ended(ended)) => break ended,
                Ok(_) => {}
                // Those who send live as long as the process.
                Err(_) => break Ended::Failed("nobody is left to end the service".to_owned()),
            }
        };
        let ending = self.judge(&ended);
        self.close(ending);
        ending
    }

    /// The first signal asks, the second forces; one that comes after `quit` is the first still.
    fn signalled(&mut self, name: &str) {
        self.signals += 1;
        match self.stage {
            Stage::Serving => self.ask(name),
            Stage::Ending if self.signals > 1 => self.force(name),
            Stage::Ending => {
                self.log.line(format!("{name}: it is ending already; a second signal ends it at once"));
            }
            Stage::Forced => {}
        }
    }

    /// Ends in good order, on a thread of its own: whoever uses the device may take their time.
    fn ask(&mut self, by: &str) {
        self.stage = Stage::Ending;
        self.log.line(format!("{by}: ends when {} is not in use", self.server.device().display()));
        let (server, log, lost) = (Arc::clone(&self.server), Arc::clone(self.log), Arc::clone(&self.lost));
        let stopper = thread::Builder::new().name("serve-stop".to_owned());
        if let Err(error) = stopper.spawn(move || stop(&server, &log, &lost)) {
            (self.stage, self.signals) = (Stage::Serving, 0);
            self.log.line(format!("ending: no thread could be started: {error}; ask again"));
        }
    }

    fn force(&mut self, by: &str) {
        self.stage = Stage::Forced;
        self.log.line(format!("{by} again: ends at once; what is under way fails"));
        self.server.abort();
    }

    fn judge(&self, ended: &Ended) -> Ending {
        let (line, ending) = match (ended, self.stage) {
            (_, Stage::Forced) => ("ended by force".to_owned(), Ending::Forced),
            (Ended::Detached, Stage::Ending) if self.lost.load(Ordering::Relaxed) => (
                "the device is detached; some of what the kernel had cached could not be written, and is lost".to_owned(),
                Ending::Failed,
            ),
            (Ended::Detached, Stage::Ending) => ("the device is detached".to_owned(), Ending::Asked),
            (Ended::Detached, Stage::Serving) => {
                ("the device was detached by someone else".to_owned(), Ending::Failed)
            }
            (Ended::Aborted, _) => (
                "the kernel has aborted the connection: all I/O on the device fails".to_owned(),
                Ending::Failed,
            ),
            (Ended::Failed(reason), _) => (format!("serving failed: {reason}"), Ending::Failed),
            (other, _) => (format!("serving ended: {other:?}"), Ending::Failed),
        };
        self.log.line(line);
        ending
    }

    /// Lets go of the paths.
    fn close(&self, ending: Ending) {
        let grace = if ending == Ending::Asked { GRACE } else { NO_GRACE };
        if !self.volume.close(grace).wait(grace + NO_GRACE) {
            self.log.line("paths still hold I/O: the kernel ends it when their devices answer");
            return;
        }
        let _ = self.story.recv_timeout(NO_GRACE);
    }
}

/// Tries until nobody uses the device, and says now and then who does. What could not be written is lost: the kernel forgets it.
fn stop(server: &Server, log: &Log, lost: &AtomicBool) {
    let mut said: Option<(Tick, Vec<String>)> = None;
    while let Err(error) = server.stop(TRY) {
        if server.ended().is_some() {
            return;
        }
        let is_busy =
            matches!(&error, Error::Os { source, .. } if source.raw_os_error() == Some(libc::EBUSY));
        if !is_busy {
            lost.store(true, Ordering::Relaxed);
            log.line(format!("ending: {error}"));
            // It came back at once, and may do so again while somebody goes on writing.
            thread::park_timeout(TRY);
            continue;
        }
        let users = users::of(server.device());
        let now = Tick::now();
        let is_old = |(at, before): &(Tick, Vec<String>)| now.since(*at) >= REMINDER || *before != users;
        if said.as_ref().is_none_or(is_old) {
            let who = if users.is_empty() { error.to_string() } else { users.join(", ") };
            log.line(format!("ending, but {} is in use: {who}", server.device().display()));
            said = Some((now, users));
        }
    }
}
