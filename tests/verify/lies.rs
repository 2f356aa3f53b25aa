//! Whole runs on a storage with one bad habit each: the allowed ones are not complained of, the others are found.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::Duration;

use mpio::Tick;

use crate::block::Block;
use crate::ledger::Ledger;
use crate::liar::{BLOCK_SIZE, Habit, Liar};
use crate::load::{Load, Start};
use crate::portion::Portion;
use crate::rig::{Open, Rig, Stop, Tearing};
use crate::storage::Source;
use crate::tally::{Fault, Tally};

const BLOCKS: u64 = 64;
/// I/Os of a run.
const STEPS: u64 = 6000;

/// Runs against a storage with this habit, at least until `enough` or for very long: on few cores it may be a while until
/// something happens by chance.
fn run(habit: Habit, tearing: Tearing, enough: impl Fn(&Tally) -> bool) -> (Tally, Result<(), Stop>) {
    let liar = Liar::new(habit, usize::try_from(BLOCKS).unwrap());
    let rig = Rig {
        run: 77,
        portion: Portion { offset: 0, block_size: u32::try_from(BLOCK_SIZE).unwrap(), blocks: BLOCKS },
        source: &liar,
        open: RwLock::new(Open { storage: Some(liar.open().unwrap()), life: 0, opened: Tick::now() }),
        ledger: Ledger::new((0..BLOCKS).map(|_| Block::untouched())),
        state: None,
        tally: Tally::default(),
        patience: if habit == Habit::Dies { Duration::from_millis(200) } else { Duration::from_mins(1) },
        tearing,
        can_zero: [const { AtomicBool::new(true) }; 2],
        ending: AtomicBool::new(false),
        over: Mutex::new(None),
        began: Tick::now(),
    };
    let load = Load {
        threads: 4,
        max_io: 4096,
        seed: 3,
        flush_every: Some(Duration::from_millis(1)),
        zero_percent: 10,
        length: Duration::from_mins(10),
        process: 1,
        start: Start::Fill,
    };
    let end = thread::scope(|scope| {
        let driver = scope.spawn(|| load.run(&rig));
        while !driver.is_finished() {
            let steps = rig.tally.steps.get();
            let is_over = steps >= STEPS && (enough(&rig.tally) || steps >= 100 * STEPS);
            rig.ending.store(is_over, Ordering::Relaxed);
            thread::yield_now();
        }
        driver.join().unwrap()
    });
    (rig.tally, end)
}

fn is_varied(tally: &Tally) -> bool {
    tally.overlapped.get() > 0 && tally.zeroes.get() > 0 && tally.flushes.get() > 1
}

fn is_content_with(habit: Habit) -> Tally {
    is_content_once(habit, is_varied)
}

/// It finds nothing wrong with a run that goes on until `enough`.
fn is_content_once(habit: Habit, enough: fn(&Tally) -> bool) -> Tally {
    let (tally, end) = run(habit, Tearing::Allowed, enough);
    assert_eq!(end, Ok(()), "{habit:?}");
    assert_eq!(tally.mismatches(), Vec::<String>::new(), "{habit:?}");
    assert!(enough(&tally), "{habit:?}");
    tally
}

/// One of these faults at least is found.
fn finds(habit: Habit, faults: &[Fault]) {
    let found = |tally: &Tally| faults.iter().any(|&fault| tally.faults(fault) > 0);
    let (tally, end) = run(habit, Tearing::Allowed, found);
    assert_eq!(end, Ok(()), "{habit:?}");
    assert!(found(&tally), "{habit:?}: {:?}", tally.mismatches());
}

#[test]
fn an_honest_storage_is_right() {
    let tally = is_content_with(Habit::Honest);
    assert_eq!((tally.mixed.get(), tally.errors.get(), tally.outages.get()), (0, 0, 0));
}

#[test]
fn a_write_may_take_effect_twice_while_it_is_in_flight() {
    is_content_with(Habit::Twice);
}

#[test]
fn a_block_may_be_torn_while_it_is_written_unless_that_is_asked_for() {
    is_content_once(Habit::Halves, |tally| is_varied(tally) && tally.mixed.get() > 0);
    let (tally, _) = run(Habit::Halves, Tearing::Mismatch, |tally| tally.faults(Fault::Torn) > 0);
    assert!(tally.faults(Fault::Torn) > 0);
}

#[test]
fn writes_may_fail_before_and_after_they_take_effect() {
    assert!(is_content_with(Habit::Errors).errors.get() > 0);
}

#[test]
fn a_failed_write_may_land_late_if_nothing_newer_is_there() {
    assert!(is_content_with(Habit::LateErrors).errors.get() > 0);
}

#[test]
fn an_outage_may_lose_what_was_not_flushed() {
    assert!(is_content_with(Habit::Outages).outages.get() > 1);
}

#[test]
fn a_ghost_is_found() {
    finds(Habit::Ghost, &[Fault::Ghost]);
}

#[test]
fn a_ghost_of_a_failed_write_is_found() {
    finds(Habit::GhostOfFailed, &[Fault::Ghost, Fault::Lost]);
}

#[test]
fn a_ghost_from_before_an_outage_is_found() {
    finds(Habit::GhostAfterOutage, &[Fault::Ghost, Fault::Lost]);
}

#[test]
fn a_lost_write_is_found() {
    finds(Habit::Loses, &[Fault::Lost]);
}

#[test]
fn a_stale_read_is_found() {
    finds(Habit::Stale, &[Fault::Stale]);
}

#[test]
fn a_torn_block_is_found() {
    finds(Habit::Tears, &[Fault::Torn]);
}

#[test]
fn a_misplaced_block_is_found() {
    finds(Habit::Misplaces, &[Fault::Foreign]);
}

#[test]
fn a_flush_that_did_nothing_is_found_after_an_outage() {
    finds(Habit::IgnoresFlush, &[Fault::Lost]);
}

#[test]
fn zeroes_in_place_of_flushed_data_are_found_after_an_outage() {
    finds(Habit::Forgets, &[Fault::Lost]);
}

#[test]
fn a_storage_that_does_not_come_back_ends_the_run() {
    let (tally, end) = run(Habit::Dies, Tearing::Allowed, |_| true);
    assert!(matches!(end, Err(Stop::Gone(_))), "{end:?}");
    assert_eq!(tally.wrong(), 0);
}
