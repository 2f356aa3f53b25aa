//! The dispatcher's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::yield_now;
use std::time::Duration;

use crossbeam::channel::Receiver;

use crate::io::Completion;
use crate::os::{polled, sleep_on, spawn_io_thread};
use crate::time::Tick;
use crate::volume::bell::Bell;
use crate::volume::pulse::{Pause, Pulse};
use crate::volume::queue::Queue;

use super::door::Door;
use super::station::Station;
use crate::error::Error;

/// What handles ask of the thread.
pub(super) enum Command {
    /// To serve a queue from now on, under this number.
    Serve(u64, Box<Queue>),
    /// To open a door to a queue.
    Open(u64, Box<dyn Door>),
    /// Nobody will open a door to this queue any more.
    Leave(u64),
}

pub(super) struct Thread {
    commands: Receiver<Command>,
    bell: Arc<Bell>,
    stations: Vec<Station>,
    pulse: Pulse,
    completions: Vec<Completion>,
    /// Room to list descriptors in.
    polled: Vec<libc::pollfd>,
}

impl Thread {
    /// # Errors
    /// [`Error::Os`] if no thread is to be had.
    pub(super) fn start(commands: Receiver<Command>, bell: Arc<Bell>) -> Result<(), Error> {
        let thread = Self {
            commands,
            bell,
            stations: Vec::new(),
            pulse: Pulse::default(),
            completions: Vec::new(),
            polled: Vec::new(),
        };
        // The code of paths and policies is guarded where it is called. Should anything else panic, the doors are
        // dropped, and each tells its other side.
        let guarded = move || drop(catch_unwind(AssertUnwindSafe(|| thread.run())));
        spawn_io_thread("mpio-dispatcher", guarded)
    }

    fn run(mut self) {
        loop {
            if self.stations.is_empty() {
                let Ok(command) = self.commands.recv() else { return };
                self.obey(command);
            }
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            }
            self.turn();
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Serve(id, queue) => {
                self.stations.push(Station::new(id, *queue));
                self.move_bell();
            }
            Command::Open(id, door) => {
                // To a queue that is over already: dropped, which says so.
                if let Some(station) = self.station(id) {
                    station.open(door);
                }
            }
            Command::Leave(id) => {
                if let Some(station) = self.station(id) {
                    station.leave();
                }
            }
        }
    }

    fn station(&mut self, id: u64) -> Option<&mut Station> {
        self.stations.iter_mut().find(|station| station.id() == id)
    }

    /// Whichever queue's bell is rung: the thread sleeps on all of them.
    fn move_bell(&mut self) {
        self.bell.set_waker(self.stations.first().and_then(Station::bell));
    }

    fn turn(&mut self) {
        let now = Tick::now();
        let (mut busy, mut due) = (false, None);
        for station in &mut self.stations {
            let turn = station.turn(now, &mut self.completions);
            busy |= turn.busy;
            due = [due, turn.due].into_iter().flatten().min();
        }
        if self.stations.iter().any(Station::is_over) {
            self.stations.retain(|station| !station.is_over());
            self.move_bell();
            return;
        }
        if busy {
            return self.pulse.busy(now);
        }
        match self.pulse.idle(now) {
            Pause::Look => std::hint::spin_loop(),
            Pause::Yield => yield_now(),
            Pause::Sleep => self.sleep(due),
        }
    }

    /// Sleeps until something happens, somebody rings, or `until`.
    fn sleep(&mut self, until: Option<Tick>) {
        self.bell.arm();
        if self.commands.is_empty() && !self.stations.iter().any(Station::has_news) {
            match &mut self.stations[..] {
                [one] => one.queue().sleep(until),
                many => {
                    let queues = many.iter_mut().map(|station| polled(station.queue().sleep_fd().ok()));
                    self.polled.clear();
                    self.polled.extend(queues);
                    // Where there are no descriptors left it looks again from time to time.
                    let is_lacking = self.polled.iter().any(|polled| polled.fd < 0);
                    let soon = is_lacking.then(|| Tick::now().after(Duration::from_millis(1)));
                    sleep_on(&mut self.polled, [until, soon].into_iter().flatten().min());
                }
            }
        }
        self.bell.disarm();
    }
}
