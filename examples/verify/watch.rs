//! One thread does the run; this one shows how it goes, and notices if the device hangs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread::{self, ScopedJoinHandle, park_timeout};
use std::time::Duration;

use mpio::Tick;

use crate::load::{Load, Start};
use crate::options::Options;
use crate::report::{self, Gauge, Verdict};
use crate::rig::{Open, Rig, Stop, Tearing};
use crate::screen::{Out, Screen};
use crate::setup::{Setup, set_up};
use crate::state::State;
use crate::system;
use crate::tally::Tally;

const GLANCE: Duration = Duration::from_millis(50);
/// How long nothing may end where the options do not say.
const HANG: Duration = Duration::from_mins(1);

/// Sets up, runs, and says how it went.
///
/// # Errors
/// If something cannot be used.
pub(crate) fn run(options: &Options) -> Result<Verdict, String> {
    let began = Tick::now();
    let Setup { device, opened, saved, ledger, start } = set_up(options)?;
    system::note_interrupts();
    let rig = Rig {
        run: saved.run,
        portion: saved.portion,
        source: &device,
        open: RwLock::new(Open { storage: Some(Box::new(opened)), life: 0, opened: Tick::now() }),
        ledger,
        state: options.state.as_ref().map(|path| State::new(path.clone(), &saved)),
        tally: Tally::default(),
        patience: options.patience,
        tearing: if options.flags.atomic { Tearing::Mismatch } else { Tearing::Allowed },
        can_zero: [const { AtomicBool::new(true) }; 2],
        ending: AtomicBool::new(false),
        over: Mutex::new(None),
        began,
    };
    let load = Load {
        threads: options.threads,
        max_io: options.max_io,
        seed: options.seed,
        flush_every: options.flush_every,
        zero_percent: options.zero_percent,
        length: options.length,
        process: saved.processes,
        start,
    };
    let out = if options.flags.json { Out::Error } else { Out::Standard };
    let mut screen = Screen::new(out, began);
    introduce(&screen, options, &rig, start);
    let end = thread::scope(|scope| {
        let driver = scope.spawn(|| load.run(&rig));
        watch(&rig, &mut screen, &driver, options);
        driver.join().unwrap_or_else(|_| Err(Stop::Failed("the thread of the run panicked".to_owned())))
    });
    Ok(conclude(&rig, &screen, options, end))
}

fn introduce(screen: &Screen, options: &Options, rig: &Rig<'_>, start: Start) {
    let (name, portion) = (options.device.display(), &rig.portion);
    let (size, offset) = ((portion.end() - portion.offset) >> 10, portion.offset);
    let (blocks, block_size, threads, seed) =
        (portion.blocks, portion.block_size, options.threads, options.seed);
    let what = match start {
        Start::Fill => "overwrites",
        Start::Check => "goes on with",
    };
    screen.line(&format!(
        "\
verify {what} {size} KiB of {name} from byte {offset}:\n  {blocks} blocks of {block_size} bytes, {threads} threads, seed {seed}"
    ));
}

/// Shows how it goes until it ends. If the device hangs, ends the process: its threads cannot be waited for.
fn watch(
    rig: &Rig<'_>,
    screen: &mut Screen,
    driver: &ScopedJoinHandle<'_, Result<(), Stop>>,
    options: &Options,
) {
    let mut gauge = Gauge::new(rig.began);
    let mut last = (rig.began, 0);
    let hang = if options.patience.is_zero() { HANG } else { options.patience };
    while !driver.is_finished() {
        let now = Tick::now();
        if system::is_interrupted() && !rig.ending.swap(true, Ordering::Relaxed) {
            screen.event(now, "interrupted: the load ends, everything is flushed and read back");
        }
        show_news(rig, screen, now);
        if screen.is_due(now) {
            screen.progress(now, &gauge.read(now, &rig.tally));
        }
        let steps = rig.tally.steps.get();
        if steps != last.1 {
            last = (now, steps);
        }
        // A little more than patience, so that the threads' own verdict comes first.
        if now.since(last.0) > hang + Duration::from_secs(5) {
            let seconds = now.since(last.0).as_secs();
            let stop = Stop::Gone(format!("the device hangs: no I/O has ended for {seconds} s"));
            let verdict = conclude(rig, screen, options, Err(stop));
            std::process::exit(i32::from(verdict.exit_code()));
        }
        park_timeout(GLANCE);
    }
    show_news(rig, screen, Tick::now());
}

fn show_news(rig: &Rig<'_>, screen: &Screen, now: Tick) {
    rig.tally.take_news().iter().for_each(|news| screen.event(now, news));
}

fn conclude(rig: &Rig<'_>, screen: &Screen, options: &Options, end: Result<(), Stop>) -> Verdict {
    let elapsed = Tick::now().since(rig.began);
    let verdict = Verdict::of(&rig.tally, end);
    screen.line(&report::text(&verdict, rig, elapsed));
    if options.flags.json {
        println!("{}", report::json(&verdict, rig, elapsed));
    }
    verdict
}
