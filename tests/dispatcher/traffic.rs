//! Requests there, completions back.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread;
use std::time::Duration;

use mpio::{Cookie, Dispatcher, Error, Memory, Request, Tick};

use crate::rig::{BLOCK, BLOCKS, Rig, next, rest};

#[test]
fn what_one_submitter_wrote_another_reads() {
    let rig = Rig::new(16);
    let served = rig.serve(&Dispatcher::start().unwrap());
    let (mut one, mut other) = (served.submitter(4).unwrap(), served.submitter(4).unwrap());
    one.submit(rig.write(3, 7, 11)).unwrap();
    let written = next(&mut one);
    assert_eq!(written.cookie, Cookie(11));
    written.result.unwrap();
    other.submit(rig.read(3, 12)).unwrap();
    let read = next(&mut other);
    assert_eq!(read.cookie, Cookie(12));
    assert!(read.memory.into_buffer().unwrap().iter().all(|&byte| byte == 7));
    assert!(one.is_empty() && other.is_empty());
}

#[test]
fn many_threads_get_their_own_completions_through_a_queue_that_is_too_small_for_all() {
    const THREADS: u32 = 8;
    const ROUNDS: u32 = 200;
    let rig = Rig::new(5);
    let served = rig.serve(&Dispatcher::start().unwrap());
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (rig, mut lane) = (&rig, served.submitter(4).unwrap());
            scope.spawn(move || {
                let share = BLOCKS / THREADS;
                for round in 0..ROUNDS {
                    let fill = (number * 31 + round).to_le_bytes()[0];
                    for step in 0..4 {
                        let block = number * share + (round * 4 + step) % share;
                        lane.submit(rig.write(block, fill, block.into())).unwrap();
                    }
                    let mut blocks: Vec<_> = rest(&mut lane, 4)
                        .into_iter()
                        .map(|completion| {
                            completion.result.unwrap();
                            u32::try_from(completion.cookie.0).unwrap()
                        })
                        .collect();
                    blocks.dedup();
                    assert_eq!(blocks.len(), 4);
                    lane.submit(rig.read(blocks[0], 0)).unwrap();
                    let read = next(&mut lane).memory.into_buffer().unwrap();
                    assert!(read.iter().all(|&byte| byte == fill));
                }
            });
        }
    });
    rig.regain_buffers();
}

#[test]
fn one_dispatcher_serves_the_queues_of_two_volumes_asleep_or_awake() {
    let (one, other) = (Rig::new(8), Rig::new(8));
    let dispatcher = Dispatcher::start().unwrap();
    let mut lanes = [&one, &other].map(|rig| rig.serve(&dispatcher).submitter(4).unwrap());
    drop(dispatcher);
    for round in 0..300_u32 {
        for (rig, lane) in [&one, &other].into_iter().zip(&mut lanes) {
            lane.submit(rig.write(round % BLOCKS, 1, round.into())).unwrap();
            next(lane).result.unwrap();
        }
        if round % 10 == 0 {
            // Long enough for the dispatcher to fall asleep; nothing depends on whether it does.
            let awhile = Tick::now().after(Duration::from_micros(300));
            lanes[0].wait(Some(awhile), &mut Vec::new());
        }
    }
    // A flush is at another queue's work: each volume has its own.
    lanes[1].submit(Request::flush(Cookie(5))).unwrap();
    assert_eq!(next(&mut lanes[1]).cookie, Cookie(5));
}

#[test]
fn what_cannot_be_taken_is_given_back() {
    let rig = Rig::new(8);
    let served = rig.serve(&Dispatcher::start().unwrap());
    assert!(served.submitter(0).is_err() && served.submitter(65_537).is_err());
    let mut lane = served.submitter(1).unwrap();
    rig.faults.stall(mpio::path::Stall::Late);
    lane.submit(rig.read(0, 1)).unwrap();
    let full = lane.submit(rig.write(0, 9, 2)).unwrap_err();
    assert!(matches!(full.error, Error::QueueFull { depth: 1 }));
    assert_eq!((full.request.cookie, full.request.buffer.unwrap()[0]), (Cookie(2), 9));
    let outside = lane.submit(rig.read(BLOCKS, 3)).unwrap_err();
    assert!(matches!(outside.error, Error::OutOfRange { .. }));
    assert!(outside.request.buffer.is_some());
    let mut short = rig.read(0, 4);
    short.buffer = None;
    assert!(matches!(lane.submit(short).unwrap_err().error, Error::BufferSize { .. }));
    rig.faults.restore();
    next(&mut lane).result.unwrap();
}

#[test]
fn the_descriptor_is_readable_when_there_is_something_to_poll() {
    let rig = Rig::new(8);
    let served = rig.serve(&Dispatcher::start().unwrap());
    let mut lane = served.submitter(8).unwrap();
    let mut completions = Vec::new();
    for round in 0..500_u32 {
        if round == 250 {
            // One that was asked for late finds what came before.
            lane = served.submitter(8).unwrap();
        }
        lane.submit(rig.write(round % BLOCKS, 1, round.into())).unwrap();
        while completions.is_empty() {
            sleep_on(lane.wake_fd());
            lane.poll(&mut completions);
        }
        completions.remove(0).result.unwrap();
    }
}

#[test]
fn the_descriptor_is_not_readable_for_ever() {
    let rig = Rig::new(8);
    let served = rig.serve(&Dispatcher::start().unwrap());
    let mut lane = served.submitter(8).unwrap();
    let patience = Tick::now().after(Duration::from_secs(30));
    for round in 0..100 {
        lane.submit(rig.write(round % BLOCKS, 1, round.into())).unwrap();
        let mut completions = Vec::new();
        while completions.is_empty() {
            sleep_on(lane.wake_fd());
            lane.poll(&mut completions);
        }
        // Once more if the bell was rung for what had been polled already.
        while is_readable(lane.wake_fd(), 0) {
            assert!(Tick::now() < patience, "nothing is there, and it is readable");
            lane.poll(&mut completions);
        }
        assert_eq!(completions.len(), 1);
    }
}

/// Blocks until the descriptor is readable.
fn sleep_on(fd: BorrowedFd<'_>) {
    assert!(is_readable(fd, 60_000), "nobody rang within a minute");
}

fn is_readable(fd: BorrowedFd<'_>, milliseconds: i32) -> bool {
    let mut polled = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: `polled` is one valid entry, which the call does not keep.
    #[allow(unsafe_code, reason = "there is no other way to sleep on a descriptor")]
    let ready = unsafe { libc::poll(&raw mut polled, 1, milliseconds) };
    ready == 1
}

#[test]
fn a_cancelled_request_ends_and_its_memory_comes_later() {
    let rig = Rig::new(8);
    let served = rig.serve(&Dispatcher::start().unwrap());
    let mut lane = served.submitter(2).unwrap();
    rig.faults.stall(mpio::path::Stall::Late);
    lane.submit(rig.read(1, 21)).unwrap();
    while rig.volume.status().paths[0].in_flight() == 0 {
        thread::yield_now();
    }
    assert_eq!(lane.cancel(Cookie(20)), 0);
    assert_eq!(lane.cancel(Cookie(21)), 1);
    let cancelled = next(&mut lane);
    assert!(matches!(cancelled.result, Err(Error::Cancelled { .. })));
    assert!(matches!(cancelled.memory, Memory::Quarantined));
    assert_eq!((lane.len(), lane.cancel(Cookie(21))), (1, 0));
    rig.faults.restore();
    let mut completions = Vec::new();
    let (cookie, buffer) = loop {
        if let Some(released) = lane.poll_released() {
            break released;
        }
        lane.wait(None, &mut completions);
    };
    assert_eq!((cookie, buffer.len()), (Cookie(21), BLOCK as usize));
    assert!(completions.is_empty() && lane.is_empty());
    drop(buffer);
    rig.regain_buffers();
}

#[test]
fn the_status_is_right_while_a_thread_sleeps_on_several_queues() {
    let (one, other) = (Rig::new(8), Rig::new(8));
    let dispatcher = Dispatcher::start().unwrap();
    let mut lanes = [&one, &other].map(|rig| rig.serve(&dispatcher).submitter(8).unwrap());
    let patience = Tick::now().after(Duration::from_secs(30));
    for round in 0..20 {
        // Rare requests: it has learnt to sleep at once.
        let awhile = Tick::now().after(Duration::from_millis(1));
        lanes[0].wait(Some(awhile), &mut Vec::new());
        other.faults.stall(mpio::path::Stall::Late);
        lanes[1].submit(other.read(0, round)).unwrap();
        while other.volume.status().paths[0].in_flight() != 1 {
            assert!(Tick::now() < patience, "round {round}: nothing is said to be in flight");
            thread::yield_now();
        }
        other.faults.restore();
        next(&mut lanes[1]).result.unwrap();
        while other.volume.status().paths[0].in_flight() != 0 {
            assert!(Tick::now() < patience, "round {round}: something is said to be in flight");
            thread::yield_now();
        }
    }
}

#[test]
fn a_deadline_wakes_a_dispatcher_that_sleeps_on_two_queues() {
    let (one, other) = (Rig::new(8), Rig::new(8));
    let dispatcher = Dispatcher::start().unwrap();
    let (served, _idle) = (one.serve(&dispatcher), other.serve(&dispatcher));
    let mut lane = served.submitter(2).unwrap();
    one.faults.stall(mpio::path::Stall::Late);
    let soon = Tick::now().after(Duration::from_millis(30));
    lane.submit(one.read(1, 1).with_deadline(soon)).unwrap();
    let ended = next(&mut lane);
    assert!(matches!(ended.result, Err(Error::DeadlineExceeded { .. })), "{ended:?}");
    one.faults.restore();
}
