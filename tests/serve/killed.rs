//! Killed at any moment, it ends: nothing of it waits for itself. `MPIO_KILLS` is how often each is tried; on an idle machine and
//! beside a load other moments are met.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::thread::park_timeout;
use std::time::Duration;

use crate::rig::{Serve, can_serve, in_background, until};
use crate::testing_support::{Loops, require_loops};

const BYTES: u64 = 16 << 20;
/// How much of the device has been written, and not yet been sent, when it is to end.
const DIRTY: usize = 8 << 20;
/// Times within which the next start has served.
const MOMENTS: u64 = 250;

fn kills(usual: u64) -> u64 {
    std::env::var("MPIO_KILLS").map_or(usual, |kills| kills.parse().expect("MPIO_KILLS is a number"))
}

/// Milliseconds that are spread over `most`, and differ from one `round` to the next.
fn moment(round: u64, most: u64) -> Duration {
    Duration::from_micros(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (most * 1000))
}

/// Two ways to one file.
struct Ways(Loops);

impl Ways {
    fn required() -> Option<Self> {
        if !can_serve() {
            return None;
        }
        require_loops(2, BYTES).map(Self)
    }

    fn arguments(&self) -> Vec<String> {
        let node = |index| self.0.device(index).display().to_string();
        vec!["--path".to_owned(), node(0), "--path".to_owned(), node(1)]
    }

    /// Whether nobody has a claim on either.
    fn are_free(&self) -> bool {
        (0..2).all(|index| {
            let exclusive = File::options().read(true).custom_flags(libc::O_EXCL).open(self.0.device(index));
            exclusive.is_ok()
        })
    }
}

#[test]
fn a_start_that_is_killed_at_any_moment_leaves_nothing() {
    let Some(ways) = Ways::required() else { return };
    let arguments = ways.arguments();
    for round in 0..kills(40) {
        let serve = Serve::launch(&arguments);
        park_timeout(moment(round, MOMENTS));
        serve.kill();
        until("its claims stay", || ways.are_free());
    }
    Serve::start(&arguments).terminate().with(0);
}

#[test]
fn an_end_that_is_killed_at_any_moment_leaves_nothing() {
    let Some(ways) = Ways::required() else { return };
    let arguments = ways.arguments();
    for round in 0..kills(8) {
        let serve = Serve::start(&arguments);
        let user = File::options().write(true).open(serve.device()).unwrap();
        for path in 0..2 {
            serve.must(&format!("stall {path} lost"));
        }
        user.write_all_at(&vec![1; DIRTY], 0).unwrap();
        // Its user waits, or has gone.
        let user = (round % 2 == 0).then(|| in_background(move || user.sync_all()));
        serve.signal("TERM");
        park_timeout(moment(round, MOMENTS));
        serve.kill();
        if let Some(user) = user {
            assert!(user.recv().unwrap().is_err(), "what was under way fails");
        }
        until("its claims stay", || ways.are_free());
    }
}
