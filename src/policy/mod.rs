//! Which of the eligible paths an I/O takes.
//!
//! The engine decides which paths are *eligible* (health, access state, room); a policy selects among those alone,
//! and sees nothing else. One instance serves one queue, on that queue's thread.
//!
//! | policy | takes | for |
//! |---|---|---|
//! | [`Failover`] | the preferred path, others only when it is gone | arrays with one good way |
//! | [`RoundRobin`] | each path in its turn, by weight | paths that are alike, even wear of all of them |
//! | [`LeastQueue`] | the path with the fewest attempts out, by weight | a default that is never far wrong |
//! | [`AdaptiveLatency`] | the path with the lowest latency times queue | paths that differ, or change |
//!
//! To add a policy to the crate, add a file here; a policy of your own implements [`Policy`], is made by [`make`], and
//! should pass `mpio::policy_suite!` (feature `testing`).

mod adaptive_latency;
mod candidate;
mod estimates;
mod failover;
mod least_queue;
mod make;
mod round_robin;
#[cfg(any(test, feature = "testing"))]
pub mod suite;

use std::time::Duration;

pub use adaptive_latency::AdaptiveLatency;
pub use candidate::{Candidate, Candidates, MAX_PATHS};
pub use failover::{Failback, Failover};
pub use least_queue::LeastQueue;
pub use make::{MakePolicy, NAMES, by_name, make};
pub use round_robin::RoundRobin;

use crate::io::Operation;
use crate::time::Tick;

/// What a policy is told of the I/O that it places.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct IoSummary {
    /// What it does.
    pub operation: Operation,
    /// Bytes that it moves; zero where no data moves.
    pub bytes: u32,
    /// The time of the batch.
    pub now: Tick,
}

impl IoSummary {
    /// An I/O of `bytes` bytes.
    pub const fn new(operation: Operation, bytes: u32, now: Tick) -> Self {
        Self { operation, bytes, now }
    }
}

/// What became of one attempt that succeeded. Errors never reach a policy.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Observation {
    /// Index of the path.
    pub index: usize,
    /// What was done.
    pub operation: Operation,
    /// Bytes that it moved.
    pub bytes: u32,
    /// From dispatch to completion.
    pub latency: Duration,
}

impl Observation {
    /// A success on the path of index `index`.
    pub const fn new(index: usize, operation: Operation, bytes: u32, latency: Duration) -> Self {
        Self { index, operation, bytes, latency }
    }
}

/// What a policy wants to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placement {
    /// The eligible paths that can take one more attempt.
    WithRoom,
    /// All eligible paths: where the one it selects has no room, the I/O waits.
    Strict,
}

/// Selects a path for each I/O of one queue.
///
/// A policy that panics, or selects an index that is not eligible, is replaced by [`LeastQueue`], and the volume
/// reports it.
///
/// ```
/// use mpio::policy::{Candidates, IoSummary, Policy};
///
/// /// Always the eligible path of the lowest index.
/// struct First;
///
/// impl Policy for First {
///     fn select(&mut self, _io: &IoSummary, candidates: &Candidates<'_>) -> usize {
///         candidates.next_from(0).unwrap_or(0)
///     }
/// }
/// ```
pub trait Policy: Send {
    /// Index of one of `candidates`, of which there is at least one. Called once for each attempt.
    fn select(&mut self, io: &IoSummary, candidates: &Candidates<'_>) -> usize;

    /// Whether it chooses among the paths that have room, or waits for the path it wants. Asked once.
    fn placement(&self) -> Placement {
        Placement::WithRoom
    }

    /// Whether it is told what was completed: collecting that costs a few nanoseconds for each I/O. Asked once.
    fn observes(&self) -> bool {
        true
    }

    /// What was completed since the last batch.
    fn observe(&mut self, observations: &[Observation]) {
        let _ = observations;
    }

    /// Paths joined, left, or changed their health, weight or rank; `candidates` are the eligible ones now, whether
    /// or not they have room.
    fn paths_changed(&mut self, candidates: &Candidates<'_>) {
        let _ = candidates;
    }
}
