//! Threads that do blocking calls for a path.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::calls::Call;
use super::connection::Connection;
use crate::error::Error;
use crate::os;
use crate::path::AccessState;
use crate::reactor::{NoRoom, Waker};
use crate::sync::{AtomicU64, Ordering};

/// Some threads of one path, the others than the first started as they are needed. They end after the last handle is gone; one that the kernel
/// holds ends when it lets go.
#[derive(Debug)]
pub(super) struct Workers {
    name: &'static str,
    /// Most threads.
    limit: usize,
    /// Most jobs that wait for one.
    room: usize,
    started: Mutex<usize>,
    /// Jobs that were given to the threads and are not done. A guide for when to start another thread, no more: it
    /// publishes nothing.
    unfinished: Arc<AtomicU64>,
    jobs: OnceLock<(Sender<Job>, Receiver<Job>)>,
}

/// One call and where its result goes.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) call: Call,
    pub(super) connection: Arc<Connection>,
    pub(super) reply: Reply,
}

/// Where a call's result goes.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) token: u32,
    pub(super) results: Sender<Finished>,
    pub(super) waker: Waker,
}

/// A call's end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finished {
    pub(super) token: u32,
    pub(super) end: End,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// A count, or a negated `errno`.
    Result(i32),
    /// The access state for which the attempt was refused, if it was.
    Judged(Option<AccessState>),
}

impl Workers {
    /// At most `limit` threads, with room for `room` jobs that wait for one.
    pub(super) fn new(name: &'static str, limit: usize, room: u32) -> Self {
        Self {
            name,
            limit,
            room: room.max(1) as usize,
            started: Mutex::new(0),
            unfinished: Arc::new(AtomicU64::new(0)),
            jobs: OnceLock::new(),
        }
    }

    /// Starts the first thread, which later may not be to be had any more.
    pub(super) fn start(&self) -> Result<(), Error> {
        let (_, receiver) = self.jobs();
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if *started == 0 {
            self.start_one(receiver)?;
            *started = 1;
        }
        Ok(())
    }

    fn jobs(&self) -> &(Sender<Job>, Receiver<Job>) {
        self.jobs.get_or_init(|| bounded(self.room))
    }

    fn start_one(&self, jobs: &Receiver<Job>) -> Result<(), Error> {
        let (jobs, unfinished) = (jobs.clone(), Arc::clone(&self.unfinished));
        os::spawn_io_thread(self.name, move || serve(&jobs, &unfinished))
    }

    /// Has a job done. It is dropped if there is no room, or no thread to be had.
    pub(super) fn submit(&self, job: Job) -> Result<(), NoRoom> {
        let (sender, receiver) = self.jobs();
        if !self.has_thread(receiver) {
            return Err(NoRoom);
        }
        self.unfinished.fetch_add(1, Ordering::Relaxed);
        sender.try_send(job).map_err(|_| {
            self.unfinished.fetch_sub(1, Ordering::Relaxed);
            NoRoom
        })
    }

    /// Whether a thread exists that will see a job. Starts one if the others all have something to do.
    fn has_thread(&self, jobs: &Receiver<Job>) -> bool {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        let is_one_free = self.unfinished.load(Ordering::Relaxed) < *started as u64;
        if is_one_free || *started == self.limit {
            return true;
        }
        if self.start_one(jobs).is_ok() {
            *started += 1;
        }
        *started > 0
    }
}

fn serve(jobs: &Receiver<Job>, unfinished: &AtomicU64) {
    for Job { call, connection, reply } in jobs {
        let end = call.carry_out(&connection);
        // Let go before the result is known, so that whoever waits for it finds the device free.
        drop(connection);
        unfinished.fetch_sub(1, Ordering::Relaxed);
        reply.send(end);
    }
}

impl Reply {
    /// The queue has a place for every attempt that is out; it is gone only if nobody wants to know.
    pub(super) fn send(self, end: End) {
        let _ = self.results.try_send(Finished { token: self.token, end });
        self.waker.wake();
    }
}
