//! How it ends: each request once, whoever goes first.

use std::thread;
use std::time::Duration;

use mpio::path::{BlockDevice, Stall};
use mpio::{Dispatcher, Error, Fate, Memory, Volume};

use crate::rig::{Rig, rest};

const LONG: Duration = Duration::from_mins(1);

#[test]
fn closing_the_volume_ends_every_request_once() {
    let rig = Rig::new(4);
    let served = rig.serve(&Dispatcher::start().unwrap());
    let mut lane = served.submitter(8).unwrap();
    rig.faults.stall(Stall::Lost { land_after: None });
    for block in 0..8 {
        lane.submit(rig.write(block, 1, block.into())).unwrap();
    }
    while rig.volume.status().paths[0].in_flight() < 4 {
        thread::yield_now();
    }
    let settled = rig.volume.close(Duration::ZERO);
    let completions = rest(&mut lane, 8);
    let mut cookies: Vec<_> = completions.iter().map(|completion| completion.cookie.0).collect();
    cookies.sort_unstable();
    assert_eq!(cookies, [0, 1, 2, 3, 4, 5, 6, 7]);
    for completion in &completions {
        let Err(Error::Closed { fate }) = &completion.result else { panic!("{completion:?}") };
        // What the queue had no room for never left the lane.
        let sent = completion.cookie.0 < 4;
        assert_eq!(*fate == Fate::Unknown, sent, "{completion:?}");
        assert_eq!(matches!(completion.memory, Memory::Quarantined), sent, "{completion:?}");
    }
    rig.faults.restore();
    assert!(settled.wait(LONG));
    while !lane.is_finished() {
        lane.wait(None, &mut Vec::new());
        while lane.poll_released().is_some() {}
    }
    assert!(lane.is_empty());
    drop(completions);
    rig.regain_buffers();
    let refused = lane.submit(rig.write(0, 1, 9)).unwrap_err();
    assert!(matches!(refused.error, Error::Closed { fate: Fate::NotSent }));
}

#[test]
fn a_finished_lane_does_not_wait() {
    let rig = Rig::new(4);
    let served = rig.serve(&Dispatcher::start().unwrap());
    let mut lane = served.submitter(8).unwrap();
    assert!(rig.volume.close(Duration::ZERO).wait(LONG));
    while !lane.is_finished() {
        lane.wait(None, &mut Vec::new());
    }
    lane.wait(None, &mut Vec::new());
    // Opened after the end: shut at once.
    let mut second = served.submitter(8).unwrap();
    second.wait(None, &mut Vec::new());
    assert!(second.is_finished());
}

#[test]
fn requests_of_a_dropped_submitter_run_on() {
    let rig = Rig::new(16);
    let served = rig.serve(&Dispatcher::start().unwrap());
    for round in 0..20 {
        let mut lane = served.submitter(8).unwrap();
        for block in 0..8 {
            lane.submit(rig.write(block, 100 + round, 0)).unwrap();
        }
        drop(lane);
    }
    rig.regain_buffers();
    let content = std::fs::read(&rig.file).unwrap();
    assert!(content.chunks(4096).take(8).all(|block| block[0] >= 100));
}

#[test]
fn a_queue_that_nobody_can_reach_is_let_go() {
    let rig = Rig::new(16);
    let dispatcher = Dispatcher::start().unwrap();
    let served = rig.serve(&dispatcher);
    let mut lane = served.submitter(8).unwrap();
    drop(served);
    lane.submit(rig.write(0, 5, 0)).unwrap();
    rest(&mut lane, 1).remove(0).result.unwrap();
    drop(lane);
    let settled = rig.volume.close(Duration::ZERO);
    assert!(settled.wait(LONG), "the dispatcher went on polling, or kept the queue");
    claim(&rig);
}

#[test]
fn dropping_everything_with_requests_out_frees_the_device() {
    for order in 0..6 {
        let rig = Rig::new(16);
        let dispatcher = Dispatcher::start().unwrap();
        let served = rig.serve(&dispatcher);
        let mut lane = served.submitter(8).unwrap();
        for block in 0..8 {
            lane.submit(rig.write(block, 1, 0)).unwrap();
        }
        let mut parts: Vec<Box<dyn std::any::Any>> =
            vec![Box::new(dispatcher), Box::new(served), Box::new(lane)];
        parts.rotate_left(order % 3);
        if order >= 3 {
            parts.reverse();
        }
        drop(parts);
        let settled = rig.volume.close(Duration::ZERO);
        assert!(settled.wait(LONG));
        claim(&rig);
    }
}

/// The device is free for the next volume.
fn claim(rig: &Rig) {
    let path = BlockDevice::new(&rig.file).block_size(crate::rig::BLOCK).claim_timeout(LONG);
    Volume::builder().path(path).build().unwrap();
}

#[test]
fn a_lane_that_floods_does_not_starve_another() {
    let rig = Rig::new(4);
    let served = rig.serve(&Dispatcher::start().unwrap());
    let (mut flood, mut light) = (served.submitter(256).unwrap(), served.submitter(1).unwrap());
    rig.faults.stall(Stall::Late);
    for request in 0..256 {
        flood.submit(rig.read(5, request)).unwrap();
    }
    light.submit(rig.write(5, 77, 0)).unwrap();
    rig.faults.restore();
    rest(&mut light, 1).remove(0).result.unwrap();
    let mut flood = rest(&mut flood, 256);
    flood.sort_unstable_by_key(|completion| completion.cookie);
    let last = flood.pop().unwrap().memory.into_buffer().unwrap();
    assert_eq!(last[0], 77, "256 requests of the flood went before the one of the other");
}

#[test]
fn what_a_dropped_submitter_has_not_looked_at_goes_back_to_its_pool() {
    let rig = Rig::new(16);
    let served = rig.serve(&Dispatcher::start().unwrap());
    let mut lane = served.submitter(8).unwrap();
    for block in 0..6 {
        lane.submit(rig.read(block, 0)).unwrap();
    }
    // Polled by nobody. What is in flight is told now and then, what is done at once.
    while rig.volume.status().paths[0].completed() < 6 {
        thread::yield_now();
    }
    while rig.volume.status().paths[0].in_flight() > 0 {
        thread::yield_now();
    }
    rig.faults.stall(Stall::Late);
    lane.submit(rig.read(6, 0)).unwrap();
    while rig.volume.status().paths[0].in_flight() == 0 {
        thread::yield_now();
    }
    drop(lane);
    // All but the one that hangs.
    rig.regain(511);
    rig.faults.restore();
    rig.regain_buffers();
}
