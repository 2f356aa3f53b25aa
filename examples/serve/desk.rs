//! Carries out the commands of the control socket.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mpio::frontend::fuse::Server;
use mpio::path::Stall;
use mpio::{Sharing, Tick, Volume};
use serde_json::{Value, json};

use crate::answer::{self, done, refused};
use crate::command::{Command, HELP, InjectedError};
use crate::log::Log;
use crate::options::{self, Options};
use crate::paths::Paths;
use crate::reception::Reply;
use crate::service::News;
use crate::units::{written, written_rate, written_rule};
use crate::users;

/// How long an answer waits for a path that is being removed.
const REMOVAL: Duration = Duration::from_secs(5);
/// The same for a device that is to take over a new size.
const RESIZING: Duration = Duration::from_secs(10);

pub(crate) struct Desk {
    pub(crate) volume: Volume,
    pub(crate) paths: Paths,
    pub(crate) server: Arc<Server>,
    pub(crate) device: PathBuf,
    /// Of FUSE, as in `/sys/fs/fuse/connections`.
    pub(crate) connection: u64,
    pub(crate) options: Arc<Options>,
    pub(crate) policy: Mutex<String>,
    pub(crate) began: Tick,
    pub(crate) log: Arc<Log>,
}

impl Desk {
    /// Carries out one line.
    pub(crate) fn handle(&self, line: &str) -> Reply {
        let mut then = None;
        let said = Command::read(line).and_then(|command| {
            if !matches!(command, Command::Stats | Command::Paths | Command::Help) {
                self.log.line(format!("control: {}", line.trim()));
            }
            then = matches!(command, Command::Quit).then_some(News::Quit);
            self.carry_out(command)
        });
        Reply { answer: said.map_or_else(|problem| refused(&problem), |said| done(&said)), then }
    }

    fn carry_out(&self, command: Command) -> Result<Value, String> {
        match command {
            Command::Stats => return Ok(self.stats()),
            Command::Paths => {
                let status = self.paths.status();
                return Ok(json!({ "paths": answer::paths(&status, &self.paths) }));
            }
            Command::Help => return Ok(json!({ "commands": HELP })),
            Command::Fail(number) => {
                let failed = Some("failed".to_owned());
                self.paths.inject(number, ("fail", failed), |faults| {
                    faults.fail();
                    Ok(())
                })?;
            }
            Command::Restore(number) => self.paths.restore(number)?,
            Command::Slow(number, delay) => {
                let slow = (!delay.is_zero()).then(|| format!("slow {}", written(delay)));
                self.paths.inject(number, ("slow", slow), |faults| {
                    faults.slow(delay);
                    Ok(())
                })?;
            }
            Command::Stall(number, stall, fence) => self.stall(number, stall, fence)?,
            Command::Error(error) => self.error(&error)?,
            Command::Vouch(number) => self.paths.vouch(number)?,
            Command::Reconnect(number) => self.paths.reconnect(number)?,
            Command::Grow => return self.grow(),
            Command::Add(file) => return Ok(json!({ "path": self.paths.add(&file)? })),
            Command::Remove(number) => {
                return Ok(json!({ "removed": self.paths.remove(number, REMOVAL)? }));
            }
            Command::Policy(name) => return self.set_policy(&name),
            Command::Quit => return Ok(json!({ "in_use": users::of(&self.device) })),
        }
        Ok(json!({}))
    }

    fn stall(&self, number: u32, stall: Stall, fence: Option<Duration>) -> Result<(), String> {
        let words = match stall {
            Stall::Late => "stall late".to_owned(),
            Stall::Lost { land_after: None } => "stall lost".to_owned(),
            Stall::Lost { land_after: Some(span) } => format!("stall lost land={}", written(span)),
        };
        self.paths.inject(number, ("stall", Some(words)), |faults| {
            if let Some(delay) = fence {
                faults.fence_after(delay);
            }
            faults.stall(stall);
            Ok(())
        })
    }

    fn error(&self, error: &InjectedError) -> Result<(), String> {
        let key = format!("error {} {}", error.kind, if error.fence.is_some() { "unfenced" } else { "" });
        let words = (error.rate > 0).then(|| format!("error {} {}", written_rate(error.rate), error.kind));
        self.paths.inject(error.path, (&key, words), |faults| {
            if let Some(delay) = error.fence {
                faults.fence_after(delay);
            }
            faults.errors(error.fault, error.rate)
        })
    }

    fn grow(&self) -> Result<Value, String> {
        let geometry = self.paths.grow()?;
        // Also if only the volume had grown before.
        self.server.resize(RESIZING).map_err(|error| error.to_string())?;
        Ok(json!({ "blocks": geometry.capacity(), "bytes": geometry.bytes() }))
    }

    fn set_policy(&self, name: &str) -> Result<Value, String> {
        let policy = options::policy(name)?;
        let name = policy.name();
        // Held over both, so that the name is that of the policy which came last.
        let mut current = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        self.volume.set_policy(policy).map_err(|error| error.to_string())?;
        current.clone_from(&name);
        Ok(json!({ "policy": name }))
    }

    fn stats(&self) -> Value {
        let status = self.paths.status();
        let geometry = self.volume.geometry();
        let options = &self.options;
        json!({
            "device": self.device.display().to_string(),
            "frontend": options.frontend,
            "fuse_connection": self.connection,
            "uptime_ms": u64::try_from(Tick::now().since(self.began).as_millis()).unwrap_or(u64::MAX),
            "block_size": geometry.block_size(),
            "blocks": geometry.capacity(),
            "policy": *self.policy.lock().unwrap_or_else(PoisonError::into_inner),
            "queues": options.queues,
            "hand_off": options.hand_off.name(),
            "queue_depth": options.queue_depth,
            "no_path": written_rule(options.no_path),
            "timeout": written(options.timeout),
            "deadline": options.deadline.map(written),
            "sharing": if options.sharing == Sharing::Exclusive { "exclusive" } else { "shared" },
            "ghosts": status.ghosts,
            "waiting": status.waiting,
            "all_paths": answer::sums(&status),
            "paths": answer::paths(&status, &self.paths),
        })
    }
}
