//! What it costs to hand an I/O to a dispatcher and back, and what a crowd of threads gets through one client.
//!
//! `cargo bench --bench handoff [-- --rounds 41]`
//!
//! *Crossing*: one thread keeps 1 or 32 reads of 4 KiB out, over a path that answers at once. It polls its own queue
//! inline, or sends them to a dispatcher: through a submitter, through a client as futures, or (one at a time) with
//! blocking calls. Beside it two threads hand a word back and forth: what the two cores can do at that moment. All take
//! turns within each round.
//!
//! *Crowd*: 64 threads, each with one blocking read of 4 KiB at a time, through one client with room for all of them,
//! through one with 8 places, and each through a submitter of its own, in turns. Fairness is what the slowest thread got to
//! what the fastest got.
//!
//! Medians over all rounds, and from the tenth to the ninetieth percentile; ratios are taken within a round.

#![allow(clippy::expect_used, reason = "what fails here fails the bench")]
#![allow(clippy::cast_precision_loss, reason = "figures for a table")]

mod crossing;
mod crowd;
mod spread;
#[path = "../support/mod.rs"]
mod support;

/// `cargo bench` says `--bench`; without it one short round shows that everything works.
fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let is_full = arguments.iter().any(|argument| argument == "--bench");
    let at = arguments.iter().position(|argument| argument == "--rounds");
    let asked = at.and_then(|at| arguments.get(at + 1)?.parse().ok());
    let rounds = asked.unwrap_or(if is_full { 41 } else { 1 });
    crossing::contest(rounds, if is_full { 20_000 } else { 200 });
    crowd::contest(rounds.div_ceil(4), if is_full { 500 } else { 10 });
}
