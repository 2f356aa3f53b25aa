//! The least that runs futures.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{Thread, current, park};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs one future on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => park(),
        }
    }
}

type Job = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tasks that are to run next, and how many there are in all.
#[derive(Default)]
struct Ready {
    tasks: Mutex<VecDeque<Arc<Task>>>,
    woken: Condvar,
}

struct Task {
    job: Mutex<Option<Job>>,
    ready: Arc<Ready>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let ready = Arc::clone(&self.ready);
        ready.tasks.lock().unwrap().push_back(self);
        ready.woken.notify_one();
    }
}

/// Runs futures side by side on this thread, until all are done.
pub(crate) fn run_all(jobs: impl IntoIterator<Item = Job>) {
    let ready = Arc::new(Ready::default());
    let mut left = 0;
    for job in jobs {
        left += 1;
        Arc::new(Task { job: Mutex::new(Some(job)), ready: Arc::clone(&ready) }).wake();
    }
    while left > 0 {
        let mut tasks = ready.tasks.lock().unwrap();
        while tasks.is_empty() {
            tasks = ready.woken.wait(tasks).unwrap();
        }
        let task = tasks.pop_front().unwrap();
        drop(tasks);
        let waker = Waker::from(Arc::clone(&task));
        let mut slot = task.job.lock().unwrap();
        let Some(job) = slot.as_mut() else { continue };
        if job.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            *slot = None;
            left -= 1;
        }
    }
}

/// Polls once, for nobody.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
