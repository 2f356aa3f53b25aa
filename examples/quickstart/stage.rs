//! The stage on which the story plays: the volume, its paths with a switch for their faults, and who watches.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mpio::path::{FaultHandle, Faulty, Path, QueueIndex, Stall};
use mpio::policy::LeastQueue;
use mpio::{Error, Event, EventKind, Events, PathId, PathOptions, Queue, Settled, Tick, Volume};

use crate::array::Array;
use crate::gauge::Gauge;
use crate::history::History;
use crate::options::Options;
use crate::port::ArrayPort;
use crate::screen::Screen;
use crate::story::{Act, SCENES};
use crate::tally::Tally;

/// One for each thread that does I/O.
pub(crate) const QUEUES: u16 = 2;
const PORTS: [&str; 4] = ["port A", "port B", "port C", "port D"];
const NEW_PORT: &str = "port E";

pub(crate) struct Stage {
    array: Arc<Array>,
    volume: Volume,
    events: Events,
    /// The paths that the volume was built with.
    ports: Vec<(PathId, FaultHandle)>,
    seed: u64,
    tally: Arc<Mutex<Tally>>,
    gauge: Gauge,
    pub(crate) history: History,
    pub(crate) screen: Screen,
}

impl Stage {
    /// A volume over four ports of `array`.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn build(
        array: Arc<Array>,
        options: &Options,
        tally: Arc<Mutex<Tally>>,
    ) -> Result<Self, Error> {
        let mut builder = Volume::builder()
            .queues(QUEUES)
            .policy(LeastQueue::new())
            .suspect_after(options.patience())
            .probe_interval(options.probe_interval())
            .seed(options.seed);
        let mut faults = Vec::new();
        for name in PORTS {
            let (path, handle) = port(name, &array, options.seed);
            builder = builder.path_with(PathOptions::new().assert_same(), path);
            faults.push(handle);
        }
        let volume = builder.build()?;
        let now = Tick::now();
        let ids = volume.status().paths.into_iter().map(|path| path.id);
        Ok(Self {
            array,
            events: volume.events(),
            ports: ids.zip(faults).collect(),
            seed: options.seed,
            tally,
            gauge: Gauge::new(now),
            history: History::default(),
            screen: Screen::new(now),
            volume,
        })
    }

    /// The volume's queues, to be moved to the threads that will use them.
    pub(crate) fn queues(&self) -> Vec<Queue> {
        (0..QUEUES).filter_map(|index| self.volume.take_queue(QueueIndex(index))).collect()
    }

    /// Plays the story of a run that began at `began` and takes `length`.
    ///
    /// # Errors
    /// If the volume does not take the new path.
    pub(crate) fn play(&mut self, began: Tick, length: Duration) -> Result<(), Error> {
        for scene in &SCENES {
            self.watch(began.after(length * scene.at / 100));
            self.act(scene.port, scene.act)?;
        }
        Ok(())
    }

    fn act(&mut self, port: usize, act: Act) -> Result<(), Error> {
        let (id, faults) = &self.ports[port];
        let (id, now, what) = (*id, Tick::now(), act.on(PORTS[port]));
        self.screen.event(now, &format!("==> {what}"));
        self.history.change(id, now, format!("==> {what}"));
        match act {
            Act::Kill => faults.fail(),
            Act::Slow(delay) => faults.slow(delay),
            Act::Stall => faults.stall(Stall::Late),
            Act::Restore => faults.restore(),
            Act::Replace => {
                self.remove(id)?;
                let (path, _) = self::port(NEW_PORT, &self.array, self.seed);
                self.volume.add_path_with(PathOptions::new().assert_same(), path)?;
            }
        }
        Ok(())
    }

    /// Takes a path out and waits until every queue has let go of it, but not for long: it is a matter of
    /// milliseconds, unless an attempt was lost.
    fn remove(&mut self, path: PathId) -> Result<(), Error> {
        // Its numbers go with it: they are taken for as long as it is there.
        self.history.stand(self.volume.status());
        let removed = self.volume.remove_path(path)?;
        let patience = Tick::now().after(Duration::from_secs(1));
        while !removed.wait(Duration::from_millis(1)) && Tick::now() < patience {
            self.history.stand(self.volume.status());
        }
        Ok(())
    }

    /// Shows what happens until `until`.
    pub(crate) fn watch(&mut self, until: Tick) {
        loop {
            let now = Tick::now();
            if self.screen.due() <= now {
                self.look(now);
            }
            if until <= now {
                return;
            }
            let wait = self.screen.due().min(until).since(now);
            if let Some(event) = self.events.next_within(wait) {
                self.tell(&event);
            }
        }
    }

    fn look(&mut self, now: Tick) {
        let status = self.volume.status();
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = self.gauge.read(now, &status, &tally);
        self.screen.progress(now, &text);
        self.history.stand(status);
    }

    fn tell(&mut self, event: &Event) {
        self.screen.event(event.at, &format!("    {event}"));
        if let Some((path, _)) = event.path
            && is_change_of_state(&event.kind)
        {
            self.history.change(path, event.at, event.kind.to_string());
        }
    }

    /// Ends the volume; the result says when everything is gone.
    pub(crate) fn close(&mut self) -> Settled {
        self.watch(Tick::now());
        self.history.stand(self.volume.status());
        self.screen.erase();
        self.volume.close(Duration::from_secs(1))
    }
}

/// Whether it belongs into the report, where steps on the way from one state to another would only be in the way.
fn is_change_of_state(kind: &EventKind) -> bool {
    use EventKind::{Access, Capacity, Down, Joined, Removed, Silent, Suspect, Up};
    matches!(kind, Access(_) | Capacity(_) | Down(_) | Joined | Removed | Silent(_) | Suspect(_) | Up(_))
}

/// A port of the array, with a switch for its faults.
fn port(name: &str, array: &Arc<Array>, seed: u64) -> (impl Path + use<>, FaultHandle) {
    Faulty::new(ArrayPort::new(name.to_owned(), Arc::clone(array)), seed)
}
