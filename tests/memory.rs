//! How much memory a queue takes, beside buffers and the stacks of threads. One test: everything that is allocated in
//! the process counts.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "../benches/support/mod.rs"]
mod support;

use mpio::path::QueueIndex;
use mpio::{BlockCount, Buffer, Completion, Cookie, Extent, Lba, Pool, Queue, Request, Tick, Volume};
use support::ledger::Ledger;
use support::null_path::{Answers, BLOCK, NullPath};

#[global_allocator]
static LEDGER: Ledger = Ledger::new();

/// Most bytes for each I/O that is in flight, beside its buffer.
const PER_IO: i64 = 512;
/// Most bytes for each path and queue.
const PER_PATH: i64 = 16 * 1024;

/// What is allocated for as long as what `make` returns is there: it stays, since its threads would take it down while
/// the next is measured.
fn bytes_of<T>(make: impl FnOnce() -> T) -> i64 {
    let before = LEDGER.live();
    std::mem::forget(make());
    LEDGER.live() - before
}

/// A volume over null paths of which `window` attempts stay out, and its queues, which have opened every path.
fn volume(queues: u16, depth: u32, paths: usize, window: usize) -> (Volume, Vec<Queue>) {
    let mut builder = Volume::builder().queues(queues).queue_depth(depth);
    for number in 0..paths {
        builder = builder.path(NullPath::new(number, depth, Answers::BeyondWindow(window)));
    }
    let volume = builder.build().unwrap();
    let mut taken: Vec<Queue> =
        (0..queues).map(|index| volume.take_queue(QueueIndex(index)).unwrap()).collect();
    for queue in &mut taken {
        queue.poll(Tick::now(), &mut Vec::new());
    }
    // The control side has come to rest when it answers.
    assert_eq!(volume.status().paths.len(), paths);
    (volume, taken)
}

/// A volume with `depth` I/Os in flight. The caller's own lists do not count.
fn under_load(depth: u32) -> i64 {
    let pool = Pool::new(BLOCK, depth).unwrap();
    let mut buffers: Vec<Buffer> = std::iter::from_fn(|| pool.take(BLOCK)).collect();
    let mut completions: Vec<Completion> = Vec::with_capacity(depth as usize);
    bytes_of(|| {
        let (volume, mut queues) = volume(1, depth, 4, 8);
        for _ in 0..100 {
            for buffer in buffers.drain(..) {
                let extent = Extent::new(Lba::new(0), BlockCount::new(1)).unwrap();
                queues[0].submit(Request::read(extent, buffer, Cookie(0))).unwrap();
            }
            queues[0].poll(Tick::now(), &mut completions);
            buffers.extend(completions.drain(..).filter_map(|completion| completion.memory.into_buffer()));
        }
        (volume, queues)
    })
}

/// An idle volume.
fn idle(queues: u16, paths: usize) -> i64 {
    bytes_of(|| volume(queues, 1, paths, 0))
}

#[test]
fn memory_is_bounded_by_io_and_by_path() {
    // Whatever is made once in a process.
    assert!(under_load(8) > 0);
    let per_io = (under_load(256) - under_load(128)) / 128;
    let per_path = idle(1, 9) - idle(1, 8);
    let per_path_of_many = (idle(8, 32) - idle(8, 8)) / (24 * 8);
    let per_queue = (idle(9, 4) - idle(1, 4)) / 8;
    println!(
        "bytes: {per_io} for each I/O in flight, {per_path} for another path of one queue, {per_path_of_many} for each \
         path and queue of eight queues, {per_queue} for another queue of four paths"
    );
    assert!(per_io <= PER_IO && per_path <= PER_PATH && per_path_of_many <= PER_PATH);
    assert!(per_queue <= 4 * PER_PATH);
}
