//! The command line.

use std::time::Duration;

pub(crate) const HELP: &str = "\
One volume, four paths, faults on three of them while data is written and verified.

Usage: cargo run --release --example quickstart -- [OPTIONS]

Options:
  --seconds N   how long the whole run takes, 5 to 3600 (default 20)
  --seed N      seed of what is written where and when (default 1)
  --help        this text

Exit code: 0 if no data was lost, 1 if some was or the run failed, 2 if an option is wrong.";

/// What the command line asks for.
pub(crate) enum Wish {
    Run(Options),
    Help,
}

#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) length: Duration,
    pub(crate) seed: u64,
}

impl Options {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// What is wrong and what would not be.
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Wish, String> {
        let mut options = Self { length: Duration::from_secs(20), seed: 1 };
        while let Some(argument) = arguments.next() {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            match name.as_str() {
                "-h" | "--help" => return Ok(Wish::Help),
                "--seconds" => {
                    let seconds = number(&name, value.or_else(|| arguments.next()))?;
                    if !(5..=3600).contains(&seconds) {
                        return Err(format!("--seconds {seconds} is not between 5 and 3600"));
                    }
                    options.length = Duration::from_secs(seconds);
                }
                "--seed" => options.seed = number(&name, value.or_else(|| arguments.next()))?,
                _ => return Err(format!("there is no option {name}")),
            }
        }
        Ok(Wish::Run(options))
    }

    /// How long a path may be silent before it is looked into: a real array is given some seconds.
    pub(crate) fn patience(&self) -> Duration {
        self.length / 20
    }

    /// How soon a path that is down is tried again; at first, later up to 16 times that.
    pub(crate) fn probe_interval(&self) -> Duration {
        self.length / 400
    }
}

fn number(name: &str, value: Option<String>) -> Result<u64, String> {
    let value = value.ok_or_else(|| format!("{name} needs a number"))?;
    value.parse().map_err(|_| format!("{name} needs a whole number, not {value:?}"))
}
