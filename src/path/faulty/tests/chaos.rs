//! Faults at random. The disk refuses to do anything twice or after its fence, the rig to take anything back twice.

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

use super::memory::Ending;
use super::rig::{Rig, Status, WRITE};
use super::{LOST, MILLISECOND};
use crate::error::Cause;
use crate::io::Operation;
use crate::path::{Fault, FaultKind, FenceSupport, Stall, Transport};

const KINDS: [FaultKind; 7] = [
    FaultKind::TransportBefore(Transport::Local),
    FaultKind::TransportBefore(Transport::Fabric),
    FaultKind::TransportAfter(Transport::Local),
    FaultKind::TransportAfter(Transport::Fabric),
    FaultKind::Medium,
    FaultKind::Busy,
    FaultKind::Refused,
];

struct Chaos {
    rig: Rig,
    chance: Xoshiro256PlusPlus,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut chance = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut rig = Rig::unconnected(seed);
        match chance.next_u32() % 3 {
            0 => rig.faults.fence_after(5 * MILLISECOND),
            1 => rig.disk().fence = FenceSupport::Proven,
            _ => {}
        }
        rig.connect().unwrap();
        Self { rig, chance }
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.chance.next_u32() % limit
    }

    fn millis(&mut self, limit: u32) -> Duration {
        MILLISECOND * self.below(limit)
    }

    fn submit(&mut self) {
        let batch = 1 + self.below(4);
        let all: Vec<_> = (0..batch)
            .map(|_| {
                let operation = [WRITE, WRITE, Operation::Read, Operation::Flush][self.below(4) as usize];
                (operation, u64::from(self.below(60)), 1 + self.below(4), 1)
            })
            .collect();
        self.rig.submit_all(all);
    }

    fn switch(&mut self) {
        let rate = self.below(500_000);
        match self.below(9) {
            0 => self.rig.faults.fail(),
            1 => self.rig.faults.stall(Stall::Late),
            2 => self.rig.faults.stall(LOST),
            3 => {
                let land_after = Some(self.millis(20));
                self.rig.faults.stall(Stall::Lost { land_after });
            }
            4 => {
                let delay = self.millis(10);
                self.rig.faults.slow(delay);
            }
            5 => {
                let kind = KINDS[self.below(7) as usize];
                self.rig.faults.errors(kind, rate).unwrap();
            }
            6 => self.rig.faults.short(rate).unwrap(),
            _ => self.rig.faults.restore(),
        }
    }

    fn disturb(&mut self) {
        let fault = Fault::Unknown { cause: Cause::Timeout, fence: None };
        match self.below(6) {
            0 => self.rig.disk().frozen = true,
            1 => self.rig.disk().frozen = false,
            2 => {
                let room = self.below(4) as usize;
                self.rig.disk().room = room;
            }
            3 => self.rig.disk().next.push_back(Ending::GivesUp(fault)),
            4 => self.rig.disk().next.push_back(Ending::Fails(fault)),
            _ => self.rig.fence(),
        }
    }

    fn step(&mut self) {
        match self.below(12) {
            0..4 => self.submit(),
            4 | 5 => self.rig.run(),
            6 => {
                let span = self.millis(6);
                self.rig.advance(span);
            }
            7 => self.rig.event(),
            8 | 9 => self.switch(),
            10 => self.disturb(),
            _ => {
                // Fails while the path does.
                let _ = self.rig.connect();
                self.rig.probe();
            }
        }
    }

    fn settle(&mut self) {
        let mut disk = self.rig.disk();
        (disk.frozen, disk.room) = (false, usize::MAX);
        disk.next.clear();
        drop(disk);
        self.rig.faults.restore();
        self.rig.advance(Duration::from_secs(1));
    }

    /// An attempt that is said to be untouched was not done, and one that succeeded was.
    fn verify(&self, seed: u64) {
        for (place, status) in self.rig.statuses() {
            let done = self.rig.disk().done.contains(&place);
            match status {
                Status::Out | Status::GivenUp(_) => panic!("seed {seed}: attempt {place} never came back"),
                Status::Done(Ok(_)) => assert!(done, "seed {seed}: attempt {place} was not done"),
                Status::Done(Err(Fault::Unknown { .. })) | Status::Released => {}
                Status::Left | Status::Done(Err(_)) => {
                    assert!(!done, "seed {seed}: attempt {place} was done");
                }
            }
        }
    }
}

#[test]
fn no_attempt_is_lost_or_doubled_or_done_after_its_fence() {
    for seed in 0..300 {
        let mut chaos = Chaos::new(seed);
        for _ in 0..200 {
            chaos.step();
        }
        chaos.settle();
        chaos.verify(seed);
    }
}
