//! The load: one queue's reads and writes, each of which is checked. It shows how a queue is used.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mpio::{
    BlockCount, Buffer, Completion, Cookie, Durability, Error, Extent, Geometry, Lba, Pool, Queue, Request,
    Tick,
};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::array::LONGEST;
use crate::ledger::Ledger;
use crate::stamp;
use crate::tally::Tally;

/// Requests in flight.
pub(crate) const WINDOW: u32 = 32;
/// How long to wait for the next completion before what is left counts as lost. A volume holds a request that no path
/// can take for 30 s unless told otherwise, then fails it.
const PATIENCE: Duration = Duration::from_secs(40);
/// Longest sleep.
const NAP: Duration = Duration::from_millis(100);

/// A request in flight; its cookie is its place.
enum Flight {
    /// With the oldest legal generation of each block.
    Read(Extent, [u64; LONGEST as usize]),
    Write(Extent),
    Flush,
}

pub(crate) struct Load {
    queue: Queue,
    geometry: Geometry,
    pool: Pool,
    ledger: Ledger,
    seed: u64,
    chance: Xoshiro256PlusPlus,
    /// Of the last write.
    generation: u64,
    flights: Vec<Option<Flight>>,
    /// Blocks that were right.
    right: u64,
    tally: Arc<Mutex<Tally>>,
}

impl Load {
    /// A load on the blocks of `ledger`, which nobody else touches.
    ///
    /// # Errors
    /// If there is no memory for the buffers.
    pub(crate) fn new(
        queue: Queue,
        ledger: Ledger,
        seed: u64,
        tally: Arc<Mutex<Tally>>,
    ) -> Result<Self, Error> {
        let geometry = queue.geometry();
        Ok(Self {
            pool: Pool::new(LONGEST * geometry.block_size(), WINDOW)?,
            chance: Xoshiro256PlusPlus::seed_from_u64(seed ^ ledger.first()),
            flights: (0..WINDOW).map(|_| None).collect(),
            generation: 0,
            right: 0,
            queue,
            geometry,
            ledger,
            seed,
            tally,
        })
    }

    /// Reads and writes until `until`; then flushes, reads everything back and checks it.
    ///
    /// # Errors
    /// If the queue does not take a request.
    pub(crate) fn run(mut self, until: Tick) -> Result<(), Error> {
        while Tick::now() < until {
            while let Some(place) = self.free() {
                let Some((flight, request)) = self.next(place) else { break };
                self.send(place, flight, request)?;
            }
            self.turn();
        }
        if self.drain() {
            self.send(0, Flight::Flush, Request::flush(Cookie(0)))?;
        }
        if self.drain() {
            self.audit()?;
        }
        Ok(())
    }

    fn audit(&mut self) -> Result<(), Error> {
        let before = self.right;
        let mut next = self.ledger.first();
        let end = next + self.ledger.len();
        while next < end {
            if let Some(place) = self.free() {
                let blocks = u32::try_from(end - next).map_or(LONGEST, |left| left.min(LONGEST));
                let extent = Extent::new(Lba::new(next), BlockCount::new(blocks))?;
                if let Some((flight, request)) = self.read(place, extent) {
                    self.send(place, flight, request)?;
                    next = extent.end().get();
                    continue;
                }
            }
            self.turn();
        }
        self.drain();
        self.tally(|tally, load| tally.audited += load.right - before);
        Ok(())
    }

    fn free(&self) -> Option<usize> {
        self.flights.iter().position(Option::is_none)
    }

    /// The next request: by equal chance a read or a write, of any length, anywhere. `None` if all buffers are out: a
    /// silent path can still hold some of requests that other paths have done.
    fn next(&mut self, place: usize) -> Option<(Flight, Request)> {
        let blocks = self.chance.random_range(1..=LONGEST);
        let start = self.chance.random_range(0..=self.ledger.len() - u64::from(blocks));
        let extent = Extent::new(Lba::new(self.ledger.first() + start), BlockCount::new(blocks)).ok()?;
        let busy = numbers(extent).any(|block| self.ledger.is_busy(block));
        if busy || self.chance.random_bool(0.5) {
            self.read(place, extent)
        } else {
            self.write(place, extent)
        }
    }

    fn read(&mut self, place: usize, extent: Extent) -> Option<(Flight, Request)> {
        let buffer = self.buffer(extent)?;
        let mut oldest = [0; LONGEST as usize];
        for (oldest, block) in oldest.iter_mut().zip(numbers(extent)) {
            *oldest = self.ledger.oldest(block);
        }
        Some((Flight::Read(extent, oldest), Request::read(extent, buffer, Cookie(place as u64))))
    }

    fn write(&mut self, place: usize, extent: Extent) -> Option<(Flight, Request)> {
        let mut buffer = self.buffer(extent)?;
        self.generation += 1;
        let pieces = buffer.chunks_exact_mut(self.geometry.block_size() as usize);
        for (block, bytes) in numbers(extent).zip(pieces) {
            stamp::put(bytes, self.seed, block, self.generation);
            self.ledger.begin(block, self.generation);
        }
        let request = Request::write(extent, buffer, Durability::Cached, Cookie(place as u64));
        Some((Flight::Write(extent), request))
    }

    fn buffer(&self, extent: Extent) -> Option<Buffer> {
        self.pool.take(u32::try_from(self.geometry.bytes_of(extent)).ok()?)
    }

    fn send(&mut self, place: usize, flight: Flight, request: Request) -> Result<(), Error> {
        self.queue.submit(request).map_err(|rejected| rejected.error)?;
        self.flights[place] = Some(flight);
        self.tally(|tally, _| tally.accepted += 1);
        Ok(())
    }

    /// Waits until something has ended, for a short time. How many requests have.
    fn turn(&mut self) -> usize {
        let mut completions = Vec::new();
        self.queue.wait(Some(Tick::now().after(NAP)), &mut completions);
        let count = completions.len();
        for completion in completions {
            self.settle(completion);
        }
        count
    }

    /// Waits for all that is in flight; `false` if some of it never ends.
    fn drain(&mut self) -> bool {
        let mut heard = Tick::now();
        loop {
            let left = self.flights.iter().flatten().count();
            if left == 0 {
                return true;
            }
            if self.turn() > 0 {
                heard = Tick::now();
            } else if Tick::now().since(heard) > PATIENCE {
                self.tally(|tally, _| {
                    tally.lost += left as u64;
                    tally.note(format!("{left} requests were accepted and never completed"));
                });
                return false;
            }
        }
    }

    fn settle(&mut self, completion: Completion) {
        let Completion { cookie, result, memory, .. } = completion;
        let place = usize::try_from(cookie.0).unwrap_or(usize::MAX);
        let Some(flight) = self.flights.get_mut(place).and_then(Option::take) else {
            return self.tally(|tally, _| {
                tally.lost += 1;
                tally.note(format!("a request was completed twice (cookie {})", cookie.0));
            });
        };
        let failed = result.is_err();
        self.tally(|tally, _| match result {
            Ok(()) => tally.done += 1,
            Err(error) => {
                tally.failed += 1;
                tally.note(error.to_string());
            }
        });
        match flight {
            Flight::Write(extent) if failed => numbers(extent).for_each(|block| self.ledger.fail(block)),
            Flight::Write(extent) => numbers(extent).for_each(|block| self.ledger.complete(block)),
            Flight::Read(..) if failed => {}
            Flight::Read(extent, oldest) => match memory.into_buffer() {
                Some(buffer) => self.check(extent, &oldest, &buffer),
                None => self.wrong(format!("read of {extent} succeeded without its data")),
            },
            Flight::Flush => {}
        }
    }

    fn check(&mut self, extent: Extent, oldest: &[u64], data: &[u8]) {
        let before = self.right;
        let pieces = data.chunks_exact(self.geometry.block_size() as usize);
        for ((block, &oldest), bytes) in numbers(extent).zip(oldest).zip(pieces) {
            let legal = self.ledger.legal(block, oldest);
            match stamp::check(bytes, self.seed, block) {
                Ok(generation) if legal.contains(&generation) => self.right += 1,
                Ok(generation) => self.wrong(format!(
                    "block {block} holds generation {generation}, should hold {} to {}",
                    legal.start(),
                    legal.end()
                )),
                Err(problem) => self.wrong(format!("block {block} {problem}")),
            }
        }
        self.tally(|tally, load| tally.right += load.right - before);
    }

    fn wrong(&self, problem: String) {
        self.tally(|tally, _| {
            tally.wrong += 1;
            tally.note(problem);
        });
    }

    fn tally(&self, change: impl FnOnce(&mut Tally, &Self)) {
        change(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner), self);
    }
}

/// The numbers of an extent's blocks.
fn numbers(extent: Extent) -> std::ops::Range<u64> {
    extent.start().get()..extent.end().get()
}
