//! Whatever can be done to paths through the control socket.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::rig::Serve;

/// Of `stall lost`: longer than it takes to give a path up, a timeout to suspect it and one for the probe, so that what the
/// path has swallowed lands when others have carried the load for a while; and sooner than the fence.
const LANDS: Duration = Duration::from_millis(500);
const FENCE: Duration = Duration::from_millis(600);

/// What is done to the paths of a server, in an order that a seed decides.
pub(crate) struct Mischief<'a> {
    serve: &'a Serve,
    /// The number that each way in has at present.
    paths: Vec<(u64, PathBuf)>,
    chance: u64,
    /// What was done, for whoever looks at a failure.
    done: Vec<String>,
}

impl<'a> Mischief<'a> {
    pub(crate) fn new(serve: &'a Serve, ways: &[&Path], seed: u64) -> Self {
        let paths = (0..).zip(ways).map(|(number, way)| (number, (*way).to_owned())).collect();
        Self { serve, paths, chance: seed | 1, done: Vec::new() }
    }

    /// Until `end`, one thing after another; two paths at most are disturbed at a time.
    pub(crate) fn go_on_until(&mut self, end: Instant) {
        let mut step = 0;
        while Instant::now() < end {
            let way = self.roll(self.paths.len());
            let number = self.paths[way].0;
            match step % 9 {
                0 => self.disturb(&format!("fail {number}")),
                1 => self.disturb(&format!("stall {number} late")),
                2 => self.haunt(number),
                3 => self.disturb(&format!("slow {number} 20ms")),
                4 => self.disturb(&format!("error {number} 20% before fence=50ms")),
                5 => self.disturb(&format!("error {number} 20% after fence=50ms")),
                6 => self.disturb(&format!("error {number} 30% busy")),
                7 => self.replace(way),
                _ => self.change_policy(),
            }
            step += 1;
            // The load goes on meanwhile: there is nothing to wait for but that some of it has.
            thread::park_timeout(Duration::from_millis(100 + self.roll(300) as u64));
            if step % 2 == 0 {
                self.calm();
            }
        }
        self.calm();
    }

    pub(crate) fn recent(&self) -> &[String] {
        &self.done[self.done.len().saturating_sub(30)..]
    }

    fn disturb(&mut self, line: &str) {
        self.serve.must(line);
        self.done.push(line.to_owned());
    }

    fn calm(&mut self) {
        for index in 0..self.paths.len() {
            let line = format!("restore {}", self.paths[index].0);
            self.disturb(&line);
        }
    }

    /// Writes of unknown fate, which land when their fence is still awaited.
    fn haunt(&mut self, number: u64) {
        let (lands, fence) = (LANDS.as_millis(), FENCE.as_millis());
        self.disturb(&format!("stall {number} lost land={lands}ms fence={fence}ms"));
        thread::park_timeout(LANDS);
    }

    /// Takes a path out and adds it again, under another number.
    fn replace(&mut self, way: usize) {
        self.calm();
        let (number, node) = self.paths[way].clone();
        self.disturb(&format!("remove {number}"));
        let line = format!("add {}", node.display());
        let added = self.serve.must(&line)["path"].as_u64().unwrap();
        self.done.push(format!("{line}: {added}"));
        self.paths[way].0 = added;
    }

    fn change_policy(&mut self) {
        let policies = ["failover", "round-robin", "least-queue", "adaptive"];
        let line = format!("policy {}", policies[self.roll(policies.len())]);
        self.disturb(&line);
    }

    /// Below `sides`. Knuth's generator, its upper half scaled.
    fn roll(&mut self, sides: usize) -> usize {
        self.chance =
            self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(((self.chance >> 32) * sides as u64) >> 32).unwrap()
    }
}
