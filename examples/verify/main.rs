//! Finds what a storage must not do and what fio cannot see: ghost writes, stale reads of rewritten blocks, and
//! acknowledged writes that are lost, on any block device or file, through restarts of whatever serves it.
//!
//! `block.rs` is the heart: what a read may find. Run it with
//! `cargo run --release --example verify -- [OPTIONS] DEVICE`; `--help` lists the options.

mod block;
mod content;
mod device;
mod ledger;
mod load;
mod measure;
mod options;
mod outage;
mod portion;
mod report;
mod rig;
mod screen;
mod setup;
mod stamp;
mod state;
mod storage;
mod system;
mod tally;
#[allow(dead_code, reason = "another example's, of which this one uses a part")]
#[path = "../quickstart/units.rs"]
mod units;
mod watch;

use std::process::ExitCode;

use options::{HELP, Options, Wish};

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(Wish::Run(options)) => options,
        Ok(Wish::Help) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("verify: {problem}; --help lists the options");
            return ExitCode::from(2);
        }
    };
    match watch::run(&options) {
        Ok(verdict) => ExitCode::from(verdict.exit_code()),
        Err(problem) => {
            eprintln!("verify: {problem}");
            ExitCode::from(2)
        }
    }
}
