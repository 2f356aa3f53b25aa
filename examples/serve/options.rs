//! The command line.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mpio::path::FenceSupport;
use mpio::policy::{self, MakePolicy};
use mpio::{NoPath, Sharing, discover};

use crate::units;

pub(crate) const HELP: &str = "\
One volume over several paths, served as a block device of this machine.

Usage: serve --path DEV_OR_FILE [--path DEV_OR_FILE ...] [OPTIONS]
       serve --unit WWID [OPTIONS]
       serve --list

The first line on standard output is the device's name, such as /dev/loop3, once it can
be used. Everything else is on standard error. Needs root and /dev/fuse.

Paths:
  --path DEV_OR_FILE    a way to the storage: a block device or a regular file
  --unit WWID           all ways that this host has to a logical unit, by the name that
                        multipath -ll shows; further ones are added when they come, and those
                        that are gone for ten minutes are removed
  --list                shows the logical units of this host and their ways, and ends
  --assert-same         the paths lead to one device: take my word where there is no
                        identifier to compare
  --claim-timeout TIME  how long to wait for a path that another process still holds, such as
                        a killed predecessor whose writes are under way, or none (default 1h)

Volume:
  --policy NAME         failover, round-robin, least-queue or adaptive (default round-robin)
  --queues N            queues, with a thread each, 1 to 64 (default 1)
  --hand-off HOW        direct: the threads that take requests from the kernel poll the
                        queues; lane: dispatcher threads poll them, and requests cross over
                        through lock-free lanes (default direct, the faster)
  --queue-depth N       most requests at once in each queue, 1 to 16384 (default 256)
  --no-path RULE        while no path is left, requests fail, or hold:TIME (default hold:30s). A
                        write whose fate is unknown waits for its fence all the same, for as
                        long as its --deadline allows
  --timeout TIME        age at which an attempt makes its path suspect (default 5s); sooner if it
                        is late for that path, and the path does not answer when it is asked. It
                        never fails a request
  --minimum-paths N     paths that must work for the volume to start (default 1). The others are
                        down, and come up when they can
  --start-timeout TIME  how long it waits for them, beside their claims (default 5s)
  --deadline TIME       age at which a request fails, or none (default none)
  --sharing WHO         who writes to the storage. shared: other hosts may, and a write whose
                        fate is unknown is sent again only when its first try can no longer
                        land; exclusive: nobody else does, as under a local file system, and
                        it is sent again at once (default shared)
  --fence HOW           how it is known that an earlier write can no longer land. path: what the
                        kind of path allows; TIME: it is assumed so long after everything sent
                        was answered; hold: only the device's answer counts, or the command
                        vouch; resend: nobody knows, and it is sent again at once all the same,
                        at the risk of old data over newer (default path)

Device:
  --frontend NAME       how it is served: fuse (default fuse)
  --device DEVICE       the loop device to attach, such as /dev/loop3: the same name after
                        each start (default: the first that is free)
  --control SOCKET      takes commands on a Unix socket: send it the line help

TIME is a whole number with us, ms, s, m, h or d, such as 20ms. --name=VALUE will do as well.

SIGTERM, SIGINT and SIGHUP end it in good order: a device that is in use, also by a program
whose I/O waits for a path or for a fence, is served until it is released. A second signal ends
it at once; what is then under way is lost.

Exit code: 0 it was asked to end, 1 serving failed, 2 wrong options, 3 it could not start,
4 it was made to end while the device was in use or requests were under way.";

/// What the command line asks for.
pub(crate) enum Wish {
    Serve(Box<Options>),
    List,
    Help,
}

/// Why paths without a common identifier may be one volume's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sameness {
    Proven,
    Asserted,
}

/// Which paths there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ways {
    /// Those that are named.
    Named,
    /// Also what comes to lead to the same unit.
    All,
}

/// How requests come from the threads of the front-end to the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandOff {
    /// The threads poll the queues themselves.
    Direct,
    /// Dispatchers do.
    Lane,
}

impl HandOff {
    /// As the command line calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Lane => "lane",
        }
    }
}

pub(crate) struct Options {
    pub(crate) paths: Vec<PathBuf>,
    /// Whether they are all that lead to a unit, and are kept so.
    pub(crate) ways: Ways,
    pub(crate) sameness: Sameness,
    /// `None` for ever.
    pub(crate) claim_timeout: Option<Duration>,
    pub(crate) policy: Arc<dyn MakePolicy>,
    pub(crate) queues: u16,
    pub(crate) hand_off: HandOff,
    pub(crate) queue_depth: u32,
    pub(crate) no_path: NoPath,
    pub(crate) timeout: Duration,
    pub(crate) minimum_paths: u32,
    pub(crate) start_timeout: Duration,
    pub(crate) deadline: Option<Duration>,
    pub(crate) sharing: Sharing,
    /// `None`: what the kind of path allows.
    pub(crate) fence: Option<FenceSupport>,
    pub(crate) frontend: &'static str,
    pub(crate) device: Option<PathBuf>,
    pub(crate) control: Option<PathBuf>,
}

/// Most queues, each of which has a thread.
const MOST_QUEUES: u16 = 64;
/// Most requests in a queue.
const MOST_DEPTH: u32 = 16_384;
/// A volume takes no less.
const LEAST_TIMEOUT: Duration = Duration::from_millis(1);

/// The names of the front-ends.
const FRONTENDS: [&str; 1] = ["fuse"];

impl Options {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// What is wrong and what would not be.
    pub(crate) fn read(arguments: impl Iterator<Item = OsString>) -> Result<Wish, String> {
        let mut arguments = Arguments { rest: arguments, seen: BTreeSet::new() };
        let mut options = Self::new()?;
        while let Some((name, value)) = arguments.next()? {
            if matches!(name.as_str(), "-h" | "--help") {
                return Ok(Wish::Help);
            }
            if name == "--list" {
                return Ok(Wish::List);
            }
            options.take(&name, value, &mut arguments).map_err(|problem| format!("{name}: {problem}"))?;
        }
        if options.paths.is_empty() {
            return Err(
                "no path is given; name a block device or a file with --path, or a logical unit with --unit"
                    .to_owned(),
            );
        }
        Ok(Wish::Serve(Box::new(options)))
    }

    fn new() -> Result<Self, String> {
        Ok(Self {
            paths: Vec::new(),
            ways: Ways::Named,
            sameness: Sameness::Proven,
            claim_timeout: Some(Duration::from_hours(1)),
            policy: policy("round-robin")?,
            queues: 1,
            hand_off: HandOff::Direct,
            queue_depth: 256,
            no_path: NoPath::hold(Duration::from_secs(30)),
            timeout: Duration::from_secs(5),
            minimum_paths: 1,
            start_timeout: Duration::from_secs(5),
            deadline: None,
            sharing: Sharing::Shared,
            fence: None,
            frontend: FRONTENDS[0],
            device: None,
            control: None,
        })
    }

    fn take<I: Iterator<Item = OsString>>(
        &mut self,
        name: &str,
        value: Option<OsString>,
        arguments: &mut Arguments<I>,
    ) -> Result<(), String> {
        if name == "--assert-same" {
            self.sameness = Sameness::Asserted;
            return if value.is_some() { Err("takes no value".to_owned()) } else { Ok(()) };
        }
        if !NAMES.contains(&name) {
            return Err("there is no such option".to_owned());
        }
        let value = arguments.value(name, value)?;
        match name {
            "--path" => self.paths.push(file(value)?),
            "--device" => self.device = Some(file(value)?),
            "--control" => self.control = Some(file(value)?),
            _ => self.set(name, value.to_str().ok_or("is not text")?)?,
        }
        Ok(())
    }

    fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
        match name {
            "--unit" => {
                self.paths.extend(ways(text)?);
                self.ways = Ways::All;
            }
            "--claim-timeout" => self.claim_timeout = units::duration_or_none(text)?,
            "--policy" => self.policy = policy(text)?,
            "--queues" => self.queues = number(text, 1..=MOST_QUEUES)?,
            "--hand-off" => self.hand_off = hand_off(text)?,
            "--queue-depth" => self.queue_depth = number(text, 1..=MOST_DEPTH)?,
            "--no-path" => self.no_path = units::no_path(text)?,
            "--timeout" => self.timeout = timeout(text)?,
            "--minimum-paths" => self.minimum_paths = number(text, 1..=64)?,
            "--start-timeout" => self.start_timeout = units::duration(text)?,
            "--sharing" => self.sharing = sharing(text)?,
            "--fence" => self.fence = fence(text)?,
            "--deadline" => self.deadline = units::duration_or_none(text)?,
            _ => self.frontend = frontend(text)?,
        }
        if self.deadline.is_some_and(|span| span.is_zero()) {
            return Err("a request would fail at once; give a longer time, or none".to_owned());
        }
        Ok(())
    }
}

/// The options that take a value.
const NAMES: [&str; 17] = [
    "--path",
    "--unit",
    "--device",
    "--control",
    "--claim-timeout",
    "--policy",
    "--queues",
    "--hand-off",
    "--queue-depth",
    "--no-path",
    "--timeout",
    "--deadline",
    "--minimum-paths",
    "--start-timeout",
    "--sharing",
    "--fence",
    "--frontend",
];

/// The words of the command line, taken apart.
struct Arguments<I> {
    rest: I,
    seen: BTreeSet<String>,
}

impl<I: Iterator<Item = OsString>> Arguments<I> {
    /// The next option, with the value after its `=`.
    fn next(&mut self) -> Result<Option<(String, Option<OsString>)>, String> {
        let Some(word) = self.rest.next() else { return Ok(None) };
        let bytes = word.as_bytes();
        if !bytes.starts_with(b"-") {
            return Err(format!("{}: is no option; name paths with --path", word.display()));
        }
        let end = bytes.iter().position(|&byte| byte == b'=');
        let (name, value) = match end {
            Some(end) => (&bytes[..end], Some(OsStr::from_bytes(&bytes[end + 1..]).to_owned())),
            None => (bytes, None),
        };
        Ok(Some((String::from_utf8_lossy(name).into_owned(), value)))
    }

    /// The value of the option, here or in the next word.
    fn value(&mut self, name: &str, value: Option<OsString>) -> Result<OsString, String> {
        if !self.seen.insert(name.to_owned()) && name != "--path" {
            return Err("is given twice".to_owned());
        }
        value.or_else(|| self.rest.next()).ok_or_else(|| "needs a value".to_owned())
    }
}

/// The policy of that name.
///
/// # Errors
/// The names that there are.
pub(crate) fn policy(name: &str) -> Result<Arc<dyn MakePolicy>, String> {
    policy::by_name(name).map_err(|error| match error {
        mpio::Error::Setting { problem, .. } => problem,
        error => error.to_string(),
    })
}

fn frontend(name: &str) -> Result<&'static str, String> {
    let known = FRONTENDS.into_iter().find(|&known| known == name);
    let names = FRONTENDS.join(", ");
    known.ok_or_else(|| format!("no front-end is called {name:?}; there is {names}"))
}

fn hand_off(name: &str) -> Result<HandOff, String> {
    match name {
        "direct" => Ok(HandOff::Direct),
        "lane" => Ok(HandOff::Lane),
        _ => Err(format!("no hand-off is called {name:?}; there are direct, lane")),
    }
}

/// The ways to a logical unit of this host.
fn ways(wwid: &str) -> Result<Vec<PathBuf>, String> {
    let units = discover::units();
    match units.iter().find(|unit| unit.wwid == wwid) {
        Some(unit) => Ok(unit.paths.iter().map(|path| path.node.clone()).collect()),
        None => {
            Err(format!("no logical unit of this host is called {wwid:?}; --list shows those that there are"))
        }
    }
}

fn sharing(name: &str) -> Result<Sharing, String> {
    match name {
        "shared" => Ok(Sharing::Shared),
        "exclusive" => Ok(Sharing::Exclusive),
        _ => Err(format!("no sharing is called {name:?}; there are shared, exclusive")),
    }
}

fn fence(text: &str) -> Result<Option<FenceSupport>, String> {
    match text {
        "path" => Ok(None),
        "hold" => Ok(Some(FenceSupport::None)),
        "resend" => Ok(Some(FenceSupport::Resend)),
        time => match units::duration(time) {
            Ok(time) => Ok(Some(FenceSupport::Assumed(time))),
            Err(_) => {
                Err(format!("{text:?} is no fence; there are path, hold, resend, or a time such as 60s"))
            }
        },
    }
}

fn number<N>(text: &str, range: RangeInclusive<N>) -> Result<N, String>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("{text:?} is no whole number from {} to {}", range.start(), range.end()))
}

fn timeout(text: &str) -> Result<Duration, String> {
    match units::duration(text)? {
        span if span < LEAST_TIMEOUT => Err(format!("{text} is below the least of 1ms")),
        span => Ok(span),
    }
}

fn file(value: OsString) -> Result<PathBuf, String> {
    match value.into_vec() {
        empty if empty.is_empty() => Err("the name is empty".to_owned()),
        name if name.contains(&0) => Err("the name contains a zero byte".to_owned()),
        name => Ok(OsString::from_vec(name).into()),
    }
}
