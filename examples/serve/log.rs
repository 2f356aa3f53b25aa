//! Lines on standard error, each with the time.
//!
//! They are written by a thread of their own: whoever reads them, or has stopped to, never holds up anything else.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Lines that wait to be written before further ones are lost.
const BACKLOG: usize = 1024;
/// How long to wait at the end for what is not yet written.
const LAST_LINES: Duration = Duration::from_secs(10);

pub(crate) struct Log {
    lines: SyncSender<Entry>,
    lost: AtomicU64,
}

enum Entry {
    Line(String),
    /// All lines before were written.
    Mark(SyncSender<()>),
}

impl Log {
    /// Starts the thread.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn start() -> io::Result<Self> {
        let (lines, inbox) = sync_channel(BACKLOG);
        thread::Builder::new().name("serve-log".to_owned()).spawn(move || write(&inbox))?;
        Ok(Self { lines, lost: AtomicU64::new(0) })
    }

    /// A line, without waiting.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        let stamp = stamp(now());
        // Relaxed: a count that is shown, and nothing more.
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0
            && self.lines.try_send(Entry::Line(format!("{stamp} {lost} lines were lost here"))).is_err()
        {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
        // One line each, whatever names and foreign texts contain.
        let text: String =
            text.as_ref().chars().map(|sign| if sign.is_control() { '?' } else { sign }).collect();
        if self.lines.try_send(Entry::Line(format!("{stamp} {text}"))).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all lines so far are written, but not for ever.
    pub(crate) fn flush(&self) {
        let (mark, written) = sync_channel(1);
        if self.lines.try_send(Entry::Mark(mark)).is_ok() {
            let _ = written.recv_timeout(LAST_LINES);
        }
    }
}

fn write(inbox: &Receiver<Entry>) {
    for entry in inbox {
        match entry {
            Entry::Line(line) => {
                let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
            }
            Entry::Mark(mark) => {
                let _ = mark.try_send(());
            }
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the time of day is for people")]
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// `2026-11-22T12:46:45.123Z`: UTC, so that lines sort, and compare between machines.
fn stamp(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = since_epoch.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The Gregorian date so many days after 1970-01-01.
fn date(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}
