//! The commands of the control socket.

use std::path::PathBuf;
use std::time::Duration;

use mpio::path::{FaultKind, Stall, Transport};

use crate::units;

pub(crate) const HELP: [&str; 16] = [
    "stats: the volume, its device and its paths",
    "paths: the paths",
    "fail N: path N loses its connection",
    "restore N: ends all faults of path N; a fence that it was given with fence= stays",
    "slow N TIME: the answers of path N come that much later",
    "stall N late|lost [fence=TIME] [land=TIME]: path N falls silent; late: it works, its answers are held up; lost: \
     what it is sent from now on stays on the way until restored, or for land=. With fence= the path can be fenced, \
     which takes that long",
    "error N RATE before|after|medium|busy [fence=TIME]: a share of what path N is sent meets an error: of the \
     transport, before or after it was done (with fence= it is left open which, until fenced), of the medium, or busy",
    "vouch N: nothing that was sent over path N so far can land any more, you say: its array is off, say. What waits for \
     that goes on. If it is not true, old data can land over newer",
    "reconnect N: looks at once whether path N works again; that it has failed again and again is held against it no more",
    "grow: the volume and its device take over the size that all paths have by now",
    "add PATH: one more path",
    "remove N: path N is taken out",
    "policy NAME: how each I/O's path is chosen from now on",
    "quit: ends the service as soon as the device is not in use",
    "help: this",
    "N is a path's number, TIME such as 20ms, RATE such as 0.01, 1% or 100ppm; 0 ends a fault",
];

/// What a line asks for.
pub(crate) enum Command {
    Stats,
    Paths,
    Fail(u32),
    Restore(u32),
    Slow(u32, Duration),
    Stall(u32, Stall, Option<Duration>),
    Error(InjectedError),
    Vouch(u32),
    Reconnect(u32),
    Grow,
    Add(PathBuf),
    Remove(u32),
    Policy(String),
    Quit,
    Help,
}

/// Errors that a share of a path's attempts meets.
pub(crate) struct InjectedError {
    pub(crate) path: u32,
    /// Of a million.
    pub(crate) rate: u32,
    /// As the user calls it.
    pub(crate) kind: &'static str,
    pub(crate) fault: FaultKind,
    pub(crate) fence: Option<Duration>,
}

const NAMES: &str = "stats, paths, fail, restore, slow, stall, error, vouch, reconnect, grow, add, remove, policy, quit, help";

impl Command {
    /// Reads one line.
    ///
    /// # Errors
    /// What is wrong and what would not be.
    pub(crate) fn read(line: &str) -> Result<Self, String> {
        let line = line.trim();
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim_start();
        if name == "add" {
            // A name may contain blanks.
            return match rest {
                "" => Err("add needs a block device or file".to_owned()),
                file => Ok(Self::Add(file.into())),
            };
        }
        let mut words = Words { command: name, rest: rest.split_whitespace() };
        let command = words.command()?;
        match words.rest.next() {
            Some(word) => Err(format!("{name} takes no {}", shown(word))),
            None => Ok(command),
        }
    }
}

/// What follows a command's name.
struct Words<'a, I> {
    command: &'a str,
    rest: I,
}

impl<'a, I: Iterator<Item = &'a str>> Words<'a, I> {
    fn command(&mut self) -> Result<Command, String> {
        Ok(match self.command {
            "stats" => Command::Stats,
            "paths" => Command::Paths,
            "fail" => Command::Fail(self.number()?),
            "restore" => Command::Restore(self.number()?),
            "slow" => Command::Slow(self.number()?, units::duration(self.word("a time, such as 20ms")?)?),
            "stall" => self.stall()?,
            "error" => self.error()?,
            "vouch" => Command::Vouch(self.number()?),
            "grow" => Command::Grow,
            "reconnect" => Command::Reconnect(self.number()?),
            "remove" => Command::Remove(self.number()?),
            "policy" => Command::Policy(self.word("a policy's name")?.to_owned()),
            "quit" => Command::Quit,
            "help" => Command::Help,
            "" => return Err(format!("the line is empty; there are {NAMES}")),
            other => return Err(format!("there is no command {}; there are {NAMES}", shown(other))),
        })
    }

    fn stall(&mut self) -> Result<Command, String> {
        let number = self.number()?;
        let kind = self.word("late or lost")?;
        let Settings { fence, land } = self.settings()?;
        let stall = match (kind, land) {
            ("late", None) => Stall::Late,
            ("late", Some(_)) => return Err("a late stall has nothing to land; leave out land=".to_owned()),
            ("lost", land_after) => Stall::Lost { land_after },
            _ => return Err(format!("there is no stall {}; there are late and lost", shown(kind))),
        };
        Ok(Command::Stall(number, stall, fence))
    }

    fn error(&mut self) -> Result<Command, String> {
        let path = self.number()?;
        let rate = units::per_million(self.word("a rate, such as 0.01")?)?;
        let kind = self.word("before, after, medium or busy")?;
        let Settings { fence, land } = self.settings()?;
        if land.is_some() {
            return Err("an error lands nothing; leave out land=".to_owned());
        }
        let transport = if fence.is_some() { Transport::Fabric } else { Transport::Local };
        let (kind, fault) = match kind {
            "before" => ("before", FaultKind::TransportBefore(transport)),
            "after" => ("after", FaultKind::TransportAfter(transport)),
            "medium" | "busy" if fence.is_some() => {
                return Err("a device's own answer needs no fence; leave out fence=".to_owned());
            }
            "medium" => ("medium", FaultKind::Medium),
            "busy" => ("busy", FaultKind::Busy),
            _ => {
                let kind = shown(kind);
                return Err(format!("there is no error {kind}; there are before, after, medium and busy"));
            }
        };
        Ok(Command::Error(InjectedError { path, rate, kind, fault, fence }))
    }

    fn word(&mut self, what: &str) -> Result<&'a str, String> {
        self.rest.next().ok_or_else(|| format!("{} needs {what}", self.command))
    }

    fn number(&mut self) -> Result<u32, String> {
        let word = self.word("a path's number")?;
        word.parse().map_err(|_| format!("{} is no path's number", shown(word)))
    }

    fn settings(&mut self) -> Result<Settings, String> {
        let mut settings = Settings::default();
        for word in &mut self.rest {
            let place = match word.split_once('=') {
                Some(("fence", span)) => (&mut settings.fence, span),
                Some(("land", span)) => (&mut settings.land, span),
                _ => return Err(format!("{} takes no {}", self.command, shown(word))),
            };
            if place.0.replace(units::duration(place.1)?).is_some() {
                return Err(format!("{} is given twice", shown(word)));
            }
        }
        Ok(settings)
    }
}

/// `fence=200ms land=3s`.
#[derive(Default)]
struct Settings {
    fence: Option<Duration>,
    land: Option<Duration>,
}

/// A word of the user's as it can be shown: whole unless it is long.
fn shown(word: &str) -> String {
    let mut short: String = word.chars().take(40).collect();
    if short.len() < word.len() {
        short.push('…');
    }
    format!("{short:?}")
}
