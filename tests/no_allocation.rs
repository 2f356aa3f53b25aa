//! Nothing is allocated for an I/O.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

#[path = "../benches/support/mod.rs"]
mod support;

use std::sync::Arc;

use mpio::policy::{AdaptiveLatency, Failover, LeastQueue, MakePolicy, RoundRobin};
use support::closed_loop::{ClosedLoop, Shape, WINDOW};
use support::ledger::Ledger;
use support::null_path::Answers;

#[global_allocator]
static LEDGER: Ledger = Ledger::new();

const PATHS: usize = 4;
const SHAPE: Shape = Shape { paths: PATHS, used: PATHS, batch: 16, depth: 0 };
const BEYOND_WINDOW: Answers = Answers::BeyondWindow(WINDOW);

/// Allocations of the queue's thread in 100,000 I/Os, after enough of them for every list to have its size.
fn allocations(policy: impl MakePolicy, shape: &Shape, answers: &Answers) -> u64 {
    let mut ios = ClosedLoop::new(policy, shape, answers);
    ios.run(10_000);
    let before = Ledger::allocations();
    ios.run(100_000);
    Ledger::allocations() - before
}

#[test]
fn round_robin_allocates_nothing() {
    assert_eq!(allocations(RoundRobin::new(), &SHAPE, &BEYOND_WINDOW), 0);
}

#[test]
fn least_queue_allocates_nothing() {
    assert_eq!(allocations(LeastQueue::new(), &SHAPE, &BEYOND_WINDOW), 0);
}

#[test]
fn failover_allocates_nothing() {
    assert_eq!(allocations(Failover::new(), &Shape { used: 1, ..SHAPE }, &BEYOND_WINDOW), 0);
}

#[test]
fn adaptive_latency_allocates_nothing() {
    let in_line = Answers::InLine { window: PATHS * WINDOW, arrivals: Arc::default() };
    assert_eq!(allocations(AdaptiveLatency::new(), &SHAPE, &in_line), 0);
}

#[test]
fn the_ledger_notices_an_allocation() {
    let before = Ledger::allocations();
    drop(std::hint::black_box(Box::new(7)));
    assert_eq!(Ledger::allocations() - before, 1);
}
