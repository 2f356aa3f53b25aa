//! The `io_uring` itself: set-up, submission, reaping.

#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::thread::{self, ThreadId};

use io_uring::squeue::Entry;
use io_uring::types::{Fd, SubmitArgs, TimeoutFlags, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::buffer::Pool;
use crate::io::Durability;
use crate::reactor::buffers::Buffers;
use crate::reactor::files::{FIXED, Files, Owner, Registered};
use crate::reactor::{NoRoom, Port, ReactorEvent};
use crate::time::Tick;

/// Completions of the reactor's own operations have this bit; those of a path have its file's slot in bits 32 to 47 and
/// its token below.
const OWN: u64 = 1 << 63;
const BELL: u64 = OWN;
const CANCEL: u64 = OWN | 1;
const GREETING: u64 = OWN | 2;
const ALARM: u64 = OWN | 3;
const REMOVAL: u64 = OWN | 4;
const WATCH: u64 = OWN | 5;
/// The bell's words have the number of the thread that armed it, counted by this ring, in the bits from here on.
const ROUND: u32 = 8;

/// Most completion entries that a kernel gives (`IORING_MAX_CQ_ENTRIES`, `io_uring/io_uring.h`).
const MOST_COMPLETIONS: u32 = 65_536;
/// Completion entries that are kept free for the bell and the alarms.
const HEADROOM: u32 = 16;

/// Most alarms on the ring at once.
const MOST_ALARMS: u32 = 8;

/// Memory that an operation reads or fills.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start: NonNull<u8>,
    pub(crate) len: u32,
}

// SAFETY: an address and a length belong to no thread; who may use the memory is for the holder of its lease to say.
unsafe impl Send for Span {}

/// One ring with the files and buffers registered on it.
pub(super) struct Ring {
    /// Dropped before `buffers`. The kernel may unpin registered memory later: the pins keep the pages, and memory under a
    /// lease is never unmapped.
    uring: IoUring,
    buffers: Buffers,
    files: Files,
    /// Whether the kernel took a table for files.
    has_table: bool,
    bell: Bell,
    /// The thread that slept on the ring last, and how many there were before it.
    sleeper: Option<ThreadId>,
    round: u32,
    /// Whether a descriptor of a front-end's is watched, for the sleep that began last or one before it.
    watching: bool,
    /// When the earliest alarm that is known to be on the ring goes off, and how many there are.
    alarm: Tick,
    alarms: u32,
    /// Where the kernel reads the time of an alarm when it takes it from the queue.
    alarm_time: Timespec,
    /// Operations, the bell's and the alarms' aside, whose completions were not seen.
    in_flight: u32,
    /// Most operations in flight: fewer than the completion queue has room for, so that it never overflows.
    limit: u32,
}

/// State of the poll for wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bell {
    /// Not on the ring; when it is put there it stays (multishot, kernel 5.13).
    Lasting,
    /// Not on the ring; it is put there for one wake at a time.
    Single,
    /// On the ring, for many wakes.
    LastingArmed,
    /// On the ring, for one wake.
    SingleArmed,
}

impl Ring {
    /// A ring with room for `entries` operations between two submissions, and what could not be registered with it.
    pub(super) fn new(entries: u32, pools: Vec<Pool>) -> io::Result<(Self, Option<String>)> {
        let uring = set_up(entries)?;
        let mut ring = Self {
            limit: uring.params().cq_entries().saturating_sub(HEADROOM).max(1),
            uring,
            buffers: Buffers::new(pools),
            files: Files::default(),
            has_table: false,
            bell: Bell::Lasting,
            sleeper: None,
            round: 0,
            watching: false,
            alarm: Tick::MAX,
            alarms: 0,
            alarm_time: Timespec::new(),
            in_flight: 0,
        };
        ring.greet()?;
        ring.has_table = ring.register_table();
        let warning = ring.register_buffers().err().map(|error| {
            ring.buffers.refuse();
            let kib = ring.buffers.bytes() / 1024;
            format!(
                "registering {kib} KiB of buffers with io_uring: {error}; \
                 raise RLIMIT_MEMLOCK to spend less CPU on each I/O"
            )
        });
        Ok((ring, warning))
    }

    /// One operation there and back: a filter may allow the set-up and refuse its use.
    fn greet(&mut self) -> io::Result<()> {
        let entry = opcode::Nop::new().build().user_data(GREETING);
        // SAFETY: the operation touches no memory.
        let _ = unsafe { self.uring.submission().push(&entry) };
        self.uring.submit_and_wait(1)?;
        match self.uring.completion().next() {
            Some(entry) if entry.user_data() == GREETING => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::ENOSYS)),
        }
    }

    fn register_table(&self) -> bool {
        let submitter = self.uring.submitter();
        if submitter.register_files_sparse(u32::from(FIXED)).is_ok() {
            return true;
        }
        // Before kernel 5.19.
        submitter.register_files(&[-1; FIXED as usize]).is_ok()
    }

    fn register_buffers(&self) -> io::Result<()> {
        let pieces = self.buffers.pieces();
        if pieces.is_empty() {
            return Ok(());
        }
        let vectors: Vec<libc::iovec> = pieces
            .iter()
            .map(|piece| libc::iovec {
                iov_base: std::ptr::with_exposed_provenance_mut(piece.address),
                iov_len: piece.len,
            })
            .collect();
        // SAFETY: `buffers` holds the pools, hence their mappings, and is dropped after `uring`.
        unsafe { self.uring.submitter().register_buffers(&vectors) }
    }

    /// Makes room for I/O of `port` on `file`.
    pub(super) fn register(&mut self, port: Port, file: Arc<File>) -> Option<Registered> {
        self.sweep();
        let slot = self.files.vacancy()?;
        let fixed = self.has_table
            && slot < FIXED
            && self.uring.submitter().register_files_update(u32::from(slot), &[file.as_raw_fd()]).is_ok();
        Some(self.files.insert(slot, port, file, fixed))
    }

    /// Frees the places of files that were given up and have nothing on the ring.
    fn sweep(&mut self) {
        while let Some(slot) = self.files.next_departed() {
            self.release(slot);
        }
    }

    fn release(&mut self, slot: u16) {
        let Some(entry) = self.files.remove(slot) else { return };
        if entry.fixed {
            // Cannot fail for an index within the table; if it did the file would stay open until the ring closes.
            let _ = self.uring.submitter().register_files_update(u32::from(slot), &[-1]);
        }
    }

    /// Puts a read on the ring.
    ///
    /// # Safety
    /// `memory` must stay mapped, and be touched by nobody, until the operation's event was taken from
    /// [`next`](Self::next), or for ever.
    pub(super) unsafe fn read(
        &mut self,
        at: &Registered,
        token: u32,
        memory: Span,
        offset: u64,
    ) -> Result<(), NoRoom> {
        let (start, len) = (memory.start.as_ptr(), memory.len);
        let (file, flags) = self.target(at)?;
        let entry = match self.buffers.find(memory.start, len) {
            Some(buffer) => opcode::ReadFixed::new(file, start, len, buffer).offset(offset).build(),
            None => opcode::Read::new(file, start, len).offset(offset).build(),
        };
        // SAFETY: the caller's promise about `memory`.
        unsafe { self.start(at, token, entry.flags(flags)) }
    }

    /// Puts a write on the ring.
    ///
    /// # Safety
    /// `memory` must stay mapped, and be written by nobody, until the operation's event was taken from
    /// [`next`](Self::next), or for ever.
    pub(super) unsafe fn write(
        &mut self,
        at: &Registered,
        token: u32,
        memory: Span,
        offset: u64,
        durability: Durability,
    ) -> Result<(), NoRoom> {
        let (start, len) = (memory.start.as_ptr().cast_const(), memory.len);
        let sync = match durability {
            Durability::Cached => 0,
            Durability::Fua => libc::RWF_DSYNC,
        };
        let (file, flags) = self.target(at)?;
        let entry = match self.buffers.find(memory.start, len) {
            Some(buffer) => {
                opcode::WriteFixed::new(file, start, len, buffer).offset(offset).rw_flags(sync).build()
            }
            None => opcode::Write::new(file, start, len).offset(offset).rw_flags(sync).build(),
        };
        // SAFETY: the caller's promise about `memory`.
        unsafe { self.start(at, token, entry.flags(flags)) }
    }

    /// How an operation names its file.
    fn target(&self, at: &Registered) -> Result<(Fd, squeue::Flags), NoRoom> {
        if at.ring() != self.files.ring() {
            // Registered with another reactor: the slot means another file here.
            return Err(NoRoom);
        }
        let entry = self.files.get(at.slot()).ok_or(NoRoom)?;
        Ok(if entry.fixed {
            (Fd(i32::from(at.slot())), squeue::Flags::FIXED_FILE)
        } else {
            // The entry keeps the file open until its last result, so the number is not reused meanwhile.
            (Fd(entry.file.as_raw_fd()), squeue::Flags::empty())
        })
    }

    /// # Safety
    /// As [`squeue::SubmissionQueue::push`]: what `entry` points at is good until its completion was reaped.
    unsafe fn start(&mut self, at: &Registered, token: u32, entry: Entry) -> Result<(), NoRoom> {
        if self.in_flight >= self.limit {
            return Err(NoRoom);
        }
        // SAFETY: the caller's promise.
        unsafe { self.push(&entry.user_data(address(at, token)))? };
        self.in_flight += 1;
        self.files.started(at.slot());
        Ok(())
    }

    /// Asks the kernel to cancel an operation: a hint, and the operation's own event comes in any case.
    pub(super) fn cancel(&mut self, at: &Registered, token: u32) {
        if self.in_flight >= self.limit || at.ring() != self.files.ring() {
            return;
        }
        let entry = opcode::AsyncCancel::new(address(at, token)).build().user_data(CANCEL);
        // SAFETY: the operation touches no memory.
        if unsafe { self.push(&entry) }.is_ok() {
            self.in_flight += 1;
        }
    }

    /// Queues an entry; submits those before it if there is no room.
    ///
    /// # Safety
    /// As [`squeue::SubmissionQueue::push`].
    unsafe fn push(&mut self, entry: &Entry) -> Result<(), NoRoom> {
        // SAFETY: the caller's promise.
        if unsafe { self.uring.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        self.submit();
        // SAFETY: the caller's promise.
        unsafe { self.uring.submission().push(entry) }.map_err(|squeue::PushError { .. }| NoRoom)
    }

    /// Submits what is queued and has the kernel post what it holds back. No system call if there is neither.
    pub(super) fn flush(&mut self) {
        self.sweep();
        let queue = self.uring.submission();
        if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
            return;
        }
        drop(queue);
        self.submit();
    }

    /// Submits what is queued, and leaves the rest for the next call.
    pub(super) fn submit_queued(&mut self) {
        if !self.uring.submission().is_empty() {
            self.submit();
        }
    }

    /// Submits until the queue is empty or the kernel takes no more; what is left goes with the next submission.
    fn submit(&mut self) {
        loop {
            match self.uring.submit() {
                Ok(0) => return,
                Ok(_) if self.uring.submission().is_empty() => return,
                Err(error) if error.raw_os_error() != Some(libc::EINTR) => return,
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Submits what is queued, then sleeps until there is a completion, `bell` or `watch` is readable, or `until` has
    /// come. Can return early.
    pub(super) fn wait(&mut self, bell: BorrowedFd<'_>, watch: Option<BorrowedFd<'_>>, until: Option<Tick>) {
        self.sweep();
        self.settle_in();
        self.arm(bell);
        let unheard = matches!(self.bell, Bell::Lasting | Bell::Single);
        let unseen = watch.is_some_and(|watch| !self.watch(watch));
        if unheard || unseen {
            // Without the bell, or the watch, on the ring a wake would be slept over.
            return self.submit();
        }
        let until = until.filter(|&until| !self.set_alarm(until));
        // Two calls are faster than one that submits and sleeps, by half at a depth of one: in the one call the thread is
        // asleep before its I/O has been handed to the driver's worker.
        self.submit_queued();
        if !self.uring.completion().is_empty() {
            return;
        }
        let span = until.map(|until| Timespec::from(until.since(Tick::now())));
        let arguments = match &span {
            Some(span) => SubmitArgs::new().timespec(span),
            None => SubmitArgs::new(),
        };
        // ETIME and EINTR are ends of the sleep; EAGAIN and EBUSY leave the queue for the next submission.
        let _ = self.uring.submitter().submit_with_args(1, &arguments);
    }

    /// Has the ring end a sleep at `until`, if not before. An alarm stays when the sleep ends for another reason: most
    /// sleeps are short, and a timer for each would cost more than the rest of them. `false` if there are too many.
    fn set_alarm(&mut self, until: Tick) -> bool {
        if self.alarm <= until {
            return true;
        }
        if self.alarms == MOST_ALARMS {
            return false;
        }
        let nanos = until.as_nanos();
        // A remainder below 10^9 fits.
        let rest = u32::try_from(nanos % 1_000_000_000).unwrap_or_default();
        self.alarm_time = Timespec::new().sec(nanos / 1_000_000_000).nsec(rest);
        let time: *const Timespec = &raw const self.alarm_time;
        let entry = opcode::Timeout::new(time).flags(TimeoutFlags::ABS).build().user_data(ALARM);
        // SAFETY: the kernel reads the time when it takes the entry, no later than this ring is dropped: it is part of it,
        // and the ring, which is boxed, does not move.
        let set = unsafe { self.push(&entry) }.is_ok();
        if set {
            (self.alarm, self.alarms) = (until, self.alarms + 1);
        }
        set
    }

    /// Another thread than before is about to sleep: it needs a bell and an alarm of its own, since those of the earlier
    /// thread are heard only when that thread next leaves the kernel, which a hung system call may keep it from.
    fn settle_in(&mut self) {
        let me = Some(thread::current().id());
        if self.sleeper == me {
            return;
        }
        let moved = self.sleeper.replace(thread::current().id()).is_some();
        self.alarm = Tick::MAX;
        if moved && let Bell::LastingArmed | Bell::SingleArmed = self.bell {
            let removal = opcode::PollRemove::new(self.bell_word()).build().user_data(REMOVAL);
            // SAFETY: the operation touches no memory. If there is no room for it, the old bell rings for nothing.
            let _ = unsafe { self.push(&removal) };
            self.round = self.round.wrapping_add(1);
            self.bell = if self.bell == Bell::LastingArmed { Bell::Lasting } else { Bell::Single };
        }
    }

    /// What the present bell's completions bear.
    const fn bell_word(&self) -> u64 {
        BELL | (self.round as u64) << ROUND
    }

    /// Has the ring watch `bell`. Put there when it is already readable, it completes at once.
    fn arm(&mut self, bell: BorrowedFd<'_>) {
        let (lasting, armed) = match self.bell {
            Bell::Lasting => (true, Bell::LastingArmed),
            Bell::Single => (false, Bell::SingleArmed),
            Bell::LastingArmed | Bell::SingleArmed => return,
        };
        let events = libc::POLLIN.unsigned_abs().into();
        let entry = opcode::PollAdd::new(Fd(bell.as_raw_fd()), events)
            .multi(lasting)
            .build()
            .user_data(self.bell_word());
        // SAFETY: the operation touches no memory of ours.
        if unsafe { self.push(&entry) }.is_ok() {
            self.bell = armed;
        }
    }

    /// Has the ring watch a descriptor for one event, unless it does already; whether it does. Once for each sleep: an event
    /// for each request would cost more than the sleeps do.
    fn watch(&mut self, watched: BorrowedFd<'_>) -> bool {
        if !self.watching {
            let events = libc::POLLIN.unsigned_abs().into();
            let entry = opcode::PollAdd::new(Fd(watched.as_raw_fd()), events).build().user_data(WATCH);
            // SAFETY: the operation touches no memory of ours.
            self.watching = unsafe { self.push(&entry) }.is_ok();
        }
        self.watching
    }

    /// Lets go of the descriptor that is watched: until then it is not closed, whoever closes it.
    #[cfg(feature = "fuse")]
    pub(super) fn unwatch(&mut self) {
        if self.watching {
            let removal = opcode::PollRemove::new(WATCH).build().user_data(REMOVAL);
            // SAFETY: the operation touches no memory. If there is no room for it, the watch ends with the ring.
            let _ = unsafe { self.push(&removal) };
            self.submit();
            // What was removed is let go of when the kernel is entered again.
            self.flush();
        }
    }

    /// The next completion that belongs to a path.
    pub(super) fn next(&mut self) -> Option<(Port, ReactorEvent)> {
        loop {
            let entry = self.uring.completion().next()?;
            if entry.user_data() & OWN != 0 {
                self.own_event(&entry);
                continue;
            }
            let slot = slot_of(entry.user_data());
            if let Some(port) = self.owner(slot) {
                let (token, result) = (low_word(entry.user_data()), entry.result());
                return Some((port, ReactorEvent { token, result, slot, ring: self.files.ring() }));
            }
        }
    }

    fn own_event(&mut self, entry: &cqueue::Entry) {
        if entry.user_data() == CANCEL {
            self.in_flight = self.in_flight.saturating_sub(1);
            return;
        }
        if entry.user_data() == WATCH {
            self.watching = false;
            return;
        }
        if entry.user_data() == ALARM {
            // Others that are on the ring go off later, for nothing.
            (self.alarm, self.alarms) = (Tick::MAX, self.alarms.saturating_sub(1));
            return;
        }
        if entry.user_data() != self.bell_word() || cqueue::more(entry.flags()) {
            return;
        }
        // Also ends when the thread that armed it does.
        let refused = entry.result() == -libc::EINVAL;
        self.bell = match self.bell {
            Bell::LastingArmed | Bell::Lasting if !refused => Bell::Lasting,
            _ => Bell::Single,
        };
    }

    fn owner(&mut self, slot: u16) -> Option<Port> {
        self.in_flight = self.in_flight.saturating_sub(1);
        match self.files.ended(slot) {
            Owner::Port(port) => Some(port),
            Owner::Departed => None,
            Owner::DepartedLast => {
                self.release(slot);
                None
            }
        }
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: `uring` owns the descriptor and lives as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.uring.as_raw_fd()) }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("in_flight", &self.in_flight)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

fn address(at: &Registered, token: u32) -> u64 {
    u64::from(at.slot()) << 32 | u64::from(token)
}

#[allow(clippy::cast_possible_truncation, reason = "the slot is in bits 32 to 47")]
fn slot_of(user_data: u64) -> u16 {
    (user_data >> 32) as u16
}

#[allow(clippy::cast_possible_truncation, reason = "the token is in the low half")]
fn low_word(user_data: u64) -> u32 {
    user_data as u32
}

/// Completions wait until the thread that submitted enters the kernel anyway (`COOP_TASKRUN`), and a flag tells when
/// some do. Not `DEFER_TASKRUN`: it saves some CPU, but binds the ring to one thread for good, and results of a queue
/// that has moved, or whose thread has ended, would never arrive. `SINGLE_ISSUER` alone saves nothing.
///
/// All paths share the completion entries, which bound what is out: silent paths may hold many, so that there are many.
fn set_up(entries: u32) -> io::Result<IoUring> {
    let completions = entries.saturating_mul(16).clamp(4096, MOST_COMPLETIONS);
    let mut builder = IoUring::builder();
    builder.setup_clamp().setup_cqsize(completions);
    let mut best = builder.clone();
    best.setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
    let uring = match best.build(entries) {
        // Before kernel 5.19.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => builder.build(entries)?,
        other => other?,
    };
    let parameters = uring.params();
    if parameters.is_feature_ext_arg()
        && parameters.is_feature_nodrop()
        && parameters.is_feature_submit_stable()
    {
        return Ok(uring);
    }
    Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel is older than 5.11"))
}
