//! The load: first every block is written once, then threads read and rewrite blocks that they share; at the end all is
//! flushed and read back.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::thread::{self, Builder, ScopedJoinHandle};
use std::time::Duration;

use mpio::Tick;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::outage::Spell;
use crate::portion::Portion;
use crate::rig::{CHECK_BYTES, Desk, Rig, Stop, Trouble};
use crate::storage::Zeroing;

/// Longest sleep of the thread that flushes.
const NAP: Duration = Duration::from_millis(20);
/// Times that the hot spot stays where it is: long enough for all threads to meet there.
const STAY: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) threads: u32,
    /// Most bytes in a read or write.
    pub(crate) max_io: u32,
    pub(crate) seed: u64,
    /// `None`: at the end only.
    pub(crate) flush_every: Option<Duration>,
    /// Of 100 writes.
    pub(crate) zero_percent: u32,
    pub(crate) length: Duration,
    /// Names this process in stamps.
    pub(crate) process: u64,
    pub(crate) start: Start,
}

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Every block is written.
    Fill,
    /// Every block is read: another process has written them.
    Check,
}

impl Load {
    /// The whole run.
    ///
    /// # Errors
    /// If it cannot go on.
    pub(crate) fn run(&self, rig: &Rig<'_>) -> Result<(), Stop> {
        let mut desk = Desk::new(self.process << 16, &rig.portion, CHECK_BYTES)?;
        rig.insist(|| rig.save())?;
        match self.start {
            Start::Fill => fill(rig, &mut desk)?,
            Start::Check => check(rig, &mut desk, "check of what the last process left")?,
        }
        self.stir(rig)?;
        rig.tally.begin("final flush");
        rig.insist(|| rig.flush())?;
        check(rig, &mut desk, "final check")
    }

    /// Reads and writes from all threads until time is over.
    fn stir(&self, rig: &Rig<'_>) -> Result<(), Stop> {
        rig.tally.begin("load");
        let until = Tick::now().after(self.length);
        thread::scope(|scope| {
            let mut threads = Vec::new();
            let mut end = Ok(());
            for number in 0..=self.threads {
                // Thread 0 flushes.
                let body =
                    move || if number == 0 { self.flush(rig, until) } else { self.work(rig, until, number) };
                match Builder::new().spawn_scoped(scope, body) {
                    Ok(thread) => threads.push(thread),
                    Err(error) => {
                        rig.ending.store(true, Ordering::Relaxed);
                        end = Err(Stop::Failed(format!("thread {number} cannot be started: {error}")));
                        break;
                    }
                }
            }
            let ends: Vec<_> = threads.into_iter().map(ScopedJoinHandle::join).collect();
            let panicked = || Err(Stop::Failed("a thread of the load panicked".to_owned()));
            end.and(ends.into_iter().try_for_each(|end| end.unwrap_or_else(|_| panicked())))
        })
    }

    fn work(&self, rig: &Rig<'_>, until: Tick, number: u32) -> Result<(), Stop> {
        let mut desk = Desk::new(self.process << 16 | u64::from(number), &rig.portion, self.max_io)?;
        let seed = self.seed ^ (self.process << 16 | u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut chance = Xoshiro256PlusPlus::seed_from_u64(seed);
        let (mut reads, mut writes) = (Spell::default(), Spell::default());
        while goes_on(rig, until) {
            let extent = self.extent(rig, &desk, &mut chance);
            if chance.random_bool(0.5) {
                rig.weather(&mut reads, rig.read(&mut desk, extent))?;
            } else {
                rig.weather(&mut writes, self.write(rig, &mut desk, &mut chance, extent))?;
            }
        }
        Ok(())
    }

    /// Stamps, or zeroes.
    fn write(
        &self,
        rig: &Rig<'_>,
        desk: &mut Desk,
        chance: &mut Xoshiro256PlusPlus,
        extent: Range<u64>,
    ) -> Result<(), Trouble> {
        let zeroable = Portion::zeroable(&extent);
        // Half of the extents begin where zeroes may be written.
        if !zeroable.is_empty() && chance.random_range(0..100) < self.zero_percent.saturating_mul(2) {
            let how = if chance.random_bool(0.5) { Zeroing::Write } else { Zeroing::Punch };
            return rig.zero(desk, zeroable, how);
        }
        rig.write(desk, extent)
    }

    /// Half of all I/O goes to a hot spot, which moves, so that threads meet; half goes anywhere. Every second one is of
    /// a single block.
    fn extent(&self, rig: &Rig<'_>, desk: &Desk, chance: &mut Xoshiro256PlusPlus) -> Range<u64> {
        let (blocks, most) = (rig.portion.blocks, desk.blocks(&rig.portion).min(rig.portion.blocks));
        let length = if chance.random_bool(0.5) { 1 } else { chance.random_range(1..=most) };
        let room = blocks - length + 1;
        let start = if chance.random_bool(0.5) {
            let turn = Tick::now().since(rig.began).as_millis() / STAY.as_millis();
            let spot = u64::try_from(turn).unwrap_or(0).wrapping_add(self.seed);
            let spot = spot.wrapping_mul(0x9e37_79b9_7f4a_7c15) % blocks;
            (spot + chance.random_range(0..2 * most)) % room
        } else {
            chance.random_range(0..room)
        };
        start..start + length
    }

    fn flush(&self, rig: &Rig<'_>, until: Tick) -> Result<(), Stop> {
        let Some(pause) = self.flush_every else { return Ok(()) };
        let mut spell = Spell::default();
        let mut due = Tick::now().after(pause);
        while goes_on(rig, until) {
            if Tick::now() >= due {
                rig.weather(&mut spell, rig.flush())?;
                due = Tick::now().after(pause);
            }
            thread::park_timeout(NAP.min(due.since(Tick::now())));
        }
        Ok(())
    }
}

fn fill(rig: &Rig<'_>, desk: &mut Desk) -> Result<(), Stop> {
    rig.tally.begin("first write of all blocks");
    for extent in rig.portion.pieces(desk.blocks(&rig.portion)) {
        if rig.ending.load(Ordering::Relaxed) {
            return Ok(());
        }
        rig.insist(|| rig.write(desk, extent.clone()))?;
    }
    rig.insist(|| rig.flush())
}

fn goes_on(rig: &Rig<'_>, until: Tick) -> bool {
    !rig.ending.load(Ordering::Relaxed) && Tick::now() < until
}

fn check(rig: &Rig<'_>, desk: &mut Desk, name: &str) -> Result<(), Stop> {
    rig.tally.begin(name);
    for extent in rig.portion.pieces(desk.blocks(&rig.portion)) {
        rig.insist(|| rig.read(desk, extent.clone()))?;
    }
    Ok(())
}
