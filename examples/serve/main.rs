//! A volume over the paths that are named on the command line, served as a block device of this machine.
//!
//! `cargo run --release --features fuse --example serve -- --path /dev/sdb --path /dev/sdc`, as root. The first line on
//! standard output is the device's name. `--help` lists the options; a control socket (`--control`) shows how the paths
//! are doing, adds and removes some, and injects faults.

mod answer;
mod claim;
mod clients;
mod command;
mod desk;
mod ending;
mod events;
#[allow(dead_code, reason = "another example's, of which this one uses a part")]
#[path = "../quickstart/units.rs"]
mod figures;
mod list;
mod log;
mod options;
mod paths;
mod private;
mod reception;
mod service;
mod signals;
mod socket;
mod units;
mod users;

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::sync::Arc;

use ending::Ending;
use log::Log;
use mpio::discover;
use options::{HELP, Options, Wish};

fn main() -> ExitCode {
    let options = match Options::read(std::env::args_os().skip(1)) {
        Ok(Wish::Serve(options)) => *options,
        Ok(Wish::List) => {
            let _ = stdout().write_all(list::units(&discover::units()).as_bytes());
            return Ending::Asked.into();
        }
        Ok(Wish::Help) => {
            // Whoever stops reading it has seen enough.
            let _ = writeln!(stdout(), "{HELP}");
            return Ending::Asked.into();
        }
        Err(problem) => {
            eprintln!("serve: {problem}; --help lists the options");
            return Ending::Usage.into();
        }
    };
    let log = match Log::start() {
        Ok(log) => Arc::new(log),
        Err(error) => {
            eprintln!("serve: starting a thread: {error}");
            return Ending::NotStarted.into();
        }
    };
    if let Err(error) = private::lock_memory() {
        log.line(format!("memory could not be locked ({error}): do not swap to the device"));
    }
    let ending = service::run(options, &log);
    log.flush();
    ending.into()
}
