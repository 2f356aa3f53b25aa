//! Reads and writes of borrowed slices, piece by piece through the client's own buffers.

use std::ops::Range;
use std::sync::Arc;

use crate::block::{BlockCount, Extent, Lba};
use crate::buffer::Buffer;
use crate::error::{Error, Fate};
use crate::io::{Cookie, Durability, Memory, Operation, Request};
use crate::time::Tick;

use super::desk::Desk;
use super::op::{Home, Op};

/// Most requests of one call at once.
const FLIGHTS: usize = 8;

pub(super) struct Transfer<'a> {
    desk: &'a Desk,
    data: Data<'a>,
    /// First block.
    start: Lba,
    deadline: Option<Tick>,
    /// Bytes that were sent for or sent.
    sent: usize,
    flights: Flights,
    /// Of the first request that failed. Nothing is sent after that.
    failure: Option<Error>,
}

enum Data<'a> {
    Into(&'a mut [u8]),
    From(&'a [u8], Durability),
}

/// A request that is under way.
struct Flight {
    op: Arc<Op>,
    /// Its bytes in the data.
    range: Range<usize>,
}

/// Those that are under way, in the order of their bytes.
struct Flights {
    places: [Option<Flight>; FLIGHTS],
    first: usize,
    len: usize,
}

impl Flights {
    fn push(&mut self, flight: Flight) {
        self.places[(self.first + self.len) % FLIGHTS] = Some(flight);
        self.len += 1;
    }

    fn pop(&mut self) -> Option<Flight> {
        let flight = self.places[self.first].take()?;
        self.first = (self.first + 1) % FLIGHTS;
        self.len -= 1;
        Some(flight)
    }
}

impl<'a> Transfer<'a> {
    pub(super) fn read(
        desk: &'a Desk,
        data: &'a mut [u8],
        offset: u64,
        deadline: Option<Tick>,
    ) -> Result<Self, Error> {
        let start = check(desk, Operation::Read, offset, data.len() as u64)?;
        Ok(Self::new(desk, Data::Into(data), start, deadline))
    }

    pub(super) fn write(
        desk: &'a Desk,
        data: &'a [u8],
        offset: u64,
        durability: Durability,
        deadline: Option<Tick>,
    ) -> Result<Self, Error> {
        let start = check(desk, Operation::Write(durability), offset, data.len() as u64)?;
        Ok(Self::new(desk, Data::From(data, durability), start, deadline))
    }

    const fn new(desk: &'a Desk, data: Data<'a>, start: Lba, deadline: Option<Tick>) -> Self {
        let flights = Flights { places: [const { None }; FLIGHTS], first: 0, len: 0 };
        Self { desk, data, start, deadline, sent: 0, flights, failure: None }
    }

    pub(super) fn run(mut self) -> Result<(), Error> {
        loop {
            while self.failure.is_none()
                && let Some(range) = self.next_range()
                && self.flights.len < FLIGHTS
            {
                if !self.send(range) {
                    break;
                }
            }
            match self.flights.pop() {
                Some(flight) => self.land(flight),
                None => return self.failure.map_or(Ok(()), Err),
            }
        }
    }

    /// The bytes of the next request.
    fn next_range(&self) -> Option<Range<usize>> {
        let len = match &self.data {
            Data::Into(data) => data.len(),
            Data::From(data, _) => data.len(),
        };
        let end = len.min(self.sent + self.desk.pieces.size() as usize);
        (self.sent < end).then_some(self.sent..end)
    }

    /// Sends one request; `false` if that has to wait for others to land, or failed.
    fn send(&mut self, range: Range<usize>) -> bool {
        let extent = match self.extent(&range) {
            Ok(extent) => extent,
            Err(error) => {
                self.fail(error, &range);
                return false;
            }
        };
        let Some((op, buffer)) = self.buffer(&range) else { return false };
        let request = self.request(extent, buffer, &range);
        self.desk.send(&op, request, Home::Pieces);
        self.sent = range.end;
        self.flights.push(Flight { op, range });
        true
    }

    /// A buffer, and an op for its request. While none of this call's requests is under way it waits for one: else two
    /// calls might wait for each other's.
    fn buffer(&mut self, range: &Range<usize>) -> Option<(Arc<Op>, Buffer)> {
        if self.flights.len > 0 {
            let buffer = self.desk.pieces.take_now()?;
            return Some((self.desk.op(), buffer));
        }
        let op = self.desk.op();
        match self.desk.piece(&op, self.deadline) {
            Ok(buffer) => Some((op, buffer)),
            Err(error) => {
                self.fail(error, range);
                None
            }
        }
    }

    fn extent(&self, range: &Range<usize>) -> Result<Extent, Error> {
        let block = u64::from(self.desk.geometry.get().block_size());
        let blocks = u32::try_from(range.len() as u64 / block).unwrap_or(u32::MAX);
        Extent::new(Lba::new(self.start.get() + range.start as u64 / block), BlockCount::new(blocks))
    }

    fn request(&self, extent: Extent, mut buffer: Buffer, range: &Range<usize>) -> Request {
        let fits = u32::try_from(range.len()).is_ok_and(|len| buffer.resize(len));
        debug_assert!(fits, "a range is no longer than a piece");
        let mut request = match &self.data {
            Data::Into(_) => Request::read(extent, buffer, Cookie(0)),
            Data::From(data, durability) => {
                buffer.copy_from_slice(&data[range.clone()]);
                Request::write(extent, buffer, *durability, Cookie(0))
            }
        };
        request.deadline = self.deadline;
        request
    }

    fn land(&mut self, flight: Flight) {
        let Flight { op, range } = flight;
        let (result, memory) = self.desk.wait_for_end(op);
        if let Memory::Returned(buffer) = memory {
            if result.is_ok()
                && let Data::Into(data) = &mut self.data
            {
                data[range.clone()].copy_from_slice(&buffer);
            }
            self.give_back(buffer);
        }
        if let Err(error) = result {
            self.fail(error, &range);
        }
    }

    fn give_back(&self, buffer: Buffer) {
        if let Some(waiter) = self.desk.pieces.give(buffer) {
            waiter.wake();
        }
    }

    /// Keeps the first failure, as that of the whole call: a write of which other parts were sent was not "not sent".
    fn fail(&mut self, error: Error, range: &Range<usize>) {
        let is_write = matches!(self.data, Data::From(..));
        let error =
            if is_write && self.sent > 0 && *range != (0..self.sent) { of_a_part(error) } else { error };
        self.failure.get_or_insert(error);
    }
}

/// The error of one part as that of a whole of which other parts were sent.
fn of_a_part(error: Error) -> Error {
    let fate = Fate::Unknown;
    match error {
        Error::NoPath { held, .. } => Error::NoPath { held, fate },
        Error::DeadlineExceeded { .. } => Error::DeadlineExceeded { fate },
        Error::Cancelled { .. } => Error::Cancelled { fate },
        Error::Closed { .. } => Error::Closed { fate },
        other => other,
    }
}

/// Whether all of it are whole blocks of the volume. The first one.
fn check(desk: &Desk, operation: Operation, offset: u64, len: u64) -> Result<Lba, Error> {
    let geometry = desk.geometry.get();
    let (block_size, capacity) = (geometry.block_size(), geometry.capacity());
    let block = u64::from(block_size);
    if !offset.is_multiple_of(block) || !len.is_multiple_of(block) {
        return Err(Error::Misaligned { operation, offset, len, block_size });
    }
    let (start, blocks) = (Lba::new(offset / block), len / block);
    if start.get().checked_add(blocks).is_none_or(|end| end > capacity) {
        let blocks = BlockCount::new(u32::try_from(blocks).unwrap_or(u32::MAX).max(1));
        return Err(Error::OutOfRange { extent: Extent::new(start, blocks)?, capacity });
    }
    Ok(start)
}
