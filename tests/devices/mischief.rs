//! Faults at random on every path of a volume, and paths that go and come.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mpio::path::{BlockDevice, FaultHandle, FaultKind, Faulty, FenceSupport, Stall, Transport};
use mpio::{Events, PathId, Settled, Tick, Volume, policy};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

const LOCAL: [FaultKind; 5] = [
    FaultKind::TransportBefore(Transport::Local),
    FaultKind::TransportAfter(Transport::Local),
    FaultKind::Medium,
    FaultKind::Busy,
    FaultKind::Refused,
];
/// On a path without a fence a write that meets one of these waits for ever, as promised.
const FABRIC: [FaultKind; 2] =
    [FaultKind::TransportBefore(Transport::Fabric), FaultKind::TransportAfter(Transport::Fabric)];

/// Events that are kept for a report.
const MEMORY: usize = 200;

/// How a path makes sure that what was sent earlier cannot land.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fence {
    /// By a proof, after some time.
    Proven(Duration),
    /// By waiting.
    Assumed(Duration),
    /// Not at all: writes wait for the device's answer.
    None,
}

impl Fence {
    /// A faulty path to `device` with this fence.
    pub(crate) fn path(self, device: &Path, seed: u64) -> (Faulty<BlockDevice>, FaultHandle) {
        let mut device = BlockDevice::new(device);
        if let Self::Assumed(quiet) = self {
            device = device.fenced_by(FenceSupport::Assumed(quiet));
        }
        let (path, faults) = Faulty::new(device, seed);
        if let Self::Proven(delay) = self {
            faults.fence_after(delay);
        }
        (path, faults)
    }
}

/// One way to the storage, whether or not the volume has a path over it at present.
pub(crate) struct Way {
    pub(crate) device: PathBuf,
    pub(crate) fence: Fence,
    pub(crate) faults: FaultHandle,
    pub(crate) id: PathId,
    pub(crate) stay: Stay,
}

/// How a way stands.
pub(crate) enum Stay {
    Present,
    Leaving(Settled),
}

/// What makes the faults.
pub(crate) struct Mischief {
    volume: Volume,
    events: Events,
    ways: Vec<Way>,
    /// When each way is restored.
    until: Vec<Tick>,
    chance: Xoshiro256PlusPlus,
    done: BTreeMap<&'static str, u64>,
    recent: VecDeque<String>,
}

impl Mischief {
    pub(crate) fn new(volume: Volume, ways: Vec<Way>, seed: u64) -> Self {
        let events = volume.events();
        Self {
            volume,
            events,
            until: vec![Tick::MAX; ways.len()],
            ways,
            chance: Xoshiro256PlusPlus::seed_from_u64(seed),
            done: BTreeMap::new(),
            recent: VecDeque::new(),
        }
    }

    /// Makes trouble until `end`.
    pub(crate) fn run(&mut self, end: Tick) {
        while Tick::now() < end {
            let pause = self.millis(1, 40);
            self.listen(pause);
            self.restore_due(Tick::now());
            self.bring_back();
            self.act();
        }
    }

    /// Restores every path, and brings back those that are away; fails after half a minute.
    pub(crate) fn end(&mut self) {
        let limit = Tick::now().after(Duration::from_secs(30));
        self.restore_due(Tick::MAX);
        while self.away() > 0 {
            assert!(Tick::now() < limit, "a removed path is not let go of: {:#?}", self.volume.status());
            self.listen(Duration::from_millis(5));
            self.bring_back();
        }
    }

    /// What was done, how often.
    pub(crate) fn done(&self) -> &BTreeMap<&'static str, u64> {
        &self.done
    }

    /// The last events of the volume.
    pub(crate) fn recent(&self) -> String {
        self.recent.iter().fold(String::new(), |text, event| text + event + "\n")
    }

    fn listen(&mut self, span: Duration) {
        let end = Tick::now().after(span);
        while let Some(event) = self.events.next_within(end.since(Tick::now())) {
            self.recent.push_back(format!("{} {event}", event.at));
        }
        self.recent.drain(..self.recent.len().saturating_sub(MEMORY));
    }

    fn restore_due(&mut self, now: Tick) {
        for (way, until) in self.ways.iter().zip(&mut self.until) {
            if *until <= now {
                way.faults.restore();
                *until = Tick::MAX;
            }
        }
    }

    fn away(&self) -> usize {
        self.ways.iter().filter(|way| matches!(way.stay, Stay::Leaving(_))).count()
    }

    /// Adds anew what was removed and let go of.
    fn bring_back(&mut self) {
        let seed = self.chance.next_u64();
        for (way, until) in self.ways.iter_mut().zip(&mut self.until) {
            if let Stay::Leaving(settled) = &way.stay
                && settled.is_settled()
            {
                let (path, faults) = way.fence.path(&way.device, seed);
                way.id = self.volume.add_path(path).unwrap();
                (way.faults, way.stay, *until) = (faults, Stay::Present, Tick::MAX);
            }
        }
    }
}

/// What is done.
impl Mischief {
    fn below(&mut self, limit: u32) -> u32 {
        self.chance.next_u32() % limit
    }

    fn millis(&mut self, least: u32, most: u32) -> Duration {
        Duration::from_millis((least + self.below(most - least)).into())
    }

    fn act(&mut self) {
        let index = self.below(u32::try_from(self.ways.len()).unwrap()) as usize;
        let choice = self.below(20);
        let what = match choice {
            18 if self.away() + 1 < self.ways.len() => self.remove(index),
            18 | 19 => self.change_policy(),
            choice => self.spoil(index, choice),
        };
        *self.done.entry(what).or_default() += 1;
        let until = Tick::now().after(self.millis(10, 400));
        self.until[index] = self.until[index].min(until);
    }

    fn remove(&mut self, index: usize) -> &'static str {
        let way = &mut self.ways[index];
        if matches!(way.stay, Stay::Present) {
            way.stay = Stay::Leaving(self.volume.remove_path(way.id).unwrap());
        }
        "remove and add"
    }

    fn change_policy(&mut self) -> &'static str {
        let name = policy::NAMES[self.below(4) as usize];
        self.volume.set_policy(policy::by_name(name).unwrap()).unwrap();
        "policy"
    }

    /// Switches a fault on, beside those that are on.
    fn spoil(&mut self, index: usize, choice: u32) -> &'static str {
        let faults = self.ways[index].faults.clone();
        match choice {
            0..3 => {
                faults.fail();
                "fail"
            }
            3..6 => {
                faults.stall(Stall::Late);
                "stall late"
            }
            6..9 => {
                faults.stall(Stall::Lost { land_after: None });
                "stall lost"
            }
            9..12 => {
                faults.stall(Stall::Lost { land_after: Some(self.millis(1, 300)) });
                "stall lost, landing"
            }
            12..14 => {
                faults.slow(self.millis(1, 30));
                "slow"
            }
            14 => {
                faults.short(self.below(300_000)).unwrap();
                "short"
            }
            _ => {
                let kind = self.kind(self.ways[index].fence);
                faults.errors(kind, self.below(300_000)).unwrap();
                "error"
            }
        }
    }

    fn kind(&mut self, fence: Fence) -> FaultKind {
        let kinds = LOCAL.iter().chain(FABRIC.iter().filter(|_| fence != Fence::None));
        let count = u32::try_from(kinds.clone().count()).unwrap();
        let nth = self.below(count) as usize;
        kinds.copied().nth(nth).unwrap()
    }
}
