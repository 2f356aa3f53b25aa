//! One thread per path, which calls the path's control half: a path that hangs holds up its own helper alone.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};

use crate::error::{Cause, Error};
use crate::os::spawn_io_thread;
use crate::path::{ControlSink, Incarnation, Path, QueueIndex};

use super::conductor::{Deliver, Helper};
use super::settled::Settling;
use super::shared::Connection;
use super::unopened::Unopened;

/// Something to call on a path.
enum Job {
    Connect(Incarnation, Deliver),
    Probe(ControlSink),
    Fence(Incarnation, ControlSink),
    /// Drop the path, then these.
    Close(Vec<Settling>),
}

/// The way to a path's thread. When it is dropped the thread ends, and with it the path.
struct PathThread {
    jobs: Sender<Job>,
}

/// Starts the thread of a path, which connects it for the first time; the result comes through the receiver.
///
/// # Errors
/// Why there is no thread.
pub(super) fn start(path: impl Path, queues: u16) -> Result<(Box<dyn Helper>, Connected), Error> {
    let (jobs, inbox) = unbounded();
    let (reply, connected) = bounded(1);
    spawn_io_thread("mpio-path", move || serve(path, queues, &inbox))?;
    let mut helper = PathThread { jobs };
    let deliver = Box::new(move |result| {
        // Nobody waits for it any more.
        let _ = reply.send(result);
    });
    helper.connect(Incarnation::NONE.next(), deliver);
    Ok((Box::new(helper), connected))
}

/// Where the first connection of a path comes.
pub(super) type Connected = Receiver<Result<Connection, Error>>;

impl Helper for PathThread {
    fn connect(&mut self, incarnation: Incarnation, deliver: Deliver) {
        self.send(Job::Connect(incarnation, deliver));
    }

    fn probe(&mut self, sink: ControlSink) {
        self.send(Job::Probe(sink));
    }

    fn fence(&mut self, through: Incarnation, sink: ControlSink) {
        self.send(Job::Fence(through, sink));
    }

    fn close(self: Box<Self>, waiting: Vec<Settling>) {
        self.send(Job::Close(waiting));
    }
}

impl PathThread {
    fn send(&self, job: Job) {
        // The thread takes jobs for as long as this exists.
        let _ = self.jobs.send(job);
    }
}

/// A path's thread.
fn serve(mut path: impl Path, queues: u16, jobs: &Receiver<Job>) {
    let mut waiting = Vec::new();
    for job in jobs {
        match job {
            Job::Close(for_it) => {
                waiting = for_it;
                break;
            }
            Job::Connect(incarnation, deliver) => deliver(connect(&mut path, incarnation, queues)),
            Job::Probe(sink) => {
                let answer = sink.clone();
                if catch_unwind(AssertUnwindSafe(|| path.probe(sink))).is_err() {
                    answer.probed(Err(Cause::Broken));
                }
            }
            Job::Fence(through, sink) => {
                let answer = sink.clone();
                let called = catch_unwind(AssertUnwindSafe(|| path.fence(through, sink)));
                if let Err(cause) = called.unwrap_or(Err(Cause::Broken)) {
                    answer.fence_failed(through, cause);
                }
            }
        }
    }
    let _ = catch_unwind(AssertUnwindSafe(|| drop(path)));
    drop(waiting);
}

/// Connects a path and opens it for every queue.
pub(crate) fn connect(
    path: &mut dyn Path,
    incarnation: Incarnation,
    queues: u16,
) -> Result<Connection, Error> {
    let called = catch_unwind(AssertUnwindSafe(|| {
        let description = path.connect(incarnation)?;
        let open = |queue| path.open_queue(QueueIndex(queue)).map(Unopened::new);
        let queues = (0..queues).map(open).collect::<Result<_, _>>()?;
        Ok(Connection { description, queues })
    }));
    called.unwrap_or_else(|_| Err(Error::path(name(path), "its code panicked on connecting")))
}

/// A path's name, whatever its code does.
pub(crate) fn name(path: &dyn Path) -> String {
    catch_unwind(AssertUnwindSafe(|| path.name())).unwrap_or_else(|_| "a path without a name".to_owned())
}
