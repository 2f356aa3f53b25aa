//! The model of one block: which contents a read may legally find.
//!
//! A write is a *candidate* from its beginning on. While it is in flight it may take effect at any moment, and more than
//! once, so writes in flight together leave any of them behind. Once it has ended it takes effect no more. So it is gone
//! for good when something newer is known to have been on the block after its end:
//! - a write that began after its end was acknowledged, or
//! - a read that began after its end found something else. (A write that *failed* is the exception: it may still land
//!   on what it was to replace, so a read that does not find it says nothing. A later acknowledged write ends that.)
//!
//! A read may find what was a candidate at some moment between its beginning and its end. What is gone may never come
//! back: that is the ghost, and the stale read. Time is counted in events of this block.
//!
//! A device that went away may have lost what was not durable. A flush covers what was acknowledged before it began: what
//! an acknowledged write had replaced by then never comes back, and everything newer may be there. The first read after
//! the outage settles which. Where writes overlap this is kept as a bound, the oldest generation that may be there, which
//! allows a little more than it must.

use crate::content::{Content, Found};

/// Later than everything.
const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Stamp,
    Zero,
    Foreign,
    /// After an outage: any write from this generation to `upto`.
    Since {
        upto: u64,
    },
}

/// What writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    Stamp,
    Zero,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Acknowledged,
    /// With an error: it may have taken effect or not, and may do so later.
    Failed,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    generation: u64,
    kind: Kind,
    start: u64,
    /// The oldest generation in flight when it began: what it replaces is older.
    oldest: u64,
    /// [`NEVER`] while it is in flight.
    end: u64,
    failed: bool,
    /// Since when it may not be there any more; it is kept while reads are in flight that began before.
    gone: u64,
}

/// What a read came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    /// Torn, but each part may be there: nothing says that a device writes a block at once.
    Mixed,
    Wrong(Wrong),
}

/// A read that found what may not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// What may be there, in words.
    pub(crate) expected: String,
    /// The newest generation that a read had found before.
    pub(crate) seen: u64,
}

/// The beginning of a read.
pub(crate) type Moment = u64;

#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// Events so far.
    clock: u64,
    /// Reads in flight.
    reads: u32,
    /// The last generation given to a write.
    issued: u64,
    /// Nothing older than this generation may be there after an outage. 0: what was there before the run may be.
    durable: u64,
    /// What it would be if everything acknowledged were durable.
    floor: u64,
    /// What `durable` becomes if the flush in progress succeeds.
    marked: u64,
    /// The last generation that wrote zeroes.
    zeroed: u64,
    /// The newest generation that a read found.
    seen: u64,
    candidates: Vec<Candidate>,
}

impl Block {
    /// A block that holds what it held before the run.
    pub(crate) fn untouched() -> Self {
        Self::since(0, 0, 0)
    }

    /// A block of which another process knew that `durable` is the oldest that may be there, that no generation above
    /// `issued` was written, and none above `zeroed` with zeroes.
    pub(crate) fn since(durable: u64, issued: u64, zeroed: u64) -> Self {
        let mut block = Self {
            clock: 0,
            reads: 0,
            issued,
            durable,
            floor: durable,
            marked: durable,
            zeroed,
            seen: 0,
            candidates: Vec::new(),
        };
        block.outage();
        block
    }

    /// A write is about to be issued. Its generation, and whether others are in flight.
    pub(crate) fn begin_write(&mut self, writing: Writing) -> (u64, bool) {
        let in_flight = self.candidates.iter().filter(|other| other.end == NEVER);
        let oldest = in_flight.map(|other| other.generation).min();
        self.issued += 1;
        let kind = match writing {
            Writing::Stamp => Kind::Stamp,
            Writing::Zero => {
                self.zeroed = self.issued;
                Kind::Zero
            }
        };
        let start = self.tick();
        self.candidates.push(Candidate {
            generation: self.issued,
            kind,
            start,
            oldest: oldest.unwrap_or(self.issued),
            end: NEVER,
            failed: false,
            gone: NEVER,
        });
        (self.issued, oldest.is_some())
    }

    /// The write of this generation has ended.
    pub(crate) fn end_write(&mut self, generation: u64, end: End) {
        let now = self.tick();
        let Some(write) = self.candidates.iter_mut().find(|one| one.generation == generation) else { return };
        write.end = now;
        write.failed = end == End::Failed;
        let (start, oldest) = (write.start, write.oldest);
        if end == End::Acknowledged {
            self.floor = self.floor.max(oldest);
            self.remove(now, |other| other.end < start);
        }
        self.collect();
    }

    /// A read is about to be issued.
    pub(crate) fn begin_read(&mut self) -> Moment {
        self.reads += 1;
        self.tick()
    }

    /// The read that began at `start` has ended, and found this; `None` if it failed.
    pub(crate) fn end_read(&mut self, start: Moment, found: Option<&Found>) -> Verdict {
        let now = self.tick();
        let verdict = found.map_or(Verdict::Right, |found| self.judge(start, now, found));
        self.reads -= 1;
        self.collect();
        verdict
    }

    /// A flush is about to be issued.
    pub(crate) fn mark(&mut self) {
        self.marked = self.floor;
    }

    /// The flush that began at the last [`mark`](Self::mark) succeeded.
    pub(crate) fn flushed(&mut self) {
        self.durable = self.durable.max(self.marked);
    }

    /// The device went away and is back. No read or write is in flight.
    pub(crate) fn outage(&mut self) {
        let now = self.tick();
        self.floor = self.durable;
        self.marked = self.durable;
        self.seen = 0;
        self.candidates.clear();
        self.candidates.push(Candidate::settled(self.durable, Kind::Since { upto: self.issued }, now));
    }

    /// The oldest generation that may be there after an outage.
    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    fn judge(&mut self, start: Moment, now: u64, found: &Found) -> Verdict {
        if !found.contents().all(|content| self.is_legal(start, content)) {
            return self.wrong(start, now, found);
        }
        self.settle(now, found);
        let zeroed = self.zeroed;
        self.remove(now, |other| {
            let found = found.contents().any(|content| other.is(content, zeroed));
            other.end < start && !other.failed && !found
        });
        if self.present().next().is_none() {
            // Each was legal by itself, but another read has just found what excludes this.
            return self.wrong(start, now, found);
        }
        if found.is_torn() {
            return Verdict::Mixed;
        }
        let newest = self.present().filter(|one| one.is(found.first, zeroed)).map(|one| one.generation).max();
        self.seen = self.seen.max(newest.unwrap_or(0));
        Verdict::Right
    }

    /// What was found may be found again: it is reported once.
    fn wrong(&mut self, start: Moment, now: u64, found: &Found) -> Verdict {
        let wrong = Wrong { expected: self.expected(start), seen: self.seen };
        self.adopt(now, found);
        Verdict::Wrong(wrong)
    }

    fn is_legal(&self, start: Moment, content: Content) -> bool {
        self.candidates.iter().any(|one| one.gone > start && one.is(content, self.zeroed))
    }

    /// After an outage the first read says what is there: from now on it is that and nothing else.
    fn settle(&mut self, now: u64, found: &Found) {
        let since = |one: &Candidate| matches!(one.kind, Kind::Since { .. }) && one.gone == NEVER;
        if self.candidates.iter().any(since) {
            self.candidates.retain(|one| !since(one));
            self.floor = self.floor.max(self.adopt(now, found));
        }
    }

    /// Makes candidates of what was found, and gives the oldest generation among them. What has none gets a new one,
    /// which nobody writes.
    fn adopt(&mut self, now: u64, found: &Found) -> u64 {
        let mut oldest = NEVER;
        for content in found.contents() {
            let (generation, kind) = match content {
                Content::Stamp(generation) => (generation, Kind::Stamp),
                Content::Zero => (self.fresh(), Kind::Zero),
                Content::Foreign => (self.fresh(), Kind::Foreign),
            };
            if kind == Kind::Zero {
                self.zeroed = generation;
            }
            oldest = oldest.min(generation);
            self.candidates.push(Candidate::settled(generation, kind, now));
        }
        oldest
    }

    fn fresh(&mut self) -> u64 {
        self.issued += 1;
        self.issued
    }

    /// What may be there now.
    fn present(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|one| one.gone == NEVER)
    }

    fn remove(&mut self, now: u64, is_over: impl Fn(&Candidate) -> bool) {
        for one in self.candidates.iter_mut().filter(|one| one.gone == NEVER && is_over(one)) {
            one.gone = now;
        }
    }

    /// Forgets what no read in flight may find any more.
    fn collect(&mut self) {
        if self.reads == 0 {
            self.candidates.retain(|one| one.gone == NEVER);
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn expected(&self, start: Moment) -> String {
        let legal = self.candidates.iter().filter(|one| one.gone > start);
        let words: Vec<String> = legal.take(8).map(Candidate::in_words).collect();
        words.join(" or ")
    }
}

impl Candidate {
    /// One that is not in flight.
    fn settled(generation: u64, kind: Kind, now: u64) -> Self {
        Self { generation, kind, start: now, oldest: generation, end: now, failed: false, gone: NEVER }
    }

    /// Whether `content` is what this leaves on the block, whose last write of zeroes is `zeroed`.
    fn is(&self, content: Content, zeroed: u64) -> bool {
        match (self.kind, content) {
            (Kind::Stamp, Content::Stamp(generation)) => generation == self.generation,
            (Kind::Since { upto }, Content::Stamp(generation)) => {
                (self.generation..=upto).contains(&generation)
            }
            (Kind::Zero, Content::Zero) | (Kind::Foreign, Content::Foreign) => true,
            (Kind::Since { .. }, Content::Zero) => self.generation == 0 || zeroed >= self.generation,
            (Kind::Since { .. }, Content::Foreign) => self.generation == 0,
            _ => false,
        }
    }

    fn in_words(&self) -> String {
        let generation = self.generation;
        let how = match (self.end, self.failed) {
            (NEVER, _) => " (in flight)",
            (_, true) => " (failed)",
            _ => "",
        };
        match self.kind {
            Kind::Stamp => format!("generation {generation}{how}"),
            Kind::Zero => format!("zeroes of generation {generation}{how}"),
            Kind::Foreign => "what was found there before".to_owned(),
            Kind::Since { upto } => format!("a generation from {generation} to {upto}"),
        }
    }
}
