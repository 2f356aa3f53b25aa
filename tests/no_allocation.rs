//! Nothing is allocated for an I/O.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

#[path = "../benches/support/mod.rs"]
mod support;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use mpio::policy::{AdaptiveLatency, Failover, LeastQueue, MakePolicy, RoundRobin};
use mpio::{BlockCount, Client, Dispatcher, Durability, Extent, Lba, Pool, QueueIndex, Tick, Volume};
use support::closed_loop::{ClosedLoop, Shape, WINDOW};
use support::ledger::Ledger;
use support::null_path::{Answers, BLOCK, NullPath};

#[global_allocator]
static LEDGER: Ledger = Ledger::new();

const PATHS: usize = 4;
const SHAPE: Shape = Shape { paths: PATHS, used: PATHS, batch: 16, depth: 0 };
const BEYOND_WINDOW: Answers = Answers::BeyondWindow(WINDOW);

/// Allocations of the queue's thread in 100,000 I/Os, after enough of them for every list to have its size.
fn allocations(policy: impl MakePolicy, shape: &Shape, answers: &Answers) -> u64 {
    let mut ios = ClosedLoop::new(policy, shape, answers);
    // A clock of its own: what is out while others have the core is not late.
    let mut now = Tick::now();
    let mut run = |count| {
        let mut ended = 0;
        while ended < count {
            now = now.after(Duration::from_micros(1));
            ended += ios.turn_at(now);
        }
    };
    run(10_000);
    let before = Ledger::allocations();
    run(100_000);
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

/// A client of a queue over a path that answers at once.
fn client(depth: u32) -> (Volume, Client) {
    let path = NullPath::new(0, 64, Answers::BeyondWindow(0));
    let volume = Volume::builder().path(path).build().unwrap();
    let queue = volume.take_queue(QueueIndex(0)).unwrap();
    (volume, Dispatcher::start().unwrap().serve(queue).unwrap().client(depth).unwrap())
}

#[test]
fn blocking_calls_allocate_nothing() {
    let (_volume, client) = client(4);
    // Several pieces, several at a time.
    let mut data = vec![0; 40 * BLOCK as usize];
    let mut transfer = |times| {
        for _ in 0..times {
            client.write_at(&data, 0, Durability::Cached).unwrap();
            client.read_at(&mut data, 0).unwrap();
            client.flush().wait().result.unwrap();
        }
    };
    transfer(500);
    let before = Ledger::allocations();
    transfer(2_000);
    assert_eq!(Ledger::allocations() - before, 0);
}

/// Keeps what the thread that woke it last, the dispatcher, has allocated so far.
#[derive(Default)]
struct Witness(AtomicU64);

impl Wake for Witness {
    fn wake(self: Arc<Self>) {
        self.0.store(Ledger::allocations() + 1, Ordering::Release);
    }
}

#[test]
fn futures_allocate_nothing_on_either_side() {
    let (_volume, client) = client(4);
    let pool = Pool::new(BLOCK, 1).unwrap();
    let extent = Extent::new(Lba::new(0), BlockCount::new(1)).unwrap();
    let witness = Arc::new(Witness::default());
    let waker = Waker::from(Arc::clone(&witness));
    let mut context = Context::from_waker(&waker);
    let mut read = |times| {
        let mut seen = 0;
        for _ in 0..times {
            let mut response = client.read(extent, pool.take(BLOCK).unwrap());
            while Pin::new(&mut response).poll(&mut context).is_pending() {
                std::thread::yield_now();
            }
            seen = seen.max(witness.0.swap(0, Ordering::Acquire));
        }
        seen
    };
    let there = read(2_000);
    let here = Ledger::allocations();
    let later = read(10_000);
    assert_eq!(Ledger::allocations() - here, 0);
    assert!(there > 0 && later > 0, "some were waited for");
    assert_eq!(later - there, 0);
}

#[test]
fn the_ledger_notices_an_allocation() {
    let before = Ledger::allocations();
    drop(std::hint::black_box(Box::new(7)));
    assert_eq!(Ledger::allocations() - before, 1);
}
