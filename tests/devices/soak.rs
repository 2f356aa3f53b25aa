//! Two queues on two threads over four loop devices of one file, with every fault at random.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mpio::path::QueueIndex;
use mpio::policy::RoundRobin;
use mpio::{Health, NoPath, Pool, Tick, Volume};

use crate::clerk::{Clerk, PATIENCE};
use crate::ledger::Ledger;
use crate::mischief::{Fence, Mischief, Stay, Way};
use crate::stamps::BLOCK_SIZE;
use crate::testing_support::{Loops, require_loops};
use crate::traffic::{BLOCKS, BUFFERS, MOST_BLOCKS, Traffic};

const QUEUES: u16 = 2;

/// With and without a fence, by proof and by waiting.
const FENCES: [Fence; 4] = [
    Fence::Proven(Duration::from_millis(5)),
    Fence::Proven(Duration::from_millis(80)),
    Fence::Assumed(Duration::from_millis(50)),
    Fence::None,
];

#[test]
fn nothing_is_lost_doubled_or_overwritten_while_every_path_fails_in_every_way() {
    let Some(loops) = require_loops(FENCES.len(), BLOCKS * u64::from(BLOCK_SIZE)) else { return };
    let seed = number("MPIO_SOAK_SEED").unwrap_or_else(|| Tick::now().as_nanos());
    let length = Duration::from_secs(number("MPIO_SOAK_SECONDS").unwrap_or(6));
    println!("MPIO_SOAK_SEED={seed} (timing differs from run to run all the same)");
    let mut soak = Soak::new(&loops, seed);
    soak.run(length);
    soak.settle();
    soak.check();
    let content = fs::read(loops.file()).unwrap();
    soak.ledger.check_content(&content);
    assert_eq!(soak.ledger.complaints(), [] as [String; 0], "seed {seed}\n{}", soak.mischief.recent());
    let nodes: Vec<_> = (0..FENCES.len()).map(|index| loops.device(index).to_owned()).collect();
    let file = loops.file().to_owned();
    drop(soak);
    drop(loops);
    for node in nodes {
        let name = node.file_name().unwrap().to_str().unwrap();
        let backing = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).unwrap_or_default();
        assert!(!backing.contains(file.to_str().unwrap()), "{name} is still attached to {backing}");
    }
}

struct Soak {
    volume: Volume,
    pool: Pool,
    ledger: Arc<Ledger>,
    traffic: Vec<Traffic>,
    mischief: Mischief,
}

impl Soak {
    fn new(loops: &Loops, seed: u64) -> Self {
        let pool = Pool::new(MOST_BLOCKS * BLOCK_SIZE, BUFFERS * u32::from(QUEUES)).unwrap();
        let ledger = Arc::new(Ledger::new(BLOCKS));
        let mut builder = Volume::builder()
            .queues(QUEUES)
            .pool(&pool)
            .no_path(NoPath::hold(Duration::from_secs(2)))
            .suspect_after(Duration::from_millis(100))
            .probe_interval(Duration::from_millis(20))
            .seed(seed);
        let mut faults = Vec::new();
        for (index, fence) in FENCES.into_iter().enumerate() {
            let (path, handle) = fence.path(loops.device(index), seed ^ index as u64);
            builder = builder.path(path);
            faults.push(handle);
        }
        let volume = builder.build().unwrap();
        assert_eq!(volume.geometry().block_size(), BLOCK_SIZE);
        let ids = volume.status().paths.into_iter().map(|path| path.id);
        let ways =
            FENCES.into_iter().zip(faults).zip(ids).enumerate().map(|(index, ((fence, faults), id))| Way {
                device: loops.device(index).to_owned(),
                fence,
                faults,
                id,
                stay: Stay::Present,
            });
        let mischief = Mischief::new(volume.clone(), ways.collect(), seed);
        let traffic = (0..QUEUES).map(|index| {
            let queue = volume.take_queue(QueueIndex(index)).unwrap();
            let clerk = Clerk::new(queue, pool.clone(), Arc::clone(&ledger));
            Traffic::new(clerk, seed.wrapping_add(index.into()))
        });
        Self { traffic: traffic.collect(), volume, pool, ledger, mischief }
    }

    /// Traffic and faults for so long; then all faults end, and everything under way with them.
    fn run(&mut self, length: Duration) {
        let end = Tick::now().after(length);
        // Publishes nothing: queues only have to go on being polled until it is set.
        let calm = AtomicBool::new(false);
        let mischief = &mut self.mischief;
        let volume = &self.volume;
        thread::scope(|scope| {
            for traffic in &mut self.traffic {
                let calm = &calm;
                scope.spawn(move || {
                    traffic.run(end);
                    traffic.clerk.turn_until("after the faults", |clerk| {
                        clerk.is_idle() && calm.load(Ordering::Relaxed)
                    });
                });
            }
            scope.spawn(|| {
                mischief.run(end);
                mischief.end();
                calm.store(true, Ordering::Relaxed);
            });
        });
        println!("{:#?}\n{:#?}", self.mischief.done(), self.ledger.tally());
        for path in volume.status().paths {
            println!("{} {:?}: {} attempts, fence {}", path.name, path.health, path.completed(), path.fence);
        }
    }

    /// Every path comes up again, and no write is left that may still land.
    fn settle(&mut self) {
        let volume = self.volume.clone();
        let limit = Tick::now().after(PATIENCE);
        loop {
            let status = volume.status();
            let settled = status.paths.iter().all(|path| path.health == Health::Up) && status.ghosts == 0;
            if settled && status.paths.len() == FENCES.len() {
                return;
            }
            assert!(Tick::now() < limit, "not settled: {status:#?}\n{}", self.mischief.recent());
            for traffic in &mut self.traffic {
                traffic.clerk.turn();
            }
        }
    }

    /// Every path is trusted again: each takes its part in reading everything, on each queue.
    fn use_every_path(&mut self) {
        self.volume.set_policy(RoundRobin::default()).unwrap();
        for traffic in &mut self.traffic {
            let before = completed(&self.volume);
            let limit = Tick::now().after(PATIENCE);
            while completed(&self.volume).iter().zip(&before).any(|(after, before)| after == before) {
                assert!(
                    Tick::now() < limit,
                    "a path is up and not used: {before:?}, {:?}",
                    completed(&self.volume)
                );
                traffic.clerk.read_all(BLOCKS, MOST_BLOCKS);
            }
        }
    }

    /// Reads everything through the volume, and closes it.
    fn check(&mut self) {
        self.use_every_path();
        for traffic in &mut self.traffic {
            traffic.clerk.clear_shelf();
        }
        assert_eq!(self.pool.available(), (BUFFERS * u32::from(QUEUES)) as usize, "every buffer is back");
        for kind in ["read", "write", "FUA write", "flush", "write zeroes", "discard"] {
            assert!(self.ledger.tally().contains_key(&format!("{kind} done")), "no {kind} was done");
        }
        let settled = self.volume.close(Duration::from_secs(1));
        self.traffic.clear();
        assert!(settled.wait(PATIENCE), "the volume does not close");
    }
}

/// Attempts that succeeded, by path.
fn completed(volume: &Volume) -> Vec<u64> {
    volume.status().paths.iter().map(mpio::PathStatus::completed).collect()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}
