//! The model of one block against the definition, which looks at the whole history, over random legal histories.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::block::{Block, End, Moment, Verdict, Writing};
use crate::content::{Content, Found};

const NEVER: u64 = u64::MAX;

struct Write {
    generation: u64,
    start: u64,
    end: u64,
    acknowledged: bool,
    took_effect: bool,
}

struct Read {
    moment: Moment,
    start: u64,
    end: u64,
    /// What it finds: the storage answers some time before the read ends.
    found: Option<u64>,
}

/// A storage of one block that keeps its promise in the most awkward way, and all that ever happened to it.
struct World {
    block: Block,
    clock: u64,
    writes: Vec<Write>,
    reads: Vec<Read>,
    content: u64,
}

impl World {
    fn new() -> Self {
        let mut world =
            Self { block: Block::untouched(), clock: 0, writes: Vec::new(), reads: Vec::new(), content: 1 };
        world.begin_write();
        world.end_write(0, true);
        world
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn begin_write(&mut self) {
        let start = self.tick();
        let (generation, _) = self.block.begin_write(Writing::Stamp);
        self.writes.push(Write { generation, start, end: NEVER, acknowledged: false, took_effect: false });
    }

    fn end_write(&mut self, index: usize, acknowledged: bool) {
        let end = self.tick();
        let write = &mut self.writes[index];
        if acknowledged && !write.took_effect {
            self.content = write.generation;
            write.took_effect = true;
        }
        write.end = end;
        write.acknowledged = acknowledged;
        let how = if acknowledged { End::Acknowledged } else { End::Failed };
        self.block.end_write(write.generation, how);
    }

    /// A write takes effect: one in flight, maybe for the second time, or a failed one that nothing has replaced.
    fn take_effect(&mut self, index: usize) {
        let write = &self.writes[index];
        let replaced = self.writes.iter().any(|later| later.took_effect && later.start > write.end);
        if write.end == NEVER || !write.acknowledged && !replaced {
            self.content = write.generation;
            self.writes[index].took_effect = true;
        }
    }

    fn begin_read(&mut self) {
        let (start, moment) = (self.tick(), self.block.begin_read());
        self.reads.push(Read { moment, start, end: NEVER, found: None });
    }

    fn end_read(&mut self, index: usize, seed: u64) {
        self.compare(index, seed);
        let end = self.tick();
        let read = &mut self.reads[index];
        read.end = end;
        let found = *read.found.get_or_insert(self.content);
        let verdict = self.block.end_read(read.moment, Some(&Found::whole(Content::Stamp(found))));
        assert_eq!(verdict, Verdict::Right, "seed {seed}: generation {found} is legal");
    }

    /// Holds the model against the definition: for each write whether the read may find it.
    fn compare(&self, index: usize, seed: u64) {
        let read = &self.reads[index];
        for write in &self.writes {
            let found = Found::whole(Content::Stamp(write.generation));
            let verdict = self.block.clone().end_read(read.moment, Some(&found));
            // The definition is about one read: whether it contradicts another one in flight is not asked.
            let contradicts = self.reads.iter().any(|other| other.end != NEVER && other.end > read.start);
            let legal = self.may_find(read, write);
            let agrees = legal == (verdict == Verdict::Right) || legal && contradicts;
            assert!(
                agrees,
                "seed {seed}: generation {}: legal {legal}, verdict {verdict:?}",
                write.generation
            );
        }
    }

    /// Not if something else was there after the write had ended and before the read began.
    fn may_find(&self, read: &Read, write: &Write) -> bool {
        let replaced = self
            .writes
            .iter()
            .any(|later| later.acknowledged && later.start > write.end && later.end < read.start);
        let failed = write.end != NEVER && !write.acknowledged;
        let contradicted = self.reads.iter().any(|other| {
            let found = other.end < read.start && other.found != Some(write.generation);
            found && other.start > write.end && !failed
        });
        !replaced && !contradicted
    }

    fn step(&mut self, chance: &mut Xoshiro256PlusPlus, seed: u64) {
        let pick = |count: usize, chance: &mut Xoshiro256PlusPlus| chance.random_range(0..count.max(1));
        let flying: Vec<usize> =
            (0..self.writes.len()).filter(|&one| self.writes[one].end == NEVER).collect();
        let reading: Vec<usize> = (0..self.reads.len()).filter(|&one| self.reads[one].end == NEVER).collect();
        match chance.random_range(0..6) {
            0 if flying.len() < 4 => self.begin_write(),
            1 if !flying.is_empty() => {
                let acknowledged = chance.random_range(0..4) > 0;
                self.end_write(flying[pick(flying.len(), chance)], acknowledged);
            }
            2 => self.take_effect(pick(self.writes.len(), chance)),
            3 if reading.len() < 3 => self.begin_read(),
            4 if !reading.is_empty() => {
                let content = self.content;
                let read = &mut self.reads[reading[pick(reading.len(), chance)]];
                read.found.get_or_insert(content);
            }
            5 if !reading.is_empty() => self.end_read(reading[pick(reading.len(), chance)], seed),
            _ => {}
        }
    }
}

#[test]
fn the_model_allows_what_the_definition_allows_and_nothing_else() {
    for seed in 0..2000 {
        let mut chance = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut world = World::new();
        for _ in 0..150 {
            world.step(&mut chance, seed);
        }
    }
}

/// A block behind a volatile cache, whose device goes away now and then.
#[test]
fn what_a_volatile_cache_may_lose_in_an_outage_is_legal() {
    for seed in 0..2000 {
        let mut chance = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut block = Block::untouched();
        let first = block.begin_write(Writing::Stamp).0;
        block.end_write(first, End::Acknowledged);
        block.mark();
        block.flushed();
        let (mut cached, mut durable) = (first, first);
        for _ in 0..100 {
            match chance.random_range(0..10) {
                0..5 => {
                    let generation = block.begin_write(Writing::Stamp).0;
                    let took_effect = chance.random_bool(0.8);
                    if took_effect {
                        cached = generation;
                    }
                    block.end_write(generation, if took_effect { End::Acknowledged } else { End::Failed });
                }
                // The cache writes back when it likes.
                5 => durable = cached,
                6 | 7 => {
                    block.mark();
                    durable = cached;
                    block.flushed();
                }
                8 => {
                    let start = block.begin_read();
                    let found = Found::whole(Content::Stamp(cached));
                    assert_eq!(block.end_read(start, Some(&found)), Verdict::Right, "seed {seed}");
                }
                _ => {
                    cached = durable;
                    block.outage();
                    let start = block.begin_read();
                    let found = Found::whole(Content::Stamp(cached));
                    assert_eq!(block.end_read(start, Some(&found)), Verdict::Right, "seed {seed}: outage");
                }
            }
        }
    }
}
