//! Building a volume.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam::channel::{RecvTimeoutError, Select, Sender, TryRecvError, unbounded};

use crate::block::Limits;
use crate::buffer::Pool;
use crate::control::{Config, Promise, Supervisor, Terms, Voucher};
use crate::engine::{Common, NoPath, Sharing, Snapshot};
use crate::error::Error;
use crate::path::block_device::discover;
use crate::path::{BlockDevice, Path, QueueIndex};
use crate::policy::{MAX_PATHS, MakePolicy, RoundRobin};
use crate::time::Tick;

use super::conductor::{Conductor, Helper};
use super::control_thread;
use super::helper::{self, Connected};
use super::queue::{Queue, QueueSetup};
use super::shared::{Absentee, Connection, Line, Message, Newcomer, Prospect, Reaping, Shared};
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
    pub(crate) late_after: Duration,
    pub(crate) suspect_after: Duration,
    pub(crate) max_retries: u32,
    pub(crate) sharing: Sharing,
    pub(crate) probe_interval: Duration,
    pub(crate) check_interval: Duration,
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
            late_after: Duration::from_millis(3),
            suspect_after: Duration::from_secs(5),
            max_retries: u32::MAX,
            sharing: Sharing::Shared,
            probe_interval: Duration::from_secs(1),
            check_interval: Duration::from_secs(5),
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
        check_patience("probe_interval", self.probe_interval)?;
        check_patience("check_interval", self.check_interval)
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
    start_timeout: Duration,
    minimum_paths: u32,
    paths: Vec<Unstarted>,
    /// The logical unit whose ways are to be paths.
    unit: Option<String>,
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
        Self {
            settings: Settings::default(),
            connect_timeout: CONNECT_TIMEOUT,
            start_timeout: CONNECT_TIMEOUT,
            minimum_paths: 1,
            paths: Vec::new(),
            unit: None,
        }
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

    /// Makes a path of each way that this host has to a logical unit and that nobody uses, by the name that
    /// [`discover`](crate::discover) and `multipath -ll` show; and keeps up with them while the volume works, as
    /// [`Volume::follow_unit`] does.
    #[must_use]
    pub fn discover(mut self, wwid: impl Into<String>) -> Self {
        self.unit = Some(wwid.into());
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

    /// How many paths must have connected for the volume to start; 1 unless told otherwise. One that cannot be reached then
    /// ([`Error::Unreachable`], [`Error::Os`]) is down, and comes up when it can; an event says what is wrong with it. One that leads
    /// elsewhere, or that another program has, is refused all the same ([`Error::Path`]).
    #[must_use]
    pub fn minimum_paths(mut self, paths: u32) -> Self {
        self.minimum_paths = paths;
        self
    }

    /// How long [`build`](Self::build) waits for further paths when it has its [`minimum_paths`](Self::minimum_paths); 30 s unless
    /// told otherwise. Without them it waits for as long as the [`connect_timeout`](Self::connect_timeout).
    ///
    /// Less than a path's [`claim_timeout`](crate::path::BlockDevice::claim_timeout) is at your own risk: what a predecessor that was
    /// killed had sent over that path may still land.
    #[must_use]
    pub fn start_timeout(mut self, time: Duration) -> Self {
        self.start_timeout = time;
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

    /// How often a request may be tried again that paths have failed; any number of times unless told otherwise. A request that
    /// breaks every path that it touches then ends ([`Error::EveryPathFailed`]) before it has broken them often.
    #[must_use]
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.settings.max_retries = retries;
        self
    }

    /// Who writes to the device; [`Sharing::Shared`] unless told otherwise.
    #[must_use]
    pub fn sharing(mut self, sharing: Sharing) -> Self {
        self.settings.sharing = sharing;
        self
    }

    /// The least age at which a read or a write can count as late: its path is then asked whether it works, and what may be done
    /// twice goes another way. Above it that is found from the path's own pace; 3 ms unless told otherwise. With more than
    /// [`suspect_after`](Self::suspect_after) nothing is late before it makes its path suspect.
    #[must_use]
    pub fn late_after(mut self, age: Duration) -> Self {
        self.settings.late_after = age;
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

    /// Time between two looks at a path that is up, so that one which is seldom used is not found dead when it is needed; 5 s
    /// unless told otherwise.
    #[must_use]
    pub fn check_interval(mut self, interval: Duration) -> Self {
        self.settings.check_interval = interval;
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

    /// Connects every path, checks that they lead to one device, and starts the volume. The first path that has connected sets
    /// block size and capacity; the limits are the strictest of all that have.
    ///
    /// # Errors
    /// [`Error::NoPaths`], [`Error::Setting`], or, for the first path that leads elsewhere or, where too few have connected, that
    /// has not, why. Nothing is left behind: each path is dropped, by its own thread, as soon as its code returns.
    pub fn build(mut self) -> Result<Volume, Error> {
        let unit = self.unit.take();
        if let Some(wwid) = &unit {
            for device in devices(wwid)? {
                self = self.path(device);
            }
        }
        let volume = self.assembled()?;
        if unit.is_some() {
            volume.follow_unit(|volume, way| {
                // It is tried again.
                let _ = volume.add_path(BlockDevice::new(&way.node));
            })?;
        }
        Ok(volume)
    }

    fn assembled(self) -> Result<Volume, Error> {
        let Self { settings, connect_timeout, start_timeout, minimum_paths, paths, unit: _ } = self;
        settings.check()?;
        check_patience("connect_timeout", connect_timeout)?;
        if paths.is_empty() {
            return Err(Error::NoPaths);
        }
        if paths.len() > MAX_PATHS {
            let problem = format!("{} are more than the {MAX_PATHS} that a volume can have", paths.len());
            return Err(Error::setting("paths", problem));
        }
        let minimum = minimum_paths as usize;
        if !(1..=paths.len()).contains(&minimum) {
            let problem = format!("{minimum} is not between 1 and the number of paths, {}", paths.len());
            return Err(Error::setting("minimum_paths", problem));
        }
        let rule = StartRule { connect: connect_timeout, start: start_timeout.min(connect_timeout), minimum };
        let prospects = rule.connect_all(settings.queues, paths)?;
        let (messages, inbox) = unbounded();
        let assembled = assemble(&settings, prospects, (messages, Reaping::Thread), Tick::now())?;
        let Assembled { shared, queues, conductor } = assembled;
        control_thread::start(conductor, inbox)?;
        let queues = Mutex::new(queues.into_iter().map(Some).collect());
        let inner =
            Inner { shared, queues, queue_count: settings.queues, connect_timeout, lines: Mutex::default() };
        Ok(Volume { inner: Arc::new(inner) })
    }
}

/// The ways to a unit.
fn devices(wwid: &str) -> Result<Vec<BlockDevice>, Error> {
    let units = discover::units();
    let Some(unit) = units.iter().find(|unit| unit.wwid == wwid) else {
        let problem =
            "no logical unit of this host is called so; discover::units() lists those that there are";
        return Err(Error::path(wwid, problem));
    };
    let devices: Vec<BlockDevice> = unit.devices().collect();
    if devices.is_empty() {
        let uses = unit
            .paths
            .iter()
            .map(|way| format!("{} {}", way.node.display(), way.used_by.as_deref().unwrap_or("is free")));
        let problem = format!("every way to it is in use: {}", uses.collect::<Vec<_>>().join(", "));
        return Err(Error::path(wwid, problem));
    }
    Ok(devices)
}

/// How many paths are waited for, and for how long.
#[derive(Clone, Copy, Debug)]
struct StartRule {
    connect: Duration,
    start: Duration,
    minimum: usize,
}

impl StartRule {
    /// Connects all paths at once, each on its own thread.
    fn connect_all(self, queues: u16, paths: Vec<Unstarted>) -> Result<Vec<Prospect>, Error> {
        let began = Tick::now();
        let mut started = Vec::with_capacity(paths.len());
        for Unstarted { name, terms, start } in paths {
            let (helper, connected) = start(queues)?;
            started.push(Started { name, terms, helper, connected, result: None });
        }
        self.collect(began, &mut started);
        let count = connected(&started);
        let mut prospects = Vec::with_capacity(started.len());
        for Started { name, terms, helper, result, .. } in started {
            let result = result.unwrap_or_else(|| Err(not_connected(&name, self.connect)));
            prospects.push(match result {
                Ok(connection) => Prospect::Here(Box::new(Newcomer { name, terms, connection, helper })),
                Err(error) if count < self.minimum || !error.may_pass() => return Err(error),
                Err(_) => Prospect::Absent(Absentee { name, terms, helper }),
            });
        }
        Ok(prospects)
    }

    /// Takes in what the paths answer, until all have, or enough have and the time to start is over.
    fn collect(self, began: Tick, started: &mut [Started]) {
        loop {
            let time = if connected(started) >= self.minimum { self.start } else { self.connect };
            let left = began.after(time).since(Tick::now());
            let open: Vec<usize> =
                (0..started.len()).filter(|&path| started[path].result.is_none()).collect();
            if open.is_empty() {
                return;
            }
            let mut select = Select::new();
            for &path in &open {
                select.recv(&started[path].connected);
            }
            let Ok(ready) = select.ready_timeout(left) else { return };
            let path = &mut started[open[ready]];
            path.result = match path.connected.try_recv() {
                Ok(result) => Some(result),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => {
                    Some(Err(Error::path(path.name.clone(), "its code failed on connecting")))
                }
            };
        }
    }
}

/// A path whose thread connects it.
struct Started {
    name: String,
    terms: Terms,
    helper: Box<dyn Helper>,
    connected: Connected,
    result: Option<Result<Connection, Error>>,
}

/// How many have connected.
fn connected(started: &[Started]) -> usize {
    started.iter().filter(|path| matches!(path.result, Some(Ok(_)))).count()
}

fn not_connected(name: &str, time: Duration) -> Error {
    let problem = format!(
        "did not connect within {} ms: see what it waits for, or allow it more time (connect_timeout)",
        time.as_millis()
    );
    Error::unreachable(name, problem)
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
    match connected.recv_timeout(patience.end.since(Tick::now())) {
        Ok(connection) => Ok(Newcomer { name, terms, connection: connection?, helper }),
        Err(RecvTimeoutError::Timeout) => Err(not_connected(&name, patience.time)),
        Err(RecvTimeoutError::Disconnected) => Err(Error::path(name, "its code failed on connecting")),
    }
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
    prospects: Vec<Prospect>,
    (messages, reaping): (Sender<Message>, Reaping),
    now: Tick,
) -> Result<Assembled, Error> {
    let descriptions = || {
        prospects.iter().filter_map(|prospect| match prospect {
            Prospect::Here(newcomer) => Some(&newcomer.connection.description),
            Prospect::Absent(_) => None,
        })
    };
    let Some(first) = descriptions().next() else { return Err(Error::NoPaths) };
    let geometry = first.geometry;
    let limits =
        descriptions().fold(first.limits, |limits: Limits, description| limits.minimum(description.limits));
    let promise = Promise { geometry, limits };
    let common = Arc::new(Common::new(settings.queues, geometry));
    let config = Config {
        queues: settings.queues,
        promise,
        probe_interval: settings.probe_interval,
        probe_timeout: settings.suspect_after,
        check_interval: settings.check_interval,
    };
    let supervisor =
        Supervisor::new(config, settings.no_path, Arc::clone(&settings.make), Arc::clone(&common));
    let shared = Arc::new(Shared {
        limits,
        snapshot: Arc::new(ArcSwap::from_pointee(Snapshot::new(
            settings.no_path,
            Arc::clone(&settings.make),
        ))),
        common,
        messages,
        reaping,
        process: std::process::id(),
    });
    let (queues, lines) = make_queues(settings, &shared)?;
    let mut conductor = Conductor::new(supervisor, Arc::clone(&shared), lines);
    for prospect in prospects {
        match prospect {
            Prospect::Here(newcomer) => conductor.join(now, *newcomer)?,
            Prospect::Absent(absentee) => conductor.expect(now, absentee)?,
        };
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
            late_after: settings.late_after,
            suspect_after: settings.suspect_after,
            max_retries: settings.max_retries,
            sharing: settings.sharing,
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
