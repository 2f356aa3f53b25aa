//! What the user sees while it runs: lines, and below them, on a terminal, one line that keeps changing.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::Duration;

use mpio::Tick;

/// Widest progress line, so that it fits a terminal of 80 columns.
const WIDTH: usize = 79;

pub(crate) struct Screen {
    began: Tick,
    out: Out,
    face: Face,
    /// When to show progress next.
    due: Tick,
}

/// Where it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Out {
    Standard,
    /// Standard output is for a script.
    Error,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Face {
    /// The progress line is rewritten in place.
    Terminal,
    /// A file or a pipe: progress is a line like any other, now and then.
    Plain,
}

impl Face {
    /// From one progress line to the next.
    fn interval(self) -> Duration {
        match self {
            Self::Terminal => Duration::from_millis(250),
            Self::Plain => Duration::from_secs(5),
        }
    }
}

impl Screen {
    /// Times are shown relative to `began`.
    pub(crate) fn new(out: Out, began: Tick) -> Self {
        let terminal = match out {
            Out::Standard => stdout().is_terminal(),
            Out::Error => stderr().is_terminal(),
        };
        let face = if terminal { Face::Terminal } else { Face::Plain };
        Self { began, out, face, due: began.after(face.interval()) }
    }

    /// A line of text.
    pub(crate) fn line(&self, text: &str) {
        self.erase();
        self.print(&format!("{text}\n"));
    }

    /// A line about something that has just happened.
    pub(crate) fn event(&self, now: Tick, text: &str) {
        self.line(&format!("[{:>5} s]  {text}", self.clock(now)));
    }

    /// Whether to show progress.
    pub(crate) fn is_due(&self, now: Tick) -> bool {
        now >= self.due
    }

    /// How things stand at `now`.
    pub(crate) fn progress(&mut self, now: Tick, text: &str) {
        let text: String = format!("[{:>5} s]  {text}", self.clock(now)).chars().take(WIDTH).collect();
        match self.face {
            Face::Terminal => self.print(&format!("\r\x1b[K{text}")),
            Face::Plain => self.print(&format!("{text}\n")),
        }
        self.due = now.after(self.face.interval());
    }

    /// Takes the progress line away.
    pub(crate) fn erase(&self) {
        if self.face == Face::Terminal {
            self.print("\r\x1b[K");
        }
    }

    fn clock(&self, at: Tick) -> String {
        let since = at.since(self.began);
        format!("{}.{}", since.as_secs(), since.subsec_millis() / 100)
    }

    /// Whoever has stopped reading it still gets the exit code.
    fn print(&self, text: &str) {
        let _ = match self.out {
            Out::Standard => put(&mut stdout().lock(), text),
            Out::Error => put(&mut stderr().lock(), text),
        };
    }
}

fn put(out: &mut impl Write, text: &str) -> std::io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}
