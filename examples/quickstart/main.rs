//! One volume over four paths, while one path is killed, one slowed and one stalled, and one is replaced.
//!
//! The paths are ports of an array that this program makes in a temporary file. Two threads write stamped blocks and
//! check every block that they read. Run it with `cargo run --release --example quickstart`.

mod array;
mod gauge;
mod history;
mod lane;
mod ledger;
mod load;
mod options;
mod port;
mod report;
mod screen;
mod stage;
mod stamp;
mod story;
mod tally;
mod units;

use std::error::Error;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use mpio::{Geometry, Tick};

use array::{Array, LONGEST};
use ledger::Ledger;
use load::{Load, WINDOW};
use options::{HELP, Options, Wish};
use report::Verdict;
use stage::{QUEUES, Stage};
use tally::Tally;

const BLOCK_SIZE: u32 = 4096;
/// Blocks that each queue has to itself: 64 MiB.
const BLOCKS_PER_QUEUE: u32 = 16_384;

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(Wish::Run(options)) => options,
        Ok(Wish::Help) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("quickstart: {problem}; --help lists the options");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(Verdict::Passed) => ExitCode::SUCCESS,
        Ok(Verdict::Failed) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<Verdict, Box<dyn Error>> {
    let blocks = u64::from(BLOCKS_PER_QUEUE) * u64::from(QUEUES);
    let array = Array::create(Geometry::new(BLOCK_SIZE, blocks)?)
        .map_err(|error| format!("making a temporary file in {}: {error}", Array::directory().display()))?;
    let tally = Arc::new(Mutex::new(Tally::default()));
    let mut stage = Stage::build(Arc::new(array), options, Arc::clone(&tally))?;
    introduce(&mut stage, options);
    perform(&mut stage, options, &tally)?;
    let closed = stage.close().wait(Duration::from_secs(10));
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    report::table(&mut stage.screen, &stage.history);
    let verdict = report::verdict(&mut stage.screen, &stage.history, &tally, blocks);
    if !closed {
        return Err("the volume was closed and did not end within 10 s".into());
    }
    Ok(verdict)
}

fn introduce(stage: &mut Stage, options: &Options) {
    let [least, most] = [BLOCK_SIZE, BLOCK_SIZE * LONGEST].map(|bytes| bytes >> 10);
    let size = (u64::from(BLOCKS_PER_QUEUE) * u64::from(QUEUES) * u64::from(BLOCK_SIZE)) >> 20;
    let (patience, place, seed) = (options.patience().as_millis(), Array::directory(), options.seed);
    let place = place.display();
    stage.screen.line(&format!(
        "\
mpio: one volume over four paths, and what becomes of the data when paths fail

  array   {size} MiB in a file in {place}, which is gone when this program ends
  paths   ports A to D of the array. They have no serial number by which to tell
          that they lead to one device: here the program asserts it
  load    {QUEUES} threads with a queue each, {WINDOW} requests in flight on each, reads and
          writes of {least} to {most} KiB. Every block carries a stamp, which is checked
          whenever the block is read (seed {seed})
  policy  least-queue. A path that is silent for {patience} ms is looked into

Lines with ==> say what this program does, the others what the volume reports.
"
    ));
}

/// Plays the story while the load runs, then waits for the load's end.
fn perform(stage: &mut Stage, options: &Options, tally: &Arc<Mutex<Tally>>) -> Result<(), Box<dyn Error>> {
    let began = Tick::now();
    let until = began.after(options.length * story::END / 100);
    thread::scope(|scope| {
        let mut loads = Vec::new();
        let mut first = 0;
        for queue in stage.queues() {
            let ledger = Ledger::new(first, BLOCKS_PER_QUEUE);
            first += u64::from(BLOCKS_PER_QUEUE);
            let load = Load::new(queue, ledger, options.seed, Arc::clone(tally))?;
            loads.push(scope.spawn(move || load.run(until)));
        }
        stage.play(began, options.length)?;
        stage.watch(until);
        stage.screen.event(until, "==> the load ends; everything is flushed and read back");
        while loads.iter().any(|load| !load.is_finished()) {
            stage.watch(Tick::now().after(Duration::from_millis(20)));
        }
        stage.screen.event(Tick::now(), "==> done");
        for load in loads {
            load.join().map_err(|_| "a thread of the load panicked")??;
        }
        Ok(())
    })
}
