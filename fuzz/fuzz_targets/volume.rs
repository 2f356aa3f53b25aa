//! A volume in the simulator under any sequence of requests, faults and repairs: everything ends once, and nothing older
//! lands over anything newer.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mpio::sim::{History, LinkFault, LinkProfile, Options, Simulation};
use mpio::{BlockCount, Cookie, Durability, Extent, Lba, Memory, Operation, Request, Unmap};

const LINKS: usize = 3;
const BLOCKS: u64 = 16;

struct World {
    sim: Simulation,
    history: History,
    next: u64,
}

fuzz_target!(|bytes: &[u8]| {
    let mut options = Options::new(vec![LinkProfile::default(); LINKS]);
    options.blocks = BLOCKS;
    let Ok(sim) = Simulation::new(&options) else { panic!("the options are good") };
    let mut world = World { sim, history: History::new(BLOCKS), next: 1 };
    // Each step takes two bytes: what, and with what.
    for step in bytes.chunks_exact(2).take(500) {
        world.step(step[0], usize::from(step[1]));
    }
    for link in 0..LINKS {
        world.sim.set_mishaps(link, 0);
        world.sim.restore_link(link);
    }
    world.run(Duration::from_secs(40));
    assert_eq!(world.history.open(), 0, "some requests never ended");
    let content = world.sim.content();
    world.history.check_content(&content);
    assert_eq!(world.history.violations(), [] as [String; 0]);
    assert_eq!(world.sim.violations(), [] as [String; 0]);
});

impl World {
    fn step(&mut self, what: u8, with: usize) {
        let link = with % LINKS;
        match what % 16 {
            0..=4 => self.submit(Operation::Write(Durability::Cached), with),
            5..=7 => self.submit(Operation::Read, with),
            8 => self.submit(Operation::Flush, with),
            9 => self.submit(Operation::WriteZeroes(Unmap::Allowed), with),
            10 => self.run(Duration::from_micros(10 * with as u64)),
            11 => self.run(Duration::from_millis(with as u64)),
            12 => self.sim.set_mishaps(link, 1000 * u32::try_from(with).unwrap_or(0)),
            13 => self.sim.restore_link(link),
            14 => self
                .sim
                .break_link(link, [LinkFault::Dead, LinkFault::Silent, LinkFault::Stuck][with / LINKS % 3]),
            _ => {
                self.sim.cancel(with % 2, Cookie(self.next.saturating_sub(1 + with as u64 / 2)));
                self.collect();
            }
        }
    }

    fn submit(&mut self, operation: Operation, with: usize) {
        let (start, blocks) = (with as u64 % BLOCKS, 1 + with as u64 / BLOCKS % 4);
        let blocks = u32::try_from(blocks.min(BLOCKS - start)).unwrap_or(1);
        let Ok(extent) = Extent::new(Lba::new(start), BlockCount::new(blocks)) else { return };
        let cookie = Cookie(self.next);
        let stamp = if operation.has_data() { self.next } else { 0 };
        let request = match operation {
            Operation::Flush => Request::flush(cookie),
            Operation::WriteZeroes(unmap) => Request::write_zeroes(extent, unmap, cookie),
            _ => {
                let Some(buffer) = self.sim.stamped(blocks, stamp) else { return };
                if operation == Operation::Read {
                    Request::read(extent, buffer, cookie)
                } else {
                    Request::write(extent, buffer, Durability::Cached, cookie)
                }
            }
        };
        // A full queue gives it back.
        if self.sim.submit(with / 64 % 2, request).is_ok() {
            self.next += 1;
            self.history.accepted(cookie, operation, extent, stamp);
        }
    }

    fn run(&mut self, span: Duration) {
        let limit = self.sim.now().after(span);
        while self.sim.step(limit) {
            self.collect();
        }
        self.collect();
    }

    fn collect(&mut self) {
        for (_, completion) in self.sim.take_completions() {
            let found = match &completion.memory {
                Memory::Returned(buffer) => self.sim.stamps(buffer),
                Memory::None => self.sim.durable(),
                Memory::Quarantined => Vec::new(),
            };
            self.history.ended(completion.cookie, &completion.result, &found);
        }
        drop(self.sim.take_released());
    }
}
