//! Carries out a plan in the simulator and checks everything that can be checked.

use std::collections::BTreeMap;
use std::time::Duration;

use mpio::path::{AccessState, FenceSupport};
use mpio::policy;
use mpio::sim::{FenceFault, History, LinkFault, LinkIndex, LinkProfile, Options, Simulation};
use mpio::{
    BlockCount, Buffer, Completion, Cookie, Durability, EventKind, Extent, Health, Lba, Memory, Operation,
    PathId, Request, Unmap,
};

pub(crate) const BLOCKS: u64 = 64;
/// What a buffer is filled with after it came back: a path that still writes to it is found out.
const POISON: u8 = 0xee;

/// One step of a plan.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Submit { queue: usize, operation: Operation, start: u64, blocks: u32, deadline: Option<Duration> },
    Run(Duration),
    Break(usize, LinkFault),
    Restore(usize),
    Mishaps(usize, u32),
    Lose(usize, u32),
    Slow(usize, Duration),
    FenceFault(usize, Option<FenceFault>),
    Add,
    Remove(usize),
    Cancel(usize),
    Policy(usize),
    DropQueue(usize),
    Pause(usize),
    Resume(usize),
    Access(usize, AccessState),
}

pub(crate) struct Harness {
    pub(crate) sim: Simulation,
    pub(crate) history: History,
    /// Of the links in the beginning, and, again in turn, of those that are added.
    profiles: Vec<LinkProfile>,
    paths: Vec<(PathId, LinkIndex)>,
    /// All links that there ever were.
    links: usize,
    next: u64,
    owners: BTreeMap<Cookie, usize>,
    /// Buffers that came back, poisoned; looked at once more before they are dropped.
    shelf: Vec<Buffer>,
    quarantined: usize,
    pub(crate) completed: usize,
    pub(crate) failed: usize,
    pub(crate) errors: Vec<String>,
    pub(crate) last_error: Option<mpio::Error>,
}

impl Harness {
    pub(crate) fn new(options: &Options) -> Self {
        let profiles = options.links.clone();
        let history = History::new(options.blocks);
        let mut sim = Simulation::new(options).unwrap();
        let paths: Vec<_> =
            sim.status().paths.iter().enumerate().map(|(link, path)| (path.id, link)).collect();
        Self {
            sim,
            history,
            profiles,
            links: paths.len(),
            paths,
            next: 1,
            owners: BTreeMap::new(),
            shelf: Vec::new(),
            quarantined: 0,
            completed: 0,
            failed: 0,
            errors: Vec::new(),
            last_error: None,
        }
    }

    pub(crate) fn carry_out(&mut self, step: &Step) {
        match *step {
            Step::Submit { queue, operation, start, blocks, deadline } => {
                self.submit(queue, operation, start, blocks, deadline);
            }
            Step::Run(span) => self.run(span),
            Step::Break(path, fault) => self.break_link(path, fault),
            Step::Restore(path) => self.sim.restore_link(self.link(path)),
            Step::Mishaps(path, rate) => self.sim.set_mishaps(self.link(path), rate),
            Step::Lose(path, count) => self.sim.lose(self.link(path), count),
            Step::Slow(path, span) => {
                let (least, most) = LinkProfile::default().latency;
                self.sim.set_latency(self.link(path), (least + span, most + span));
            }
            Step::FenceFault(path, fault) => self.sim.set_fence_fault(self.link(path), fault),
            Step::Add if self.paths.len() < 6 => {
                let profile = self.profiles[self.links % self.profiles.len()].clone();
                let added = self.sim.add_path(profile).unwrap();
                self.paths.push(added);
                self.links += 1;
            }
            Step::Remove(path) if self.paths.len() > 1 => {
                let (id, _) = self.paths.remove(path % self.paths.len());
                self.sim.remove_path(id).unwrap();
            }
            Step::Add | Step::Remove(_) => {}
            Step::Cancel(back) => self.cancel(back),
            Step::Policy(which) => {
                let name = policy::NAMES[which % policy::NAMES.len()];
                self.sim.set_policy(policy::by_name(name).unwrap());
            }
            Step::DropQueue(queue) => self.drop_queue(queue),
            Step::Access(path, state) => self.sim.set_access(self.link(path), state),
            Step::Pause(queue) => self.sim.pause_queue(queue),
            Step::Resume(queue) => self.sim.resume_queue(queue),
        }
    }

    fn break_link(&mut self, path: usize, fault: LinkFault) {
        let link = self.link(path);
        // A queue never knows that it has everything back from code that panicked.
        if fault != LinkFault::Crash
            || self.profiles[link % self.profiles.len()].fence == FenceSupport::Proven
        {
            self.sim.break_link(link, fault);
        }
    }

    fn link(&self, path: usize) -> LinkIndex {
        self.paths[path % self.paths.len()].1
    }

    pub(crate) fn submit(
        &mut self,
        queue: usize,
        operation: Operation,
        start: u64,
        blocks: u32,
        deadline: Option<Duration>,
    ) -> Option<Cookie> {
        let blocks = blocks.min(u32::try_from(BLOCKS - start).unwrap());
        let extent = Extent::new(Lba::new(start), BlockCount::new(blocks)).unwrap();
        let cookie = Cookie(self.next);
        let stamp = if operation.has_data() { self.next } else { 0 };
        let buffer = if operation.has_data() { Some(self.sim.stamped(blocks, stamp)?) } else { None };
        let mut request = match (operation, buffer) {
            (Operation::Read, Some(buffer)) => Request::read(extent, buffer, cookie),
            (Operation::Write(durability), Some(buffer)) => {
                Request::write(extent, buffer, durability, cookie)
            }
            (Operation::Flush, _) => Request::flush(cookie),
            (Operation::Discard, _) => Request::discard(extent, cookie),
            _ => Request::write_zeroes(extent, Unmap::Allowed, cookie),
        };
        if let Some(deadline) = deadline {
            request = request.with_deadline(self.sim.now().after(deadline));
        }
        // A full or a dropped queue gives it back.
        self.sim.submit(queue, request).ok()?;
        self.next += 1;
        self.owners.insert(cookie, queue);
        self.history.accepted(cookie, operation, extent, stamp);
        Some(cookie)
    }

    fn cancel(&mut self, back: usize) {
        let open: Vec<Cookie> = self.owners.keys().copied().collect();
        if let Some(&cookie) = open.get(open.len().wrapping_sub(1 + back % open.len().max(1))) {
            self.sim.cancel(self.owners[&cookie], cookie);
            self.collect();
        }
    }

    /// The owner of a queue goes away: what it had under way ends, for the model, as of unknown fate.
    pub(crate) fn drop_queue(&mut self, queue: usize) {
        self.collect();
        self.sim.drop_queue(queue);
        let error = || Err(mpio::Error::Closed { fate: mpio::Fate::Unknown });
        let lost: Vec<Cookie> =
            self.owners.iter().filter(|&(_, &of)| of == queue).map(|(cookie, _)| *cookie).collect();
        for cookie in lost {
            self.owners.remove(&cookie);
            self.history.ended(cookie, &error(), &[]);
        }
    }

    pub(crate) fn run(&mut self, span: Duration) {
        let limit = self.sim.now().after(span);
        while self.sim.step(limit) {
            self.collect();
        }
        self.collect();
    }

    pub(crate) fn collect(&mut self) {
        for (queue, completion) in self.sim.take_completions() {
            let Completion { cookie, result, memory, .. } = completion;
            assert_eq!(self.owners.remove(&cookie), Some(queue), "{cookie:?} ended twice or elsewhere");
            self.completed += 1;
            let found = match &memory {
                Memory::Returned(buffer) if result.is_ok() => self.sim.stamps(buffer),
                _ => Vec::new(),
            };
            // A flush is the only operation without memory that is checked against something.
            let found = if matches!(memory, Memory::None) { self.sim.durable() } else { found };
            self.history.ended(cookie, &result, &found);
            if let Err(error) = result {
                self.failed += 1;
                self.errors.push(format!("{error}"));
                self.last_error = Some(error);
            }
            match memory {
                Memory::Returned(buffer) => self.shelve(buffer),
                Memory::Quarantined => self.quarantined += 1,
                Memory::None => {}
            }
        }
        for (_, buffer) in self.sim.take_released() {
            self.quarantined -= 1;
            self.shelve(buffer);
        }
    }

    /// Poisons a buffer and keeps it for a while; what comes off the shelf must still be as it was left.
    fn shelve(&mut self, mut buffer: Buffer) {
        buffer.fill(POISON);
        self.shelf.push(buffer);
        if self.shelf.len() > 32 {
            check_poison(&self.shelf.remove(0));
        }
    }

    /// Repairs everything, lets everything end, and checks what is left.
    pub(crate) fn finish(mut self) {
        for queue in 0..2 {
            self.sim.resume_queue(queue);
        }
        for link in 0..self.links {
            self.sim.set_mishaps(link, 0);
            self.sim.lose(link, 0);
            self.sim.set_latency(link, LinkProfile::default().latency);
            self.sim.set_fence_fault(link, None);
            self.sim.set_access(link, AccessState::Optimized);
            self.sim.restore_link(link);
        }
        self.run(Duration::from_secs(40));
        for path in self.sim.status().paths {
            assert!(
                path.leaving || path.health == Health::Up,
                "{} works and is {:?}",
                path.name,
                path.health
            );
        }
        self.settle_the_rest();
        assert_eq!(self.history.open(), 0, "requests that never ended: {:?}", self.owners);
        assert!(self.sim.is_quiet(), "something may still land");
        let content = self.sim.content();
        self.history.check_content(&content);
        self.shelf.iter().for_each(check_poison);
        assert_eq!(self.violations(), [] as [&String; 0]);
        assert_eq!(self.sim.violations(), [] as [String; 0]);
    }

    /// What was illegal; of flushes only where no path that was made to leave has taken with it what its cache held.
    fn violations(&self) -> Vec<&String> {
        let lost = self.sim.take_events().iter().any(|event| matches!(event.kind, EventKind::Warning(_)));
        self.history.violations().iter().filter(|text| !lost || !text.contains(": flush found")).collect()
    }

    /// What waits for a fence that its path does not have ends only with the volume.
    fn settle_the_rest(&mut self) {
        if self.sim.outstanding() == 0 {
            return;
        }
        let holds = |profile: &LinkProfile| profile.fence == FenceSupport::None;
        assert!(self.profiles.iter().any(holds), "{:?} never ended", self.owners);
        self.sim.close(Duration::from_millis(1));
        self.run(Duration::from_secs(1));
    }
}

fn check_poison(buffer: &Buffer) {
    assert!(buffer.iter().all(|&byte| byte == POISON), "a buffer was touched after it was returned");
}

pub(crate) const WRITE: Operation = Operation::Write(Durability::Cached);
