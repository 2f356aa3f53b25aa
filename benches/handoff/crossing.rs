//! There and back, for one thread.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use mpio::path::QueueIndex;
use mpio::{
    BlockCount, Buffer, Client, Completion, Cookie, Dispatcher, Extent, Lba, Pool, Queue, Request, Response,
    Served, Submitter, Tick, Volume,
};

use crate::spread::{ratios, spread};
use crate::support::null_path::{Answers, BLOCK, NullPath};

const WINDOWS: [usize; 2] = [1, 32];
/// Requests that the queue has room for.
const DEPTH: u32 = 64;

/// One of those that take turns.
struct Contestant {
    name: &'static str,
    window: usize,
    course: Box<dyn FnMut(usize)>,
    /// Nanoseconds per I/O, one for each round.
    times: Vec<f64>,
}

/// A queue over a path that answers at once, and its volume.
pub(crate) fn queue() -> (Volume, Queue) {
    let path = NullPath::new(0, DEPTH, Answers::BeyondWindow(0));
    let volume = Volume::builder().path(path).queue_depth(DEPTH).build().expect("null paths connect");
    let queue = volume.take_queue(QueueIndex(0)).expect("nobody took it");
    (volume, queue)
}

pub(crate) fn served() -> (Volume, Served) {
    let (volume, queue) = queue();
    let dispatcher = Dispatcher::start().expect("a thread is to be had");
    (volume, dispatcher.serve(queue).expect("the thread runs"))
}

fn extent() -> Extent {
    Extent::new(Lba::new(0), BlockCount::new(1)).expect("one block")
}

fn read(buffer: Buffer) -> Request {
    Request::read(extent(), buffer, Cookie(0))
}

fn buffers(window: usize) -> Vec<Buffer> {
    let pool = Pool::new(BLOCK, DEPTH).expect("a little memory");
    (0..window).map(|_| pool.take(BLOCK).expect("enough for a window")).collect()
}

fn buffer_of(completion: Completion) -> Buffer {
    completion.result.expect("nothing fails on a null path");
    completion.memory.into_buffer().expect("every request has one")
}

fn inline(window: usize) -> Box<dyn FnMut(usize)> {
    let (volume, mut queue) = queue();
    let mut completions = Vec::with_capacity(window);
    for buffer in buffers(window) {
        queue.submit(read(buffer)).expect("within the depth");
    }
    Box::new(move |ios| {
        let _open = &volume;
        let mut ended = 0;
        while ended < ios {
            queue.poll(Tick::now(), &mut completions);
            ended += completions.len();
            for completion in completions.drain(..) {
                queue.submit(read(buffer_of(completion))).expect("within the depth");
            }
        }
    })
}

fn submitter(window: usize) -> Box<dyn FnMut(usize)> {
    let (volume, served) = served();
    let mut submitter: Submitter = served.submitter(DEPTH).expect("a descriptor is to be had");
    let mut completions = Vec::with_capacity(window);
    for buffer in buffers(window) {
        submitter.submit(read(buffer)).expect("within the depth");
    }
    Box::new(move |ios| {
        let _open = &volume;
        let mut ended = 0;
        while ended < ios {
            submitter.poll(&mut completions);
            if completions.is_empty() {
                std::hint::spin_loop();
            }
            ended += completions.len();
            for completion in completions.drain(..) {
                submitter.submit(read(buffer_of(completion))).expect("within the depth");
            }
        }
    })
}

fn futures(window: usize) -> Box<dyn FnMut(usize)> {
    let (volume, served) = served();
    let client: Client = served.client(DEPTH).expect("a little memory");
    let mut responses: Vec<Response> =
        buffers(window).into_iter().map(|buffer| client.submit(read(buffer))).collect();
    Box::new(move |ios| {
        let _open = &volume;
        let mut context = Context::from_waker(Waker::noop());
        let mut ended = 0;
        while ended < ios {
            for response in &mut responses {
                if let Poll::Ready(completion) = Pin::new(&mut *response).poll(&mut context) {
                    ended += 1;
                    *response = client.submit(read(buffer_of(completion)));
                } else {
                    std::hint::spin_loop();
                }
            }
        }
    })
}

fn blocking(_one: usize) -> Box<dyn FnMut(usize)> {
    let (volume, served) = served();
    let client = served.client(DEPTH).expect("a little memory");
    let mut data = vec![0; BLOCK as usize];
    Box::new(move |ios| {
        let _open = &volume;
        for _ in 0..ios {
            client.read_at(&mut data, 0).expect("nothing fails on a null path");
        }
    })
}

/// A word from thread to thread and back, as fast as the cores can.
fn word(_one: usize) -> Box<dyn FnMut(usize)> {
    Box::new(|ios| {
        let (there, back) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for turn in 1..=ios {
                    await_turn(&there, turn);
                    back.store(turn, Ordering::Release);
                }
            });
            for turn in 1..=ios {
                there.store(turn, Ordering::Release);
                await_turn(&back, turn);
            }
        });
    })
}

fn await_turn(word: &AtomicUsize, turn: usize) {
    while word.load(Ordering::Acquire) < turn {
        std::hint::spin_loop();
    }
}

fn contestants() -> Vec<Contestant> {
    let mut contestants = Vec::new();
    let mut enter = |name, window, course| {
        contestants.push(Contestant { name, window, course, times: Vec::new() });
    };
    for window in WINDOWS {
        enter("inline queue", window, inline(window));
        enter("submitter", window, submitter(window));
        enter("client, futures", window, futures(window));
        if window == 1 {
            enter("client, blocking", window, blocking(window));
            enter("a word", window, word(window));
        }
    }
    contestants
}

pub(crate) fn contest(rounds: usize, ios: usize) {
    let mut contestants = contestants();
    for _ in 0..rounds {
        for contestant in &mut contestants {
            // Its dispatcher is awake and its memory in the cache before the time counts.
            (contestant.course)(ios / 20 + 1);
            let began = Tick::now();
            (contestant.course)(ios);
            let took = Tick::now().since(began);
            contestant.times.push(took.as_nanos() as f64 / ios as f64);
        }
    }
    println!("ns per I/O of 4 KiB over a null path, {rounds} rounds of {ios}");
    for window in WINDOWS {
        println!("\nwindow {window:<12}{:>26}{:>26}", "ns", "to inline");
        let all: Vec<&Contestant> = contestants.iter().filter(|one| one.window == window).collect();
        for one in &all {
            let (time, ratio) = (spread(one.times.iter().copied(), 0), ratios(&one.times, &all[0].times));
            println!("{:<19}{time:>26}{ratio:>26}", one.name);
        }
    }
}
