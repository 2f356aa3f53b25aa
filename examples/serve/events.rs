//! What happens to the volume, as lines of the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use mpio::{Error, Event, EventKind, Events, PathId, Tick};

use crate::log::Log;
use crate::service::thread;

/// When an event is not awaited any longer, to await it anew.
const LONG: Duration = Duration::from_hours(1);
/// A path that comes and goes is told of so often within [`SPAN`].
const MOST: u32 = 10;
const SPAN: Duration = Duration::from_secs(1);

/// Logs until the volume has ended. The receiver is disconnected then.
///
/// # Errors
/// Why there is no thread for it.
pub(crate) fn follow(events: Events, log: Arc<Log>) -> Result<Receiver<()>, Error> {
    let (alive, over) = channel();
    let body = move || {
        let _alive = alive;
        let mut restless = Restless::default();
        loop {
            let (asked, patience) = (Tick::now(), restless.patience());
            match events.next_within(patience) {
                Some(event) => {
                    if restless.admits(&event) {
                        restless.settle(&log);
                        log.line(event.to_string());
                    }
                    if event.kind == EventKind::Closed {
                        return;
                    }
                }
                None if Tick::now().since(asked) < patience => return,
                None => restless.settle(&log),
            }
        }
    };
    thread(body, "serve-events")?;
    Ok(over)
}

/// Keeps a path that goes in and out of suspicion many times a second from flooding the log.
#[derive(Default)]
struct Restless {
    paths: BTreeMap<PathId, Turn>,
}

/// One [`SPAN`] of a path.
struct Turn {
    began: Tick,
    told: u32,
    kept: u32,
}

impl Restless {
    /// How long to wait for an event.
    fn patience(&self) -> Duration {
        if self.paths.values().any(|turn| turn.kept > 0) { SPAN } else { LONG }
    }

    /// Whether to tell of `event`.
    fn admits(&mut self, event: &Event) -> bool {
        let Some((path, _)) = &event.path else { return true };
        if !matches!(event.kind, EventKind::Suspect(_) | EventKind::Up(_)) {
            return true;
        }
        let turn = self.paths.entry(*path).or_insert(Turn { began: event.at, told: 0, kept: 0 });
        if event.at.since(turn.began) >= SPAN {
            (turn.began, turn.told) = (event.at, 0);
        }
        turn.told += 1;
        let admits = turn.told <= MOST;
        turn.kept += u32::from(!admits);
        admits
    }

    /// Tells how much was kept back.
    fn settle(&mut self, log: &Log) {
        for (path, turn) in self.paths.iter_mut().filter(|(_, turn)| turn.kept > 0) {
            let times = std::mem::take(&mut turn.kept);
            log.line(format!("{path}: suspect, or up again, {times} more times"));
        }
    }
}
