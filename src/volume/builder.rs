//! Building a volume.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam::channel::{RecvTimeoutError, Sender, unbounded};

use crate::block::Limits;
use crate::buffer::Pool;
use crate::control::{Config, Promise, Supervisor, Terms, Voucher};
use crate::engine::{Common, NoPath, Snapshot};
use crate::error::Error;
use crate::path::{Path, QueueIndex};
use crate::policy::{MAX_PATHS, MakePolicy, RoundRobin};
use crate::time::Tick;

use super::conductor::{Conductor, Helper};
use super::control_thread;
use super::helper::{self, Connected};
use super::queue::{Queue, QueueSetup};
use super::shared::{Line, Message, Newcomer, Reaping, Shared};
use super::{Inner, Volume};

/// Most queues in a volume.
const MAX_QUEUES: u16 = 1024;
/// Most requests in a queue.
const MAX_DEPTH: u32 = 65_536;
/// Most requests in all queues of a volume: some 600 MB of tables.
const MAX_REQUESTS: u32 = 1 << 20;
/// Shortest time after which silence may count against a path.
const LEAST_PATIENCE: Duration = Duration::from_millis(1);
/// How long a path may take to connect for the first time, unless told otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// What the caller says of a path.
///
/// ```
/// use mpio::PathOptions;
///
/// let twice_the_share = PathOptions::new().weight(2);
/// # let _ = twice_the_share;
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct PathOptions {
    terms: Terms,
}

impl PathOptions {
    /// Weight 1, rank 0, membership by identifier.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its share of the I/O, for policies that heed it; at least 1.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.terms.weight = weight;
        self
    }

    /// Its place in the order of preference, for policies that heed it: lower comes first.
    #[must_use]
    pub fn rank(mut self, rank: u32) -> Self {
        self.terms.rank = rank;
        self
    }

    /// The caller vouches that the path leads to the volume's device, where it has no identifier to compare. A path
    /// whose identifiers say otherwise is refused all the same.
    #[must_use]
    pub fn assert_same(mut self) -> Self {
        self.terms.voucher = Voucher::Caller;
        self
    }

    pub(crate) fn terms(self) -> Terms {
        self.terms
    }
}

/// Settings that a volume has whatever its paths are called through.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) make: Arc<dyn MakePolicy>,
    pub(crate) queues: u16,
    pub(crate) depth: u32,
    pub(crate) no_path: NoPath,
    pub(crate) suspect_after: Duration,
    pub(crate) probe_interval: Duration,
    pub(crate) seed: u64,
    pub(crate) pools: Vec<Pool>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            make: Arc::new(RoundRobin::default()),
            queues: 1,
            depth: 256,
            no_path: NoPath::hold(Duration::from_secs(30)),
            suspect_after: Duration::from_secs(5),
            probe_interval: Duration::from_secs(1),
            seed: 0x6d70_696f,
            pools: Vec::new(),
        }
    }
}

impl Settings {
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !(1..=MAX_QUEUES).contains(&self.queues) {
            let problem = format!("{} is not between 1 and {MAX_QUEUES}", self.queues);
            return Err(Error::setting("queues", problem));
        }
        if !(1..=MAX_DEPTH).contains(&self.depth) {
            let problem = format!("{} is not between 1 and {MAX_DEPTH}", self.depth);
            return Err(Error::setting("queue_depth", problem));
        }
        let all = u32::from(self.queues).saturating_mul(self.depth);
        if all > MAX_REQUESTS {
            let problem = format!(
                "{} in each of {} queues are {all} in all, more than {MAX_REQUESTS}: take less of either",
                self.depth, self.queues
            );
            return Err(Error::setting("queue_depth", problem));
        }
        check_patience("suspect_after", self.suspect_after)?;
        check_patience("probe_interval", self.probe_interval)
    }
}

fn check_patience(setting: &'static str, time: Duration) -> Result<(), Error> {
    if time < LEAST_PATIENCE {
        return Err(Error::setting(setting, format!("{time:?} is below the least of {LEAST_PATIENCE:?}")));
    }
    Ok(())
}

/// Puts a volume together. See [`Volume::builder`].
pub struct VolumeBuilder {
    settings: Settings,
    connect_timeout: Duration,
    paths: Vec<Unstarted>,
}

/// A path that has no thread yet.
struct Unstarted {
    name: String,
    terms: Terms,
    start: Start,
}

/// Starts a path's thread, for so many queues.
type Start = Box<dyn FnOnce(u16) -> Result<(Box<dyn Helper>, Connected), Error> + Send>;

impl VolumeBuilder {
    pub(super) fn new() -> Self {
        Self { settings: Settings::default(), connect_timeout: CONNECT_TIMEOUT, paths: Vec::new() }
    }

    /// Adds a path, of weight 1 and rank 0, that proves by an identifier that it leads to the same device.
    #[must_use]
    pub fn path(self, path: impl Path) -> Self {
        self.path_with(PathOptions::default(), path)
    }

    /// Adds a path with options.
    #[must_use]
    pub fn path_with(mut self, options: PathOptions, path: impl Path) -> Self {
        self.paths.push(Unstarted {
            name: helper::name(&path),
            terms: options.terms,
            start: Box::new(move |queues| helper::start(path, queues)),
        });
        self
    }

    /// How each I/O's path is chosen; round-robin unless told otherwise.
    #[must_use]
    pub fn policy(mut self, policy: impl MakePolicy) -> Self {
        self.settings.make = Arc::new(policy);
        self
    }

    /// How long a path may take to connect for the first time, here and in [`Volume::add_path`]; 30 s unless told
    /// otherwise. A path that takes longer is refused; whatever it waits for, it is dropped when that ends. Later
    /// connections take the time that they take: meanwhile the path is down.
    #[must_use]
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// Number of queues, one for each thread that does I/O; 1 unless told otherwise, at most 1024.
    #[must_use]
    pub fn queues(mut self, queues: u16) -> Self {
        self.settings.queues = queues;
        self
    }

    /// Most requests at once in each queue; 256 unless told otherwise, at most 65536, and 1048576 in all queues.
    #[must_use]
    pub fn queue_depth(mut self, depth: u32) -> Self {
        self.settings.depth = depth;
        self
    }

    /// What happens while no path is left; held for 30 seconds unless told otherwise.
    #[must_use]
    pub fn no_path(mut self, rule: NoPath) -> Self {
        self.settings.no_path = rule;
        self
    }

    /// The age at which an attempt makes its path suspect, and the time that a suspect path has to answer a probe; 5 s
    /// unless told otherwise. It never fails a request.
    #[must_use]
    pub fn suspect_after(mut self, age: Duration) -> Self {
        self.settings.suspect_after = age;
        self
    }

    /// Time between two probes of a path that is down, doubling up to 16 times that; 1 s unless told otherwise.
    #[must_use]
    pub fn probe_interval(mut self, interval: Duration) -> Self {
        self.settings.probe_interval = interval;
        self
    }

    /// Registers a pool with the kernel, so that I/O on its buffers need not map them each time.
    #[must_use]
    pub fn pool(mut self, pool: &Pool) -> Self {
        self.settings.pools.push(pool.clone());
        self
    }

    /// Seed of all random choices.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// Connects every path, checks that they lead to one device, and starts the volume. The first path sets block size
    /// and capacity; the limits are the strictest of all.
    ///
    /// # Errors
    /// [`Error::NoPaths`], [`Error::Setting`], or, for the first path that cannot be used, why. Nothing is left behind:
    /// each path is dropped, by its own thread, as soon as its code returns.
    pub fn build(self) -> Result<Volume, Error> {
        let Self { settings, connect_timeout, paths } = self;
        settings.check()?;
        check_patience("connect_timeout", connect_timeout)?;
        if paths.is_empty() {
            return Err(Error::NoPaths);
        }
        if paths.len() > MAX_PATHS {
            let problem = format!("{} are more than the {MAX_PATHS} that a volume can have", paths.len());
            return Err(Error::setting("paths", problem));
        }
        let newcomers = connect_all(settings.queues, connect_timeout, paths)?;
        let (messages, inbox) = unbounded();
        let assembled = assemble(&settings, newcomers, (messages, Reaping::Thread), Tick::now())?;
        let Assembled { shared, queues, conductor } = assembled;
        control_thread::start(conductor, inbox)?;
        let queues = Mutex::new(queues.into_iter().map(Some).collect());
        let inner = Inner { shared, queues, queue_count: settings.queues, connect_timeout };
        Ok(Volume { inner: Arc::new(inner) })
    }
}

/// Connects all paths at once, each on its own thread.
fn connect_all(queues: u16, timeout: Duration, paths: Vec<Unstarted>) -> Result<Vec<Newcomer>, Error> {
    let patience = Patience::new(timeout);
    let mut started = Vec::with_capacity(paths.len());
    for Unstarted { name, terms, start } in paths {
        let (helper, connected) = start(queues)?;
        started.push((name, terms, helper, connected));
    }
    let mut newcomers = Vec::with_capacity(started.len());
    for (name, terms, helper, connected) in started {
        newcomers.push(newcomer(name, terms, helper, &connected, patience)?);
    }
    Ok(newcomers)
}

/// How long paths may take that connect at the same time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    time: Duration,
    end: Tick,
}

impl Patience {
    /// From now on.
    pub(super) fn new(time: Duration) -> Self {
        Self { time, end: Tick::now().after(time) }
    }
}

/// Waits for a path's first connection.
pub(super) fn newcomer(
    name: String,
    terms: Terms,
    helper: Box<dyn Helper>,
    connected: &Connected,
    patience: Patience,
) -> Result<Newcomer, Error> {
    let problem = match connected.recv_timeout(patience.end.since(Tick::now())) {
        Ok(connection) => return Ok(Newcomer { name, terms, connection: connection?, helper }),
        Err(RecvTimeoutError::Timeout) => format!(
            "did not connect within {} ms: see what it waits for, or allow it more time (connect_timeout)",
            patience.time.as_millis()
        ),
        Err(RecvTimeoutError::Disconnected) => "its code failed on connecting".to_owned(),
    };
    Err(Error::path(name, problem))
}

/// A volume's parts before anything runs.
pub(crate) struct Assembled {
    pub(crate) shared: Arc<Shared>,
    pub(crate) queues: Vec<Queue>,
    pub(crate) conductor: Conductor,
}

/// Puts a volume together from paths that have connected: for threads as for the simulator.
pub(crate) fn assemble(
    settings: &Settings,
    newcomers: Vec<Newcomer>,
    (messages, reaping): (Sender<Message>, Reaping),
    now: Tick,
) -> Result<Assembled, Error> {
    let Some(first) = newcomers.first() else { return Err(Error::NoPaths) };
    let geometry = first.connection.description.geometry;
    let limits = newcomers.iter().fold(first.connection.description.limits, |limits: Limits, newcomer| {
        limits.minimum(newcomer.connection.description.limits)
    });
    let promise = Promise { geometry, limits };
    let common = Arc::new(Common::new(settings.queues));
    let config = Config {
        queues: settings.queues,
        promise,
        probe_interval: settings.probe_interval,
        probe_timeout: settings.suspect_after,
    };
    let supervisor =
        Supervisor::new(config, settings.no_path, Arc::clone(&settings.make), Arc::clone(&common));
    let shared = Arc::new(Shared {
        geometry,
        limits,
        snapshot: Arc::new(ArcSwap::from_pointee(Snapshot::new(
            settings.no_path,
            Arc::clone(&settings.make),
        ))),
        common,
        messages,
        reaping,
    });
    let (queues, lines) = make_queues(settings, &shared)?;
    let mut conductor = Conductor::new(supervisor, Arc::clone(&shared), lines);
    for newcomer in newcomers {
        conductor.join(now, newcomer)?;
    }
    conductor.turn(now);
    Ok(Assembled { shared, queues, conductor })
}

fn make_queues(settings: &Settings, shared: &Arc<Shared>) -> Result<(Vec<Queue>, Vec<Line>), Error> {
    let mut queues = Vec::new();
    let mut lines = Vec::new();
    for index in 0..settings.queues {
        let (sender, inbox) = unbounded();
        let queue = Queue::new(QueueSetup {
            index: QueueIndex(index),
            depth: settings.depth,
            suspect_after: settings.suspect_after,
            seed: settings.seed.wrapping_add(u64::from(index)),
            pools: settings.pools.clone(),
            inbox,
            shared: Arc::clone(shared),
        })?;
        if let Some(bell) = queue.bell() {
            lines.push(Line { inbox: sender, bell });
        }
        queues.push(queue);
    }
    Ok((queues, lines))
}
