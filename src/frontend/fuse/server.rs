//! A volume being served.

use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::block::LiveGeometry;
use crate::error::Error;
use crate::os;
use crate::time::Tick;
use crate::volume::{Queue, Submitter};

use super::channel::Channel;
use super::keeper::{self, Attached, Wish};
use super::life::Life;
use super::mount::Mount;
use super::protocol::{Answer, HEADER, Message, Negotiated, Received, WRITE_HEAD, decode};
use super::shape::Shape;
use super::station::Station;
use super::worker::{Parts, Worker};
use super::{Buffers, Options, timeouts};

/// How long the kernel may take to begin.
const GREETING: Duration = Duration::from_secs(10);

/// A volume that the kernel offers as a loop device, for as long as this lives.
///
/// Dropping it is [`abort`](Self::abort): call [`stop`](Self::stop) first.
#[derive(Debug)]
pub struct Server {
    geometry: LiveGeometry,
    device: PathBuf,
    connection: u64,
    life: Arc<Life>,
}

/// Why a server serves no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// The loop device was detached after [`stop`](Server::stop), and everything was answered.
    Detached,
    /// The connection was aborted, by [`abort`](Server::abort), an administrator or a time limit of the kernel's: all I/O
    /// on the device fails.
    Aborted,
    /// A thread of the server failed, as the text says; all I/O on the device fails.
    Failed(String),
}

impl Server {
    /// Serves the volume of `queues`, each on a thread of its own, and returns when the device is there.
    ///
    /// # Errors
    /// What the system lacks and what to do about it. Nothing is left behind.
    pub fn start(mut queues: Vec<Queue>, buffers: Buffers, options: &Options) -> Result<Self, Error> {
        for queue in &mut queues {
            // It is made at the first call.
            queue.wake_fd()?;
        }
        Self::serve(queues, buffers, options)
    }

    /// The same through submitters, whose queues a dispatcher polls.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_through(
        submitters: Vec<Submitter>,
        buffers: Buffers,
        options: &Options,
    ) -> Result<Self, Error> {
        Self::serve(submitters, buffers, options)
    }

    pub(super) fn serve<S: Station>(
        stations: Vec<S>,
        buffers: Buffers,
        options: &Options,
    ) -> Result<Self, Error> {
        let Some(first) = stations.first() else {
            return Err(Error::setting("queues", "a server needs at least one"));
        };
        let (geometry, limits) = (first.live_geometry(), first.limits());
        let is_another = |station: &S| !station.live_geometry().is_that_of(&geometry);
        if stations.iter().any(is_another) {
            return Err(Error::setting("queues", "they are not of one volume"));
        }
        let shape = Shape::new(geometry.clone(), limits)?;
        if let Some(hold) = options.hold {
            timeouts::check(hold)?;
        }
        let pieces = buffers.split();
        if pieces.len() < stations.len() {
            let problem = format!("they are for {} queues, and there are {}", pieces.len(), stations.len());
            return Err(Error::setting("buffers", problem));
        }
        let channel = Channel::open()?;
        let mount = Mount::new(&channel, shape.transfer())?;
        greet(&channel, &shape)?;
        let mut channels = Vec::with_capacity(stations.len());
        for _ in 1..stations.len() {
            channels.push(channel.another()?);
        }
        channels.push(channel);
        // From here on, to drop it ends what was started.
        let mut server = Self { geometry, device: PathBuf::new(), connection: 0, life: Arc::default() };
        for ((station, pieces), channel) in stations.into_iter().zip(pieces).zip(channels) {
            let staging = pieces.stage().ok_or_else(|| Error::setting("buffers", "they are in use"))?;
            let (life, deadline) = (Arc::clone(&server.life), options.deadline);
            let shape = shape.clone();
            start(Parts { station, shape, pieces, staging, deadline, life }, channel)?;
        }
        let wish = Wish {
            geometry: server.geometry.clone(),
            name: options.name.clone().unwrap_or_else(|| "mpio".to_owned()),
            device: options.device.clone(),
        };
        Attached { device: server.device, connection: server.connection } =
            keeper::start(mount, wish, &server.life.standing)?;
        Ok(server)
    }

    /// The node of the loop device.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// The number under which the kernel lists the connection, in `/sys/fs/fuse/connections`.
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// Why it serves no longer, `None` while it does.
    pub fn ended(&self) -> Option<Ended> {
        self.ended_within(Duration::ZERO)
    }

    /// Waits for the end for at most `timeout`; `None` if it serves on.
    pub fn ended_within(&self, timeout: Duration) -> Option<Ended> {
        self.life.standing.ended_within(timeout)
    }

    /// Ends in good order: what the kernel has cached is written, everything is answered, the device detached.
    ///
    /// If others still have the device open (it is mounted, say), it is detached when the last of them closes it, and
    /// is served until then.
    ///
    /// # Errors
    /// [`Error::Os`]: with `EBUSY` if it takes longer than `grace`, with the reason if what the kernel has cached could
    /// not be written; in both cases the server goes on serving, and `stop` can be called again. With `ECONNABORTED` if
    /// the server had ended otherwise before.
    pub fn stop(&self, grace: Duration) -> Result<(), Error> {
        self.life.standing.stop(&self.device.display().to_string(), grace)
    }

    /// Has the device take over the size of the volume, after [`Volume::grow`](crate::Volume::grow).
    ///
    /// # Errors
    /// [`Error::Os`] if the kernel does not, has not within `patience`, or if the server has ended.
    pub fn resize(&self, patience: Duration) -> Result<(), Error> {
        let bytes = self.geometry.get().bytes();
        self.life.standing.resize(&self.device.display().to_string(), bytes, patience)
    }

    /// Ends at once: requests that are not answered fail, as does all I/O on the device from then on; what the kernel
    /// has cached is lost. Never waits.
    pub fn abort(&self) {
        self.life.abort();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.abort();
    }
}

/// Answers the kernel's first request.
fn greet(channel: &Channel, shape: &Shape) -> Result<(), Error> {
    let until = Tick::now().after(GREETING);
    let refused = |problem: &str| Error::setting("kernel", format!("cannot serve a block device: {problem}"));
    let (mut head, mut rest) = ([0; WRITE_HEAD], vec![0; super::buffers::LARGE as usize]);
    loop {
        let len = match channel.receive(&mut head, &mut rest) {
            Ok(len) => len,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && Tick::now() < until => {
                os::sleep_on(&mut [os::polled(Some(channel.as_fd()))], Some(until));
                continue;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(Error::os("waiting for the kernel's first FUSE request", source)),
        };
        let Some(call) = decode(Received::new(&head, &rest, len)) else {
            return Err(refused(&format!("its first request has {len} bytes, of at least {HEADER}")));
        };
        let Message::Init(init) = call.message else {
            return Err(refused("its first FUSE request is another than INIT"));
        };
        let (answer, negotiated) = Answer::init(call.unique, &init, shape.terms());
        let sent = channel.send(&answer, &[]);
        sent.map_err(|source| Error::os("answering the kernel's first FUSE request", source))?;
        match negotiated {
            Negotiated::Yes => return Ok(()),
            Negotiated::Again => {}
            Negotiated::No(lack) => return Err(refused(lack)),
        }
    }
}

/// Starts a thread that serves.
fn start<S: Station>(parts: Parts<S>, channel: Channel) -> Result<(), Error> {
    let life = Arc::clone(&parts.life);
    life.join(parts.station.bell());
    let mut worker = Worker::new(parts);
    let thread = Arc::clone(&life);
    let started = os::spawn_io_thread("mpio-fuse", move || {
        let served = catch_unwind(AssertUnwindSafe(|| worker.serve(&channel)));
        let _ = catch_unwind(AssertUnwindSafe(|| worker.let_go()));
        // Now the kernel answers, with an error, what this thread has not.
        drop(channel);
        let sound = served.is_ok();
        thread.leave(served.unwrap_or_else(|_| Ended::Failed("a thread of the server panicked".to_owned())));
        let _ = catch_unwind(AssertUnwindSafe(move || {
            if sound {
                worker.drain();
            }
            drop(worker);
        }));
    });
    started.inspect_err(|error| life.leave(Ended::Failed(error.to_string())))
}
