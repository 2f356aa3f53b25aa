//! 64 threads at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{park_timeout, scope};
use std::time::Duration;

use mpio::{BlockCount, Client, Cookie, Extent, Lba, Pool, Request, Served, Submitter, Tick};

use crate::crossing::served;
use crate::spread::{ratios, spread};
use crate::support::null_path::BLOCK;

const THREADS: usize = 64;

/// One of those that take turns: gives each thread what it calls for each I/O.
struct Contestant {
    name: &'static str,
    opens: Box<dyn Fn() -> Box<dyn FnMut() + Send>>,
    /// Thousands of I/Os per second, one for each round.
    rates: Vec<f64>,
    /// I/Os of the slowest thread to those of the fastest.
    fairness: Vec<f64>,
}

fn through(client: Client) -> Box<dyn FnMut() + Send> {
    let mut data = vec![0; BLOCK as usize];
    Box::new(move || client.read_at(&mut data, 0).expect("nothing fails on a null path"))
}

fn lane(served: &Served) -> Box<dyn FnMut() + Send> {
    let mut submitter: Submitter = served.submitter(1).expect("a descriptor is to be had");
    let pool = Pool::new(BLOCK, 1).expect("a little memory");
    let extent = Extent::new(Lba::new(0), BlockCount::new(1)).expect("one block");
    let mut completions = Vec::with_capacity(1);
    Box::new(move || {
        let buffer = pool.take(BLOCK).expect("one at a time");
        submitter.submit(Request::read(extent, buffer, Cookie(0))).expect("one at a time");
        while completions.is_empty() {
            submitter.wait(None, &mut completions);
        }
        completions.clear();
    })
}

/// Has all threads read for `span`; how many I/Os each had.
fn run(contestant: &Contestant, span: Duration) -> Vec<u64> {
    let (start, is_over) = (Barrier::new(THREADS + 1), AtomicBool::new(false));
    scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let mut io = (contestant.opens)();
                let (start, is_over) = (&start, &is_over);
                scope.spawn(move || {
                    start.wait();
                    let mut ios = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        io();
                        ios += 1;
                    }
                    ios
                })
            })
            .collect();
        start.wait();
        let until = Tick::now().after(span);
        while Tick::now() < until {
            park_timeout(until.since(Tick::now()));
        }
        is_over.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().expect("nothing panics")).collect()
    })
}

pub(crate) fn contest(rounds: usize, millis: u64) {
    let (_volume, served) = served();
    let (roomy, narrow) =
        (served.client(64).expect("a little memory"), served.client(8).expect("a little memory"));
    let enter = |name, opens| Contestant { name, opens, rates: Vec::new(), fairness: Vec::new() };
    let mut contestants = [
        enter("one client, 64 places", Box::new(move || through(roomy.clone()))),
        enter("one client, 8 places", Box::new(move || through(narrow.clone()))),
        enter("64 submitters", Box::new(move || lane(&served))),
    ];
    let span = Duration::from_millis(millis);
    for _ in 0..rounds {
        for contestant in &mut contestants {
            let ios = run(contestant, span);
            contestant.rates.push(ios.iter().sum::<u64>() as f64 / span.as_secs_f64() / 1e3);
            let (least, most) = (ios.iter().min().copied(), ios.iter().max().copied());
            let most = most.unwrap_or(0).max(1) as f64;
            contestant.fairness.push(least.unwrap_or(0) as f64 / most);
        }
    }
    println!("\n{THREADS} threads, one read of 4 KiB each at a time, {rounds} rounds of {millis} ms");
    println!("{:<23}{:>24}{:>24}{:>24}", "", "thousand IOPS", "slowest to fastest", "to first");
    for one in &contestants {
        let (rate, fairness) =
            (spread(one.rates.iter().copied(), 0), spread(one.fairness.iter().copied(), 2));
        println!("{:<23}{rate:>24}{fairness:>24}{:>24}", one.name, ratios(&one.rates, &contestants[0].rates));
    }
}
