//! The service from start to end.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use mpio::frontend::fuse::{self, Buffers, Ended, Server};
use mpio::{Error, EventKind, Events, NoPath, QueueIndex, Tick, Volume};

use crate::claim::Board;
use crate::clients;
use crate::desk::Desk;
use crate::ending::{End, Ending};
use crate::log::Log;
use crate::options::Options;
use crate::paths::{Paths, Prospects, names, refuse_twins};
use crate::signals;
use crate::socket::Socket;
use crate::users;

/// Requests under way for which there is memory; the kernel's loop driver has no more.
const REQUESTS: u32 = 128;
/// How often it is said what is waited for.
const REMINDER: Duration = Duration::from_secs(2);
/// When an event is not awaited any longer, to await it anew.
const LONG: Duration = Duration::from_hours(1);

/// What the main thread hears of.
pub(crate) enum News {
    /// The volume is being served, or why not.
    Started(Result<Box<Served>, Error>),
    /// The process was sent this signal.
    Signal(&'static str),
    /// A client asks for the end.
    Quit,
    /// The front-end has ended.
    Ended(Ended),
}

/// A volume and its device.
pub(crate) struct Served {
    volume: Volume,
    paths: Paths,
    server: Server,
}

/// Serves until the end.
pub(crate) fn run(options: Options, log: &Arc<Log>) -> Ending {
    match serve(options, log) {
        Ok(ending) | Err(ending) => ending,
    }
}

fn serve(options: Options, log: &Arc<Log>) -> Result<Ending, Ending> {
    let cannot = |problem: String| {
        log.line(problem);
        Ending::NotStarted
    };
    let options = Arc::new(options);
    let (news, inbox) = channel();
    refuse_twins(&options.paths).map_err(|problem| cannot(format!("cannot start: {problem}")))?;
    // Before anything of a path is touched.
    let socket = options
        .control
        .as_deref()
        .map(Socket::bind)
        .transpose()
        .map_err(|problem| cannot(format!("cannot start: {problem}")))?;
    signals::watch(news.clone()).map_err(|error| cannot(format!("signals cannot be watched: {error}")))?;
    let Served { volume, paths, server } = match begin(&options, &news, &inbox, log)? {
        Begun::Serving(served) => *served,
        Begun::Over => return Ok(Ending::Asked),
    };
    let server = Arc::new(server);
    watch(&server, news.clone()).map_err(|error| cannot(format!("starting a thread: {error}")))?;
    let desk = Arc::new(Desk {
        volume: volume.clone(),
        paths,
        device: server.device().to_owned(),
        connection: server.connection(),
        policy: Mutex::new(options.policy.name()),
        options,
        began: Tick::now(),
        news,
        log: Arc::clone(log),
    });
    if let Some(socket) = &socket {
        clients::serve(socket, desk).map_err(|error| cannot(format!("starting a thread: {error}")))?;
    }
    announce(&server, log);
    Ok(End::new(volume, server, log).wait(&inbox))
}

/// How it began.
enum Begun {
    Serving(Box<Served>),
    /// It was asked to end before.
    Over,
}

/// Starts on a thread of its own, since paths may have to be waited for.
fn begin(
    options: &Arc<Options>,
    news: &Sender<News>,
    inbox: &Receiver<News>,
    log: &Arc<Log>,
) -> Result<Begun, Ending> {
    let board = Arc::new(Board::default());
    let starter = {
        let (options, board, log, news) =
            (Arc::clone(options), Arc::clone(&board), Arc::clone(log), news.clone());
        move || {
            let served = start(&options, &board, &log);
            // Nobody listens only when the process ends.
            let _ = news.send(News::Started(served.map(Box::new)));
        }
    };
    log.line(format!("connecting {}", names(&options.paths)));
    if let Err(error) = thread::Builder::new().name("serve-start".to_owned()).spawn(starter) {
        log.line(format!("starting a thread: {error}"));
        return Err(Ending::NotStarted);
    }
    loop {
        match inbox.recv_timeout(REMINDER) {
            Ok(News::Started(Ok(served))) => return Ok(Begun::Serving(served)),
            Ok(News::Started(Err(error))) => {
                log.line(format!("cannot start: {error}"));
                let is_option = matches!(error, Error::Setting { .. });
                return Err(if is_option { Ending::Usage } else { Ending::NotStarted });
            }
            Ok(News::Signal(name)) => {
                log.line(format!("{name}: ends before it has begun to serve"));
                return Ok(Begun::Over);
            }
            Ok(News::Quit | News::Ended(_)) => {}
            Err(RecvTimeoutError::Timeout) => remind(&board, log),
            Err(RecvTimeoutError::Disconnected) => return Err(Ending::NotStarted),
        }
    }
}

/// Says what is being waited for.
fn remind(board: &Board, log: &Log) {
    for path in board.waiting(Tick::now(), REMINDER / 2) {
        let users = users::of(&path);
        let by = if users.is_empty() {
            "the I/O of a process that is gone, for all that can be seen".to_owned()
        } else {
            users.join(", ")
        };
        log.line(format!("waiting for {}: {by}", path.display()));
    }
}

fn start(options: &Options, board: &Arc<Board>, log: &Arc<Log>) -> Result<Served, Error> {
    let buffers = Buffers::new(options.queues, REQUESTS)?;
    let builder = Volume::builder()
        .policy(Arc::clone(&options.policy))
        .queues(options.queues)
        .queue_depth(options.queue_depth)
        .no_path(options.no_path)
        .suspect_after(options.timeout);
    let (prospects, builder) = Prospects::add(options, board, buffers.register(builder));
    let volume = builder.build()?;
    let paths = prospects.joined(volume.clone());
    report(volume.events(), Arc::clone(log))?;
    let geometry = volume.geometry();
    log.line(format!(
        "the volume has {} blocks of {} bytes, policy {}, paths:",
        geometry.capacity(),
        geometry.block_size(),
        options.policy.name(),
    ));
    for path in volume.status().paths {
        log.line(format!("{} ({}): {}, fence {}", path.id, path.name, path.access, path.fence));
    }
    let queues = (0..options.queues).filter_map(|index| volume.take_queue(QueueIndex(index))).collect();
    let server = Server::start(queues, buffers, door(options))?;
    Ok(Served { volume, paths, server })
}

/// How the device is served.
fn door(options: &Options) -> fuse::Options {
    let mut door = fuse::Options::new().name(format!("mpio-serve-{}", std::process::id()));
    if let Some(device) = &options.device {
        door = door.device(device);
    }
    if let Some(deadline) = options.deadline {
        door = door.deadline(deadline);
    }
    if let NoPath::Hold { time, .. } = options.no_path {
        door = door.hold(time);
    }
    door
}

/// Logs what happens to the volume, for as long as it lives.
fn report(events: Events, log: Arc<Log>) -> Result<(), Error> {
    let follow = move || {
        loop {
            let asked = Tick::now();
            match events.next_within(LONG) {
                Some(event) => {
                    log.line(event.to_string());
                    if event.kind == EventKind::Closed {
                        return;
                    }
                }
                None if Tick::now().since(asked) < LONG => return,
                None => {}
            }
        }
    };
    thread(follow, "serve-events")
}

fn thread(body: impl FnOnce() + Send + 'static, name: &str) -> Result<(), Error> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(body);
    started.map(drop).map_err(|source| Error::Os { attempted: format!("starting thread {name}"), source })
}

/// Tells the main thread when the front-end ends.
fn watch(server: &Arc<Server>, news: Sender<News>) -> Result<(), Error> {
    let server = Arc::clone(server);
    let follow = move || {
        loop {
            if let Some(ended) = server.ended_within(LONG) {
                let _ = news.send(News::Ended(ended));
                return;
            }
        }
    };
    thread(follow, "serve-watch")
}

/// The device's name on standard output, for whoever started this.
fn announce(server: &Server, log: &Log) {
    let device = server.device().display();
    log.line(format!("serving {device} (FUSE connection {})", server.connection()));
    let mut out = io::stdout().lock();
    if let Err(error) = writeln!(out, "{device}").and_then(|()| out.flush()) {
        log.line(format!("the device's name could not be written to standard output: {error}"));
    }
}
