//! The path queues of one queue: each connection of each path has a port of its own until it has handed back
//! everything. Whatever a path's code does here, a panic included, stays here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::io::PathId;
use crate::path::{Attempt, AttemptId, Attempts, Incarnation, Outcome, Outcomes, PathQueue};
use crate::policy::MAX_PATHS;
use crate::reactor::{Port, Reactor, ReactorEvent};
use crate::time::Tick;

use super::unopened::Unopened;

/// Most connections at once, those included that still hold attempts of the past.
const MAX_PORTS: usize = 255;
const NOBODY: u8 = u8::MAX;

/// One connection.
struct OpenPort {
    path: PathId,
    incarnation: Incarnation,
    queue: Box<dyn PathQueue>,
    /// Attempts that it has not handed back.
    held: usize,
    /// When it wants to be polled.
    due: Tick,
}

/// A path whose code failed: nothing that it holds will come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Casualty {
    pub(super) path: PathId,
    pub(super) incarnation: Incarnation,
}

/// Outcomes in a row that are of one path.
#[derive(Clone, Copy)]
struct Run {
    slot: usize,
    /// Where it ends among all outcomes.
    end: usize,
}

pub(super) struct Ports {
    open: Vec<Option<OpenPort>>,
    /// The port of each slot's present connection.
    current: [u8; MAX_PATHS],
    /// Ports (index modulo 64) to poll at the next turn.
    hot: u64,
    /// Earliest time that another wants to be polled.
    due: Tick,
    /// Ports of the past that may be empty by now.
    stale: u32,
    outcomes: Vec<Outcome>,
    /// Whose `outcomes` are.
    runs: Vec<Run>,
    casualties: Vec<Casualty>,
    /// Connections whose code failed while it held attempts: what became of those is never known.
    buried: Vec<Casualty>,
    /// Their ports, and all others whose code failed: never used again, since what the ring still does for them would be
    /// taken for the new tenant's.
    graves: Vec<usize>,
    /// Grows when a connection of the past is gone.
    swept: u64,
}

impl Ports {
    pub(super) fn new() -> Self {
        Self {
            open: Vec::new(),
            current: [NOBODY; MAX_PATHS],
            hot: 0,
            due: Tick::MAX,
            stale: 0,
            outcomes: Vec::new(),
            runs: Vec::new(),
            casualties: Vec::new(),
            buried: Vec::new(),
            graves: Vec::new(),
            swept: 0,
        }
    }

    /// Opens a connection, in place of the slot's present one.
    ///
    /// # Errors
    /// Why the path queue cannot be made.
    pub(super) fn open(
        &mut self,
        reactor: &mut Reactor,
        path: PathId,
        incarnation: Incarnation,
        opening: Unopened,
    ) -> Result<(), String> {
        self.retire(path.slot());
        let usable = |index: &usize| self.open[*index].is_none() && !self.graves.contains(index);
        let free = (0..self.open.len()).find(usable).unwrap_or(self.open.len());
        if free >= MAX_PORTS {
            return Err(format!("{MAX_PORTS} earlier connections still hold attempts"));
        }
        let index = u8::try_from(free).unwrap_or(NOBODY);
        let queue = opening.open(reactor, Port::new(index))?;
        let port = OpenPort { path, incarnation, queue, held: 0, due: Tick::MAX };
        if free == self.open.len() {
            self.open.push(Some(port));
        } else {
            self.open[free] = Some(port);
        }
        self.current[path.slot()] = index;
        // It may have something to say at once.
        self.hot |= 1 << (index % 64);
        Ok(())
    }

    /// The oldest connection of a path that still holds something, or may.
    pub(super) fn oldest(&self, path: PathId) -> Option<Incarnation> {
        let open = self.open.iter().flatten().filter(|port| port.path == path).map(|port| port.incarnation);
        let buried =
            self.buried.iter().filter(|casualty| casualty.path == path).map(|casualty| casualty.incarnation);
        open.chain(buried).min()
    }

    /// The slot's present connection is one of the past: it goes when it has handed back everything.
    pub(super) fn retire(&mut self, slot: usize) {
        if std::mem::replace(&mut self.current[slot], NOBODY) != NOBODY {
            self.stale += 1;
            self.sweep();
        }
    }

    /// All connections are of the past.
    pub(super) fn retire_all(&mut self) {
        (0..MAX_PATHS).for_each(|slot| self.retire(slot));
    }

    /// The connections that slots have at present.
    pub(super) fn open_now(&self) -> impl Iterator<Item = (PathId, Incarnation)> {
        self.current
            .iter()
            .filter_map(|&index| self.open.get(usize::from(index))?.as_ref())
            .map(|port| (port.path, port.incarnation))
    }

    /// Gives a batch to a slot's present connection; what it does not take stays in `batch`.
    #[inline]
    pub(super) fn submit(&mut self, reactor: &mut Reactor, now: Tick, slot: usize, batch: &mut Vec<Attempt>) {
        let index = usize::from(self.current[slot]);
        let offered = batch.len();
        let Some(Some(port)) = self.open.get_mut(index) else { return };
        let queue = &mut port.queue;
        let called = catch_unwind(AssertUnwindSafe(|| queue.submit(reactor, now, &mut Attempts::new(batch))));
        // It may have put back more than it took: attempts of earlier batches.
        port.held = (port.held + offered).saturating_sub(batch.len());
        match called {
            Ok(next) => self.schedule(index, now, next),
            Err(_) => self.bury(index),
        }
    }

    /// Lets connections say what became of their attempts: those in `woken` (index modulo 64), those whose time has come, and those
    /// for which the ring has something. Each outcome goes to `sink` with its slot, when all have spoken: what was just
    /// written is not read back at once, which would stall.
    #[inline]
    pub(super) fn harvest(
        &mut self,
        reactor: &mut Reactor,
        now: Tick,
        woken: u64,
        mut sink: impl FnMut(usize, Outcome),
    ) {
        let mut woken = std::mem::take(&mut self.hot) | woken;
        if self.due <= now {
            woken |= self.timed(now);
        }
        if woken != 0 {
            self.poll(reactor, now, woken);
        }
        while let Some((port, event)) = reactor.next_event() {
            self.event(reactor, port.index(), event);
        }
        let mut runs = self.runs.drain(..);
        let mut run = Run { slot: 0, end: 0 };
        for (place, outcome) in self.outcomes.drain(..).enumerate() {
            while run.end <= place
                && let Some(next) = runs.next()
            {
                run = next;
            }
            sink(run.slot, outcome);
        }
        drop(runs);
        if self.stale > 0 {
            self.sweep();
        }
    }

    /// Ports whose time has come; the next time for which it has not.
    fn timed(&mut self, now: Tick) -> u64 {
        self.due = Tick::MAX;
        let mut woken = 0;
        for (index, port) in self.open.iter_mut().enumerate() {
            let Some(port) = port else { continue };
            if port.due <= now {
                port.due = Tick::MAX;
                woken |= 1 << (index % 64);
            } else {
                self.due = self.due.min(port.due);
            }
        }
        woken
    }

    fn poll(&mut self, reactor: &mut Reactor, now: Tick, mut woken: u64) {
        while woken != 0 {
            let mut index = woken.trailing_zeros() as usize;
            woken &= woken - 1;
            while index < self.open.len() {
                self.poll_one(reactor, now, index);
                index += 64;
            }
        }
    }

    #[inline]
    fn poll_one(&mut self, reactor: &mut Reactor, now: Tick, index: usize) {
        let Some(Some(port)) = self.open.get_mut(index) else { return };
        let (queue, mut outcomes) = (&mut port.queue, Outcomes::new(&mut self.outcomes));
        let called = catch_unwind(AssertUnwindSafe(|| queue.poll(reactor, now, &mut outcomes)));
        port.held -= outcomes.returned().min(port.held);
        self.runs.push(Run { slot: port.path.slot(), end: self.outcomes.len() });
        match called {
            Ok(next) => self.schedule(index, now, next),
            Err(_) => self.bury(index),
        }
    }

    #[inline]
    fn event(&mut self, reactor: &mut Reactor, index: usize, event: ReactorEvent) {
        let Some(Some(port)) = self.open.get_mut(index) else { return };
        let (queue, mut outcomes) = (&mut port.queue, Outcomes::new(&mut self.outcomes));
        let called = catch_unwind(AssertUnwindSafe(|| queue.event(reactor, event, &mut outcomes)));
        port.held -= outcomes.returned().min(port.held);
        let (slot, end) = (port.path.slot(), self.outcomes.len());
        match self.runs.last_mut() {
            Some(last) if last.slot == slot => last.end = end,
            _ => self.runs.push(Run { slot, end }),
        }
        if called.is_err() {
            self.bury(index);
        }
    }

    #[inline]
    fn schedule(&mut self, index: usize, now: Tick, next: Option<Tick>) {
        let Some(next) = next else { return };
        if next <= now {
            self.hot |= 1 << (index % 64);
            return;
        }
        if let Some(Some(port)) = self.open.get_mut(index) {
            port.due = next;
            self.due = self.due.min(next);
        }
    }

    /// Nobody waits for this attempt any more.
    pub(super) fn cancel(
        &mut self,
        reactor: &mut Reactor,
        slot: usize,
        incarnation: Incarnation,
        attempt: AttemptId,
    ) {
        let found = self.open.iter().position(|port| {
            port.as_ref().is_some_and(|port| port.path.slot() == slot && port.incarnation == incarnation)
        });
        let Some(index) = found else { return };
        let Some(Some(port)) = self.open.get_mut(index) else { return };
        let queue = &mut port.queue;
        if catch_unwind(AssertUnwindSafe(|| queue.cancel(reactor, attempt))).is_err() {
            self.bury(index);
        }
    }

    /// Drops the connections of the past that have handed back everything.
    fn sweep(&mut self) {
        for index in 0..self.open.len() {
            let current = |port: &OpenPort| usize::from(self.current[port.path.slot()]) == index;
            if self.open[index].as_ref().is_some_and(|port| port.held == 0 && !current(port)) {
                self.stale = self.stale.saturating_sub(1);
                self.swept += 1;
                if let Some(port) = self.open[index].take() {
                    dispose(port);
                }
            }
        }
    }

    /// The path's code panicked: it is never called again. Its memory, and that of its attempts, is lost.
    fn bury(&mut self, index: usize) {
        let Some(port) = self.open.get_mut(index).and_then(Option::take) else { return };
        let slot = port.path.slot();
        if usize::from(self.current[slot]) == index {
            self.current[slot] = NOBODY;
        } else {
            self.stale = self.stale.saturating_sub(1);
        }
        let casualty = Casualty { path: port.path, incarnation: port.incarnation };
        self.casualties.push(casualty);
        if port.held == 0 {
            return dispose(port);
        }
        self.buried.push(casualty);
        self.graves.push(index);
        // It may still work on what it holds, and its claim says so to whoever wants the device next: both stay.
        std::mem::forget(port.queue);
    }

    /// Connections of the past that are gone so far.
    pub(super) const fn swept(&self) -> u64 {
        self.swept
    }

    /// Whether there are paths whose code failed.
    pub(super) const fn has_casualties(&self) -> bool {
        !self.casualties.is_empty()
    }

    /// A path whose code failed since the last call.
    pub(super) fn take_casualty(&mut self) -> Option<Casualty> {
        self.casualties.pop()
    }

    /// When a connection wants to be polled.
    pub(super) fn next_deadline(&self, now: Tick) -> Option<Tick> {
        if self.hot != 0 {
            return Some(now);
        }
        (self.due < Tick::MAX).then_some(self.due)
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        self.open.drain(..).flatten().for_each(dispose);
    }
}

/// Drops a connection, whatever its code does.
fn dispose(port: OpenPort) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(port)));
}
