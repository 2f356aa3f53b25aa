//! What is said at the end.

use mpio::{Fate, Health, PathStatus};

use crate::history::{Chapter, History};
use crate::screen::Screen;
use crate::tally::Tally;
use crate::units::{bytes, count, time};

const FATES: [Fate; 5] = [Fate::NotSent, Fate::Refused, Fate::Unknown, Fate::Congested, Fate::Final];

const NEXT: &str = "
What to look at next:
  README.md                     what happens to a write when its path dies
  examples/quickstart/load.rs   how a queue is used
  examples/quickstart/port.rs   how to bring a storage of your own to a volume
  cargo doc --open              the interface
  DESIGN.md                     why it is as it is";

/// The paths, one row each with what happened to it below.
pub(crate) fn table(screen: &mut Screen, history: &History) {
    screen.line("");
    screen.line("  path                  I/Os     bytes      p50      p99    p99.9   errors");
    for chapter in history.chapters() {
        if let Some(status) = &chapter.status {
            screen.line(&row(status));
        }
        for (at, what) in &chapter.changes {
            let at = screen.clock(*at);
            screen.line(&format!("    {at:>5} s  {what}"));
        }
    }
}

fn row(path: &PathStatus) -> String {
    let latency = |per_mille| path.latency(per_mille).map_or_else(|| "-".to_owned(), time);
    let name = format!("{} ({})", path.name, path.id);
    let (ios, moved, errors) = (count(path.completed()), bytes(path.bytes()), count(errors(path)));
    let [half, most, tail] = [500, 990, 999].map(latency);
    format!("  {name:<15} {ios:>10} {moved:>9} {half:>8} {most:>8} {tail:>8} {errors:>8}")
}

/// Tries that ended badly on this path.
fn errors(path: &PathStatus) -> u64 {
    FATES.iter().map(|&fate| path.failed(fate)).sum()
}

/// Whether all is well.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
}

/// Says how it went.
pub(crate) fn verdict(screen: &mut Screen, history: &History, tally: &Tally, blocks: u64) -> Verdict {
    let paths_back = history.chapters().all(is_well);
    let all_read = tally.audited == blocks;
    let passed = tally.is_clean() && all_read && paths_back;
    screen.line(if passed {
        "\nPASSED: every request completed, every block was right, every path is back.\n"
    } else {
        "\nFAILED: see below.\n"
    });
    say_requests(screen, history, tally);
    say_blocks(screen, tally, blocks);
    if !paths_back {
        screen.line("  A path that was restored has not come back.");
    }
    for note in &tally.notes {
        screen.line(&format!("  - {note}"));
    }
    if !passed {
        return Verdict::Failed;
    }
    screen.line(NEXT);
    Verdict::Passed
}

fn say_requests(screen: &mut Screen, history: &History, tally: &Tally) {
    let [accepted, done, failed, lost] = [tally.accepted, tally.done, tally.failed, tally.lost].map(count);
    screen.line(&format!(
        "  {accepted} requests were accepted: {done} completed, {failed} failed, {lost} lost."
    ));
    let errors: u64 = history.chapters().filter_map(|chapter| chapter.status.as_ref()).map(errors).sum();
    if tally.failed + tally.lost == 0 {
        screen
            .line(&format!("  {} tries failed on their path; none of them failed a request.", count(errors)));
    }
}

fn say_blocks(screen: &mut Screen, tally: &Tally, blocks: u64) {
    let [checked, wrong, audited, blocks] =
        [tally.right + tally.wrong, tally.wrong, tally.audited, blocks].map(count);
    screen.line(&format!("  {checked} blocks were read and checked: {wrong} wrong."));
    screen.line(&format!("  At the end {audited} of {blocks} blocks held exactly what was last written."));
}

/// Whether a path works or was taken out.
fn is_well(chapter: &Chapter) -> bool {
    chapter.status.as_ref().is_none_or(|status| status.leaving || status.health == Health::Up)
}
