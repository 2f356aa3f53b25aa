//! A thread that serves: requests from the kernel, through a queue of the volume, and answers back.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use crate::buffer::Buffer;
use crate::error::{DeviceError, Error};
use crate::io::{Completion, Cookie, Durability, Memory, Rejected, Request, Unmap};
use crate::reactor::WatchSet;
use crate::time::Tick;

use super::buffers::{Pieces, SMALL};
use super::channel::Channel;
use super::errno::errno;
use super::life::Life;
use super::protocol::{Answer, Call, Message, Range, Received, WRITE_HEAD, decode};
use super::server::Ended;
use super::shape::Shape;
use super::station::Station;
use super::tasks::{Task, Tasks, Work, Zeroing};
use super::verdict::verdict;
use crate::volume::pulse::{Pause, Pulse};

/// Requests that are read before those under way are looked after.
const BATCH: u32 = 32;
/// Most requests of the kernel under way in one thread.
const TASKS: u32 = 1024;

/// What a worker is made of.
pub(super) struct Parts<S> {
    pub(super) station: S,
    pub(super) shape: Shape,
    pub(super) pieces: Pieces,
    pub(super) staging: Buffer,
    pub(super) deadline: Option<Duration>,
    pub(super) life: Arc<Life>,
}

pub(super) struct Worker<S> {
    station: S,
    shape: Shape,
    pieces: Pieces,
    /// Where a request is read to: its first bytes, and those after them.
    head: Box<[u8; WRITE_HEAD]>,
    staging: Buffer,
    tasks: Tasks,
    /// What could not go on yet. While there is something, no further request is read.
    parked: Option<Parked>,
    /// Zeroings whose next part could not be sent yet.
    stalled: Vec<Cookie>,
    completions: Vec<Completion>,
    pulse: Pulse,
    deadline: Option<Duration>,
    life: Arc<Life>,
}

/// What waits for something that this thread holds to come back.
enum Parked {
    /// A request that needs memory. What came with it is still in the staging buffer.
    Call(Call),
    /// One that the queue had no room for.
    Request(Request),
}

/// Whether a turn did anything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Busy,
    Idle,
}

impl<S: Station> Worker<S> {
    pub(super) fn new(parts: Parts<S>) -> Self {
        let Parts { station, shape, pieces, staging, deadline, life } = parts;
        Self {
            station,
            shape,
            pieces,
            head: Box::new([0; WRITE_HEAD]),
            staging,
            tasks: Tasks::new(TASKS),
            parked: None,
            stalled: Vec::with_capacity(TASKS as usize),
            completions: Vec::with_capacity(TASKS as usize),
            pulse: Pulse::default(),
            deadline,
            life,
        }
    }

    /// Serves until the connection ends, or is to end.
    pub(super) fn serve(&mut self, channel: &Channel) -> Ended {
        let watch = match channel.watch() {
            Ok(watch) => watch,
            Err(error) => return Ended::Failed(format!("watching /dev/fuse: {error}")),
        };
        loop {
            let now = Tick::now();
            let taken = match self.take(channel, now) {
                Ok(turn) => turn,
                Err(ended) => return ended,
            };
            let due = self.station.poll(now, &mut self.completions);
            let mut turn = if self.completions.is_empty() { taken } else { Turn::Busy };
            if let Err(ended) = self.settle(channel, now) {
                return ended;
            }
            while self.station.poll_released().is_some() {
                turn = Turn::Busy;
            }
            if self.life.is_closing() {
                return Ended::Aborted;
            }
            match turn {
                Turn::Busy => self.pulse.busy(now),
                Turn::Idle => self.pause(&watch, now, due),
            }
        }
    }

    fn pause(&mut self, watch: &WatchSet, now: Tick, due: Option<Tick>) {
        match self.pulse.idle(now) {
            Pause::Look => std::hint::spin_loop(),
            Pause::Yield => std::thread::yield_now(),
            Pause::Sleep if due.is_some_and(|due| due <= now) => {}
            Pause::Sleep => {
                let watch = self.takes_requests().then(|| watch.as_fd());
                self.station.sleep(watch, due);
            }
        }
    }

    /// The channel is about to be closed.
    pub(super) fn let_go(&mut self) {
        self.station.let_go();
    }

    /// Lets what is under way end, though nobody waits for its answer any more.
    pub(super) fn drain(&mut self) {
        while !self.station.is_empty() && !self.life.is_abandoned() {
            let now = Tick::now();
            let due = self.station.poll(now, &mut self.completions);
            self.completions.clear();
            while self.station.poll_released().is_some() {}
            if !self.station.is_empty() && !self.life.is_abandoned() && due.is_none_or(|due| due > now) {
                self.station.sleep(None, due);
            }
        }
    }

    fn takes_requests(&self) -> bool {
        self.parked.is_none() && self.stalled.is_empty() && !self.tasks.is_full()
    }

    /// Goes on with what was parked, then reads requests until there are no more or they cannot be carried out now.
    fn take(&mut self, channel: &Channel, now: Tick) -> Result<Turn, Ended> {
        let mut turn = self.resume(channel, now)?;
        for _ in 0..BATCH {
            if !self.takes_requests() {
                break;
            }
            let len = match channel.receive(&mut self.head, &mut self.staging) {
                Ok(len) => len,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => break,
                    // A request was withdrawn as it was read, or a signal came.
                    Some(libc::ENOENT | libc::EINTR) => continue,
                    Some(libc::ENODEV | libc::ECONNABORTED) => {
                        return Err(verdict(&error, || channel.look(&mut self.head, &mut self.staging)));
                    }
                    _ => return Err(Ended::Failed(format!("reading a request from /dev/fuse: {error}"))),
                },
            };
            turn = Turn::Busy;
            let Some(call) = decode(Received::new(&self.head, &self.staging, len)) else {
                return Err(Ended::Failed(format!("the kernel sent {len} bytes that are no request")));
            };
            self.begin(channel, call, now)?;
        }
        Ok(turn)
    }

    fn resume(&mut self, channel: &Channel, now: Tick) -> Result<Turn, Ended> {
        let mut turn = Turn::Idle;
        match self.parked.take() {
            Some(Parked::Call(call)) => self.begin(channel, call, now)?,
            Some(Parked::Request(request)) => self.submit(channel, request)?,
            None => {}
        }
        while self.parked.is_none()
            && let Some(cookie) = self.stalled.pop()
        {
            if !self.zero(channel, cookie, now)? {
                break;
            }
            turn = Turn::Busy;
        }
        Ok(turn)
    }

    /// Answers a request, or starts what it asks for.
    fn begin(&mut self, channel: &Channel, call: Call, now: Tick) -> Result<(), Ended> {
        let Call { unique, message } = call;
        let file = self.shape.attributes();
        let answer = match message {
            Message::Read(range) => return self.read(channel, call, range, now),
            Message::Write { range, forced } => return self.write(channel, call, range, forced, now),
            Message::Sync => {
                return self.start(
                    channel,
                    Task { unique, work: Work::Sync },
                    Request::flush(Cookie(0)),
                    now,
                );
            }
            // Or each block of a disk would be zeroed to make a file system. The kernel (6.11) then asks for zeroes no more either,
            // and writes them itself.
            Message::Zero { unmap: true, .. } if !self.shape.discards() => {
                Answer::failure(unique, libc::EOPNOTSUPP)
            }
            Message::Zero { offset, length, unmap } => match self.shape.run(offset, length) {
                Some((start, end)) => {
                    let zeroing = Zeroing::new(start, end, unmap, self.shape.zeroes() == 0);
                    let task = Task { unique, work: Work::Zero(zeroing) };
                    let Some(cookie) = self.tasks.insert(task) else {
                        self.park(call);
                        return Ok(());
                    };
                    return self.zero(channel, cookie, now).map(drop);
                }
                None => Answer::failure(unique, libc::EINVAL),
            },
            Message::Attributes => Answer::attributes(unique, file),
            Message::Resize(bytes) if bytes == file.bytes => Answer::attributes(unique, file),
            Message::Resize(_) => Answer::failure(unique, libc::EPERM),
            Message::Statistics => Answer::statistics(unique, file),
            Message::Open => Answer::opened(unique),
            Message::Nothing => Answer::success(unique),
            Message::Refused(errno) => Answer::failure(unique, errno),
            // There was one already.
            Message::Init(_) => Answer::failure(unique, libc::EPROTO),
            Message::Silent => return Ok(()),
        };
        send(channel, unique, &answer, &[])
    }

    /// Leaves a request for later, with its data where it is.
    fn park(&mut self, call: Call) {
        self.parked = Some(Parked::Call(call));
    }

    fn read(&mut self, channel: &Channel, call: Call, range: Range, now: Tick) -> Result<(), Ended> {
        let Some(extent) = self.shape.extent(range) else {
            return send(channel, call.unique, &Answer::failure(call.unique, libc::EINVAL), &[]);
        };
        let Some(buffer) = self.pieces.take(range.size) else {
            self.park(call);
            return Ok(());
        };
        let request = Request::read(extent, buffer, Cookie(0));
        self.start(channel, Task { unique: call.unique, work: Work::Read }, request, now)
    }

    fn write(
        &mut self,
        channel: &Channel,
        call: Call,
        range: Range,
        forced: bool,
        now: Tick,
    ) -> Result<(), Ended> {
        let Some(extent) = self.shape.extent(range) else {
            return send(channel, call.unique, &Answer::failure(call.unique, libc::EINVAL), &[]);
        };
        let Some(buffer) = self.payload(range.size) else {
            self.park(call);
            return Ok(());
        };
        let durability = if forced { Durability::Fua } else { Durability::Cached };
        let request = Request::write(extent, buffer, durability, Cookie(0));
        self.start(channel, Task { unique: call.unique, work: Work::Write(range.size) }, request, now)
    }

    /// The data that came with a request: a little is copied, of much the staging buffer goes and another takes its place.
    fn payload(&mut self, len: u32) -> Option<Buffer> {
        if len <= SMALL {
            let mut buffer = self.pieces.take(len)?;
            buffer.copy_from_slice(self.staging.get(..len as usize)?);
            return Some(buffer);
        }
        let next = self.pieces.stage()?;
        let mut buffer = std::mem::replace(&mut self.staging, next);
        buffer.truncate(len);
        Some(buffer)
    }

    fn start(&mut self, channel: &Channel, task: Task, mut request: Request, now: Tick) -> Result<(), Ended> {
        // A request is read, and parked, only while there is a place.
        let Some(cookie) = self.tasks.insert(task) else {
            return send(channel, task.unique, &Answer::failure(task.unique, libc::EIO), &[]);
        };
        request.cookie = cookie;
        request.deadline = self.deadline.map(|time| now.after(time));
        self.submit(channel, request)
    }

    fn submit(&mut self, channel: &Channel, request: Request) -> Result<(), Ended> {
        let Err(Rejected { request, error }) = self.station.submit(request) else { return Ok(()) };
        let cookie = request.cookie;
        if let Error::QueueFull { .. } = error {
            self.parked = Some(Parked::Request(request));
            return Ok(());
        }
        drop(request);
        self.finish(channel, cookie, Err(error), Memory::None)
    }

    /// Sends the next part of a zeroing; `false` if that has to wait.
    fn zero(&mut self, channel: &Channel, cookie: Cookie, now: Tick) -> Result<bool, Ended> {
        if self.parked.is_some() {
            self.stalled.push(cookie);
            return Ok(false);
        }
        let Some(Task { work: Work::Zero(zeroing), .. }) = self.tasks.get_mut(cookie) else {
            return Ok(true);
        };
        let unmap = if zeroing.unmap { Unmap::Allowed } else { Unmap::Forbidden };
        let request = if zeroing.plain {
            let block_size = self.shape.geometry().block_size();
            zeroing.part(self.shape.transfer() / block_size).and_then(|extent| {
                let mut buffer = self.pieces.take(extent.blocks().get() * block_size)?;
                buffer.fill(0);
                Some(Request::write(extent, buffer, Durability::Cached, cookie))
            })
        } else {
            zeroing.part(self.shape.zeroes()).map(|extent| Request::write_zeroes(extent, unmap, cookie))
        };
        let Some(mut request) = request else {
            self.stalled.push(cookie);
            return Ok(false);
        };
        request.deadline = self.deadline.map(|time| now.after(time));
        self.submit(channel, request)?;
        Ok(true)
    }

    /// Answers what has ended.
    fn settle(&mut self, channel: &Channel, now: Tick) -> Result<(), Ended> {
        let mut completions = std::mem::take(&mut self.completions);
        let mut settled = Ok(());
        for Completion { cookie, result, memory, .. } in completions.drain(..) {
            if settled.is_ok() {
                settled = self.end(channel, cookie, result, memory, now);
            }
        }
        self.completions = completions;
        settled
    }

    fn end(
        &mut self,
        channel: &Channel,
        cookie: Cookie,
        result: Result<(), Error>,
        memory: Memory,
        now: Tick,
    ) -> Result<(), Ended> {
        if let Some(Task { work: Work::Zero(zeroing), .. }) = self.tasks.get_mut(cookie) {
            let goes_on = match &result {
                Ok(()) => !zeroing.advance(),
                Err(error) if is_unsupported(error) && !zeroing.plain => {
                    zeroing.plain = true;
                    true
                }
                Err(_) => false,
            };
            if goes_on {
                drop(memory);
                return self.zero(channel, cookie, now).map(drop);
            }
        }
        self.finish(channel, cookie, result, memory)
    }

    fn finish(
        &mut self,
        channel: &Channel,
        cookie: Cookie,
        result: Result<(), Error>,
        memory: Memory,
    ) -> Result<(), Ended> {
        let Some(Task { unique, work }) = self.tasks.remove(cookie) else { return Ok(()) };
        match (result, work, memory.into_buffer()) {
            (Err(error), ..) => send(channel, unique, &Answer::failure(unique, errno(&work, error)), &[]),
            (Ok(()), Work::Read, Some(buffer)) => {
                send(channel, unique, &Answer::read(unique, buffer.len()), &buffer)
            }
            // A read that succeeded has its data: this would be the volume's mistake.
            (Ok(()), Work::Read, None) => send(channel, unique, &Answer::failure(unique, libc::EIO), &[]),
            (Ok(()), Work::Write(bytes), _) => send(channel, unique, &Answer::written(unique, bytes), &[]),
            (Ok(()), Work::Sync | Work::Zero(_), _) => send(channel, unique, &Answer::success(unique), &[]),
        }
    }
}

fn is_unsupported(error: &Error) -> bool {
    matches!(error, Error::Unsupported { .. } | Error::Device { error: DeviceError::Unsupported, .. })
}

/// Sends an answer; if the kernel does not take it, a failure in its place: a request without an answer hangs for ever.
fn send(channel: &Channel, unique: u64, answer: &Answer, data: &[u8]) -> Result<(), Ended> {
    let Err(error) = channel.send(answer, data) else { return Ok(()) };
    if is_past(&error) {
        return Ok(());
    }
    match channel.send(&Answer::failure(unique, libc::EIO), &[]) {
        Err(second) if !is_past(&second) => {
            Err(Ended::Failed(format!("the kernel took no answer: {error}, then {second}")))
        }
        _ => Ok(()),
    }
}

/// Whether nobody waits for the answer any more. That the connection has ended, the next read tells.
fn is_past(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENODEV | libc::ECONNABORTED | libc::EPERM | libc::ENOTCONN)
    )
}
