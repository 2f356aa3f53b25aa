//! What is done when I/O fails: go on if the storage still answers, else open it again and find out what it kept.

use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::thread::park_timeout;
use std::time::Duration;

use mpio::Tick;

use crate::rig::{CHECK_BYTES, Desk, Rig, Stop, Trouble};
use crate::storage::Storage;
use crate::system;

/// Between two attempts to open the storage, and before a thread goes on after an error.
const PAUSE: Duration = Duration::from_millis(20);
/// Where I/O of one kind fails for so long while the storage answers reads, it is opened again.
const GRACE: Duration = Duration::from_secs(2);

/// Of one thread: since when all its I/O of one kind has failed.
#[derive(Debug, Default)]
pub(crate) struct Spell(Option<Tick>);

impl Rig<'_> {
    /// Does `act` until it succeeds.
    ///
    /// # Errors
    /// If the run cannot go on.
    pub(crate) fn insist(&self, mut act: impl FnMut() -> Result<(), Trouble>) -> Result<(), Stop> {
        let mut spell = Spell::default();
        loop {
            let result = act();
            let done = result.is_ok();
            self.weather(&mut spell, result)?;
            if done {
                return Ok(());
            }
        }
    }

    /// To be called after each I/O of a thread; returns when the thread may do the next one.
    ///
    /// # Errors
    /// If the run cannot go on.
    pub(crate) fn weather(&self, spell: &mut Spell, result: Result<(), Trouble>) -> Result<(), Stop> {
        let stop = match result {
            Ok(()) => {
                spell.0 = None;
                return Ok(());
            }
            Err(Trouble::Stop(stop)) => stop,
            Err(Trouble::Storage { life, error }) => {
                let since = *spell.0.get_or_insert_with(Tick::now);
                match self.recover(life, since, error) {
                    Ok(()) => {
                        park_timeout(PAUSE);
                        return Ok(());
                    }
                    Err(stop) => stop,
                }
            }
        };
        self.ending.store(true, Ordering::Relaxed);
        let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        Err(over.get_or_insert(stop).clone())
    }

    /// I/O has failed since `since`, in the given life of the storage.
    fn recover(&self, life: u32, since: Tick, error: io::Error) -> Result<(), Stop> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(stop) = self.over.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Err(stop);
        }
        if open.life != life {
            return Ok(());
        }
        if self.patience.is_zero() {
            return Err(Stop::Gone(format!("I/O failed, and there is no patience: {error}")));
        }
        let mut desk = Desk::new(0, &self.portion, CHECK_BYTES)?;
        let failing = Tick::now().since(since);
        let failing_here = Tick::now().since(since.max(open.opened));
        let answers = open.storage.as_deref().is_some_and(|storage| self.probe(storage, &mut desk).is_ok());
        if answers && failing_here < GRACE {
            if failing < self.patience {
                return Ok(());
            }
            let span = failing.as_secs();
            return Err(Stop::Gone(format!(
                "I/O has failed for {span} s, though reads are answered: {error}"
            )));
        }
        // The old one is closed first: it may be what keeps the device from coming back.
        open.storage = None;
        open.storage = Some(self.reopen(&mut desk, error)?);
        open.life += 1;
        open.opened = Tick::now();
        Ok(())
    }

    /// Tries to open the storage until it can be read as a whole, or patience ends.
    fn reopen(&self, desk: &mut Desk, mut last: io::Error) -> Result<Box<dyn Storage>, Stop> {
        let began = Tick::now();
        self.tally.outages.add(1);
        let outage = self.tally.outages.get();
        let doing = self.tally.doing();
        self.tally.news(format!("outage {outage}: the device is gone ({last}); trying to open it again"));
        while Tick::now().since(began) < self.patience {
            if system::is_interrupted() {
                return Err(Stop::Gone(format!("interrupted while the device was gone: {last}")));
            }
            self.tally.begin(&format!("waiting for the device (outage {outage})"));
            match self.try_reopen(desk, outage) {
                Ok(storage) => {
                    let away = Tick::now().since(began);
                    let (seconds, millis) = (away.as_secs(), away.subsec_millis());
                    self.tally.news(format!(
                        "outage {outage} is over after {seconds}.{millis:03} s; all blocks were read"
                    ));
                    self.tally.begin(&doing);
                    return Ok(storage);
                }
                Err(error) => last = error,
            }
            self.tally.steps.add(1);
            park_timeout(PAUSE);
        }
        Err(Stop::Gone(format!("the device did not come back within {} s: {last}", self.patience.as_secs())))
    }

    fn try_reopen(&self, desk: &mut Desk, outage: u64) -> io::Result<Box<dyn Storage>> {
        let storage = self.source.open()?;
        self.probe(&*storage, desk)?;
        self.tally.begin(&format!("check after outage {outage}"));
        self.ledger.outage();
        self.check_all(&*storage, desk)?;
        Ok(storage)
    }

    /// Whether the storage answers.
    fn probe(&self, storage: &dyn Storage, desk: &mut Desk) -> io::Result<()> {
        storage.read(&mut desk.again, self.portion.at(0))
    }
}
