//! What is said while it runs, and at the end.

use std::fmt::Write;
use std::time::Duration;

use mpio::Tick;

use crate::rig::{Rig, Stop};
use crate::tally::{Fault, Tally};
use crate::units::{bytes, count, short};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    Mismatch,
    /// Nothing wrong was found, but it could not go on.
    Stopped(Stop),
}

impl Verdict {
    pub(crate) fn of(tally: &Tally, end: Result<(), Stop>) -> Self {
        match end {
            _ if tally.wrong() > 0 => Self::Mismatch,
            Ok(()) => Self::Right,
            Err(stop) => Self::Stopped(stop),
        }
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Right => 0,
            Self::Mismatch => 1,
            Self::Stopped(Stop::Failed(_)) => 2,
            Self::Stopped(Stop::Gone(_)) => 3,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Mismatch => "mismatch",
            Self::Stopped(Stop::Failed(_)) => "failed",
            Self::Stopped(Stop::Gone(_)) => "gone",
        }
    }
}

/// The progress line: what has been done since it was last looked at.
pub(crate) struct Gauge {
    at: Tick,
    ios: u64,
    bytes: u64,
}

impl Gauge {
    pub(crate) fn new(at: Tick) -> Self {
        Self { at, ios: 0, bytes: 0 }
    }

    pub(crate) fn read(&mut self, now: Tick, tally: &Tally) -> String {
        let millis = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX).max(1);
        let (ios, moved) = (tally.reads.get() + tally.writes.get(), tally.bytes.get());
        let rate = |now: u64, before: u64| (now - before).saturating_mul(1000) / millis;
        let (ios_rate, rate) = (short(rate(ios, self.ios)), bytes(rate(moved, self.bytes)));
        *self = Self { at: now, ios, bytes: moved };
        let [outages, errors, wrong] = [tally.outages.get(), tally.errors.get(), tally.wrong()].map(count);
        let doing = tally.doing();
        format!("{doing}: {ios_rate}/s {rate}/s, {outages} outages, {errors} errors, {wrong} wrong")
    }
}

/// The verdict and its numbers, for people.
pub(crate) fn text(verdict: &Verdict, rig: &Rig<'_>, elapsed: Duration) -> String {
    let tally = &rig.tally;
    let mut text = match verdict {
        Verdict::Right => "\nRIGHT: every read found what may be there, and nothing was lost.\n".to_owned(),
        Verdict::Mismatch => "\nMISMATCH: reads found what must not be there.\n".to_owned(),
        Verdict::Stopped(Stop::Gone(why)) => format!("\nGONE: {why}\n"),
        Verdict::Stopped(Stop::Failed(why)) => format!("\nFAILED: {why}\n"),
    };
    let [writes, zeroes, reads, flushes, checked, overlapped, mixed, errors, outages] =
        numbers(tally).map(count);
    let (seconds, moved) = (elapsed.as_secs(), bytes(tally.bytes.get()));
    let _ = write!(
        text,
        "
  {writes} writes, {zeroes} of them zeroes
  {overlapped} blocks were rewritten while another write was in flight
  {reads} reads, {checked} blocks checked
  {flushes} flushes, {moved} in {seconds} s
  {outages} outages, {errors} I/Os failed
"
    );
    if tally.mixed.get() > 0 {
        let _ = writeln!(text, "  {mixed} blocks were torn where they may be (see --atomic)");
    }
    if let Some(error) = tally.first_error() {
        let _ = writeln!(text, "  first error: {error}");
    }
    let faults: Vec<String> =
        Fault::ALL.iter().map(|&fault| format!("{} {}", count(tally.faults(fault)), fault.name())).collect();
    let _ = write!(text, "  wrong blocks: {}", faults.join(", "));
    for mismatch in tally.mismatches() {
        let _ = write!(text, "\n  - {mismatch}");
    }
    text
}

/// The same for scripts.
pub(crate) fn json(verdict: &Verdict, rig: &Rig<'_>, elapsed: Duration) -> String {
    const NAMES: [&str; 9] =
        ["writes", "zeroes", "reads", "flushes", "checked", "overlapped", "mixed", "errors", "outages"];
    let tally = &rig.tally;
    let mut line = format!("{{\"verdict\":\"{}\",\"seconds\":{}", verdict.name(), elapsed.as_secs());
    for (name, number) in NAMES.iter().zip(numbers(tally)) {
        let _ = write!(line, ",\"{name}\":{number}");
    }
    for fault in Fault::ALL {
        let _ = write!(line, ",\"{}\":{}", fault.name(), tally.faults(fault));
    }
    let why = match verdict {
        Verdict::Stopped(Stop::Gone(why) | Stop::Failed(why)) => Some(why.clone()),
        _ => None,
    };
    for (name, text) in [("first_error", tally.first_error()), ("stopped", why)] {
        let text = text.map_or_else(|| "null".to_owned(), |text| quoted(&text));
        let _ = write!(line, ",\"{name}\":{text}");
    }
    let mismatches: Vec<String> = tally.mismatches().iter().map(|text| quoted(text)).collect();
    let _ = write!(line, ",\"mismatches\":[{}]}}", mismatches.join(","));
    line
}

fn numbers(tally: &Tally) -> [u64; 9] {
    let Tally { writes, zeroes, reads, flushes, checked, overlapped, mixed, errors, outages, .. } = tally;
    [writes, zeroes, reads, flushes, checked, overlapped, mixed, errors, outages]
        .map(crate::tally::Count::get)
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            control if control.is_control() => quoted.push(' '),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
