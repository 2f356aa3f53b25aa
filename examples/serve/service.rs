//! The service from start to end.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use mpio::frontend::fuse::{self, Buffers, Ended, Server};
use mpio::{Dispatcher, Error, Health, NoPath, QueueIndex, Tick, Volume};

use crate::claim::Board;
use crate::clients;
use crate::desk::Desk;
use crate::ending::{End, Ending};
use crate::events;
use crate::log::Log;
use crate::options::{HandOff, Options, Ways};
use crate::paths::{Paths, Prospects, names, refuse_twins};
use crate::reception::Reception;
use crate::signals;
use crate::socket::Socket;
use crate::users;

/// Requests under way for which there is memory; the kernel's loop driver has no more.
const REQUESTS: u32 = 128;
/// How often it is said what is waited for.
const REMINDER: Duration = Duration::from_secs(2);
/// Between two looks at a socket that a dying server holds.
const PAUSE: Duration = Duration::from_secs(1);
/// When an event is not awaited any longer, to await it anew.
const LONG: Duration = Duration::from_hours(1);

/// What the main thread hears of.
pub(crate) enum News {
    /// The volume is being served, or why not, and how that ends.
    Started(Result<Box<Served>, (String, Ending)>),
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
    /// Disconnected when the last event is logged.
    story: Receiver<()>,
}

/// Serves until the end.
pub(crate) fn run(options: Options, log: &Arc<Log>) -> Ending {
    let (news, inbox) = channel();
    let reception = Arc::new(Reception::new(news, Arc::clone(log)));
    let ending = serve(&Arc::new(options), &reception, &inbox).unwrap_or_else(|(problem, ending)| {
        log.line(format!("cannot start: {problem}"));
        ending
    });
    reception.close();
    log.line(format!("over, exit code {}", ending as u8));
    ending
}

fn serve(
    options: &Arc<Options>,
    reception: &Arc<Reception>,
    inbox: &Receiver<News>,
) -> Result<Ending, (String, Ending)> {
    let cannot = |problem: String| (problem, Ending::NotStarted);
    refuse_twins(&options.paths).map_err(cannot)?;
    signals::watch(reception.news.clone()).map_err(|error| cannot(format!("watching signals: {error}")))?;
    let Some(begun) = begin(options, reception, inbox)? else { return Ok(Ending::Asked) };
    let Served { volume, paths, server, story } = *begun;
    let server = Arc::new(server);
    watch(&server, reception.news.clone()).map_err(|error| cannot(error.to_string()))?;
    // Nobody else sets it.
    let _ = reception.desk.set(Desk {
        volume: volume.clone(),
        paths,
        server: Arc::clone(&server),
        device: server.device().to_owned(),
        connection: server.connection(),
        policy: Mutex::new(options.policy.name()),
        options: Arc::clone(options),
        began: Tick::now(),
        log: Arc::clone(&reception.log),
    });
    follow_devices(options, reception);
    announce(&server, &reception.log);
    Ok(End::new(volume, server, story, &reception.log).wait(inbox))
}

/// Keeps up with what the kernel says of the paths' devices. Without it they are looked at by and by all the same.
fn follow_devices(options: &Options, reception: &Arc<Reception>) {
    let Some(desk) = reception.desk.get() else { return };
    let followed = match options.ways {
        Ways::Named => desk.volume.follow_devices(),
        Ways::All => {
            let reception = Arc::clone(reception);
            desk.volume.follow_unit(move |_, way| {
                let added = reception.desk.get().map(|desk| desk.paths.add(&way.node));
                if let Some(Err(problem)) = added {
                    reception.log.line(format!("a further way is not used: {problem}"));
                }
            })
        }
    };
    if let Err(error) = followed {
        reception
            .log
            .line(format!("changes of devices are found only when paths are looked at anyway: {error}"));
    }
}

/// Starts on a thread of its own, since paths may have to be waited for. `None` if it was asked to end before.
fn begin(
    options: &Arc<Options>,
    reception: &Arc<Reception>,
    inbox: &Receiver<News>,
) -> Result<Option<Box<Served>>, (String, Ending)> {
    let log = &reception.log;
    let starter = {
        let (options, reception) = (Arc::clone(options), Arc::clone(reception));
        move || {
            let served = start(&options, &reception).map(Box::new);
            reception.follow_up(News::Started(served));
        }
    };
    thread(starter, "serve-start").map_err(|error| (error.to_string(), Ending::NotStarted))?;
    loop {
        match inbox.recv_timeout(REMINDER) {
            Ok(News::Started(result)) => return result.map(Some),
            Ok(News::Signal(name)) => {
                say_early_end(name, &reception.board, log);
                return Ok(None);
            }
            Ok(News::Quit) => {
                say_early_end("quit", &reception.board, log);
                return Ok(None);
            }
            Ok(News::Ended(_)) => {}
            Err(_) => remind(&reception.board, log),
        }
    }
}

fn say_early_end(by: &str, board: &Board, log: &Log) {
    log.line(format!("{by}: ends before it has begun to serve, while {}", board.step()));
}

/// Says what is being waited for.
fn remind(board: &Board, log: &Log) {
    let paths = board.waiting(Tick::now(), REMINDER / 2);
    if paths.is_empty() {
        log.line(format!("still {}", board.step()));
    }
    for path in paths {
        let users = users::of(&path);
        let by = if users.is_empty() {
            "for all that can be seen the I/O of a process that is gone, or who has it by another name"
                .to_owned()
        } else {
            users.join(", ")
        };
        log.line(format!("waiting for {}: {by}", path.display()));
    }
}

/// Opens the control socket, connects the paths, builds the volume, serves it.
fn start(options: &Options, reception: &Arc<Reception>) -> Result<Served, (String, Ending)> {
    if let Some(path) = &options.control {
        reception.board.begin("opening its control socket, which a server that does not answer may hold");
        receive(path, options, reception).map_err(|problem| (problem, Ending::NotStarted))?;
    }
    serve_volume(options, reception).map_err(|error| {
        let is_option = matches!(error, Error::Setting { .. });
        (format!("{error}{}", hint()), if is_option { Ending::Usage } else { Ending::NotStarted })
    })
}

/// What most errors of starting come down to.
fn hint() -> &'static str {
    let is_root = fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0);
    if is_root { "" } else { " (this user is not root, which serving needs)" }
}

/// Lets clients in, once no predecessor holds the socket.
fn receive(path: &Path, options: &Options, reception: &Arc<Reception>) -> Result<(), String> {
    let until = options.claim_timeout.map_or(Tick::MAX, |patience| Tick::now().after(patience));
    let socket = loop {
        if let Some(socket) = Socket::bind(path, until.since(Tick::now()))? {
            break socket;
        }
        let place = path.display();
        if Tick::now() >= until {
            return Err(format!(
                "control socket {place}: its server is silent; stop it, or name another socket"
            ));
        }
        reception.log.line(format!("waiting for {place}: its server is silent, dying perhaps"));
        thread::park_timeout(PAUSE);
    };
    clients::serve(&socket, Arc::clone(reception)).map_err(|error| format!("starting a thread: {error}"))?;
    // Nobody else sets it.
    let _ = reception.socket.set(socket);
    Ok(())
}

fn serve_volume(options: &Options, reception: &Reception) -> Result<Served, Error> {
    let log = &reception.log;
    if !Path::new("/sys/dev/block").is_dir() {
        log.line(
            "there is no /sys/dev/block: identities, access states, transports and other names of a disk cannot be seen, and every path \
             counts as one behind a network; mount sysfs, or have the container see it",
        );
    }
    log.line(format!("connecting {}", names(&options.paths)));
    reception.board.begin("connecting its paths");
    let buffers = Buffers::new(options.queues, REQUESTS)?;
    let builder = Volume::builder()
        .policy(Arc::clone(&options.policy))
        .queues(options.queues)
        .queue_depth(options.queue_depth)
        .no_path(options.no_path)
        .suspect_after(options.timeout)
        .sharing(options.sharing);
    let (prospects, builder) = Prospects::add(options, &reception.board, buffers.register(builder));
    let volume = builder.build()?;
    let paths = prospects.joined(volume.clone());
    let story = events::follow(volume.events(), Arc::clone(log))?;
    introduce(&volume, options, log);
    reception.board.begin("attaching its device");
    let server = open(&volume, buffers, options)?;
    Ok(Served { volume, paths, server, story })
}

/// Starts the front-end.
fn open(volume: &Volume, buffers: Buffers, options: &Options) -> Result<Server, Error> {
    let queues = (0..options.queues).filter_map(|index| volume.take_queue(QueueIndex(index)));
    if options.hand_off == HandOff::Direct {
        return Server::start(queues.collect(), buffers, &door(options));
    }
    // A dispatcher lives for as long as the submitters of its queue do.
    let dispatched = queues.map(|queue| Dispatcher::start()?.serve(queue)?.submitter(options.queue_depth));
    Server::start_through(dispatched.collect::<Result<_, _>>()?, buffers, &door(options))
}

fn introduce(volume: &Volume, options: &Options, log: &Log) {
    let (geometry, policy) = (volume.geometry(), options.policy.name());
    let (blocks, size) = (geometry.capacity(), geometry.block_size());
    log.line(format!("the volume has {blocks} blocks of {size} bytes, policy {policy}, paths:"));
    for path in volume.status().paths {
        let (id, name) = (path.id, path.name);
        log.line(match path.health {
            Health::Down => format!("{id} ({name}): not reached so far; it joins when it can be"),
            Health::Up | Health::Suspect => format!("{id} ({name}): {}, fence {}", path.access, path.fence),
        });
    }
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

/// Starts a thread.
pub(crate) fn thread(body: impl FnOnce() + Send + 'static, name: &str) -> Result<(), Error> {
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
