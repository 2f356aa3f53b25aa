//! What the user sees while it runs: lines, and below them, on a terminal, one line that keeps changing.

use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use mpio::Tick;

/// Widest progress line, so that it fits a terminal of 80 columns.
const WIDTH: usize = 79;

pub(crate) struct Screen {
    began: Tick,
    face: Face,
    /// When to show progress next.
    due: Tick,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Face {
    /// The progress line is rewritten in place.
    Terminal,
    /// A file or a pipe: progress is a line like any other, now and then.
    Plain,
}

impl Screen {
    /// Times are shown relative to `began`.
    pub(crate) fn new(began: Tick) -> Self {
        let face = if stdout().is_terminal() { Face::Terminal } else { Face::Plain };
        Self { began, face, due: began }
    }

    /// A line of text.
    pub(crate) fn line(&mut self, text: &str) {
        self.erase();
        print(&format!("{text}\n"));
    }

    /// A line about something that happened at `at`.
    pub(crate) fn event(&mut self, at: Tick, text: &str) {
        self.line(&format!("[{:>5} s]  {text}", self.clock(at)));
    }

    /// Seconds and tenths from the beginning to `at`.
    pub(crate) fn clock(&self, at: Tick) -> String {
        let since = at.since(self.began);
        format!("{}.{}", since.as_secs(), since.subsec_millis() / 100)
    }

    /// When to show progress next.
    pub(crate) fn due(&self) -> Tick {
        self.due
    }

    /// How things stand at `now`.
    pub(crate) fn progress(&mut self, now: Tick, text: &str) {
        let text: String = format!("[{:>5} s]  {text}", self.clock(now)).chars().take(WIDTH).collect();
        match self.face {
            Face::Terminal => {
                self.erase();
                print(&text);
                self.due = now.after(Duration::from_millis(250));
            }
            Face::Plain => {
                print(&format!("{text}\n"));
                self.due = now.after(Duration::from_secs(2));
            }
        }
    }

    /// Takes the progress line away.
    pub(crate) fn erase(&self) {
        if self.face == Face::Terminal {
            print("\r\x1b[K");
        }
    }
}

/// To standard output. Whoever has stopped reading it still gets the exit code.
fn print(text: &str) {
    let mut out = stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
