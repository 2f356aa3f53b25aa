//! For how long a fault interrupts the I/O: four paths in virtual time.

use std::collections::BTreeMap;
use std::time::Duration;

use mpio::path::FenceSupport;
use mpio::sim::{LinkFault, LinkProfile, Options, Simulation};
use mpio::{BlockCount, Cookie, Durability, Extent, Lba, NoPath, Request, Sharing, Tick};

const MILLI: Duration = Duration::from_millis(1);
/// Between two requests: 4,000 in a second.
const GAP: Duration = Duration::from_micros(250);
/// There and back.
const ROUND_TRIP: Duration = Duration::from_micros(100);
const BLOCKS: u64 = 1 << 16;

struct Load {
    sim: Simulation,
    kind: Kind,
    next: u64,
    out: BTreeMap<u64, Tick>,
    /// When each request was submitted, and how long it took.
    ended: Vec<(Tick, Duration)>,
    failed: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

impl Load {
    /// Four links, warmed up.
    fn new(kind: Kind, sharing: Sharing) -> Self {
        let mut profile = LinkProfile::default();
        profile.fence = FenceSupport::Proven;
        let mut options = Options::new(vec![profile; 4]);
        options.blocks = BLOCKS;
        options.sharing = sharing;
        options.suspect_after = MILLI * 1000;
        options.probe_interval = MILLI * 1000;
        options.check_interval = MILLI * 5000;
        options.no_path = NoPath::hold(MILLI * 30_000);
        let sim = Simulation::new(&options).unwrap();
        let mut load = Self { sim, kind, next: 0, out: BTreeMap::new(), ended: Vec::new(), failed: 0 };
        load.run(MILLI * 2100);
        load
    }

    fn run(&mut self, span: Duration) {
        let end = self.sim.now().after(span);
        while self.sim.now() < end {
            let next = self.sim.now().after(GAP);
            while self.sim.step(next) {
                self.collect();
            }
            self.collect();
            self.submit();
        }
    }

    fn submit(&mut self) {
        let number = self.next;
        let extent = Extent::new(Lba::new(number % BLOCKS), BlockCount::new(1)).unwrap();
        let Some(buffer) = self.sim.stamped(1, number + 1) else { return };
        let request = match self.kind {
            Kind::Read => Request::read(extent, buffer, Cookie(number)),
            Kind::Write => Request::write(extent, buffer, Durability::Cached, Cookie(number)),
        };
        if self.sim.submit((number % 2) as usize, request).is_ok() {
            self.out.insert(number, self.sim.now());
            self.next += 1;
        }
    }

    fn collect(&mut self) {
        let now = self.sim.now();
        for (_, completion) in self.sim.take_completions() {
            let began = self.out.remove(&completion.cookie.0).unwrap();
            self.failed += usize::from(completion.result.is_err());
            self.ended.push((began, now.since(began)));
        }
    }

    /// The time that all but so many of a thousand requests did not exceed, of those submitted since `since`.
    fn percentile(&self, since: Tick, per_mille: usize) -> Duration {
        let mut times: Vec<Duration> =
            self.ended.iter().filter(|&&(began, _)| began >= since).map(|&(_, time)| time).collect();
        times.sort_unstable();
        times[(times.len() - 1) * per_mille / 1000]
    }

    /// What a fault of the first link costs: the fault-free p99.9, the longest since it began, and the p99 when all is settled.
    fn meet(&mut self, fault: LinkFault) -> (Duration, Duration, Duration) {
        let (since, before) = (self.sim.now(), self.percentile(Tick::ZERO, 999));
        let from = Tick::from_nanos(since.as_nanos() - 1_000_000);
        self.sim.break_link(0, fault);
        self.run(MILLI * 200);
        let later = self.sim.now();
        self.run(MILLI * 200);
        // What is out has had its time.
        assert!(self.out.values().all(|&began| self.sim.now().since(began) < MILLI * 20), "{:?}", self.out);
        (before, self.percentile(from, 1000), self.percentile(later, 990))
    }
}

#[test]
fn a_link_that_dies_with_an_error_costs_a_round_trip() {
    for (kind, sharing) in
        [(Kind::Read, Sharing::Shared), (Kind::Read, Sharing::Exclusive), (Kind::Write, Sharing::Exclusive)]
    {
        let mut load = Load::new(kind, sharing);
        let (before, longest, settled) = load.meet(LinkFault::Dead);
        println!("{kind:?} {sharing:?}: p99.9 {before:?}, longest {longest:?}, then p99 {settled:?}");
        assert!(
            longest <= before.mul_f64(1.5) + ROUND_TRIP,
            "{kind:?} {sharing:?}: {longest:?} of {before:?}"
        );
        assert_eq!(load.failed, 0);
    }
}

#[test]
fn a_silent_link_costs_milliseconds() {
    for fault in [LinkFault::Silent, LinkFault::Stuck] {
        for (kind, sharing) in [
            (Kind::Read, Sharing::Shared),
            (Kind::Read, Sharing::Exclusive),
            (Kind::Write, Sharing::Exclusive),
        ] {
            let mut load = Load::new(kind, sharing);
            let usual = load.percentile(Tick::ZERO, 990);
            let (before, longest, settled) = load.meet(fault);
            println!(
                "{fault:?} {kind:?} {sharing:?}: p99.9 {before:?}, longest {longest:?}, then p99 {settled:?}"
            );
            assert!(longest <= (before * 3).max(MILLI * 5), "{fault:?} {kind:?} {sharing:?}: {longest:?}");
            assert!(
                settled <= usual.mul_f64(1.1),
                "{fault:?} {kind:?} {sharing:?}: {settled:?} of {usual:?}"
            );
            assert_eq!(load.failed, 0);
        }
    }
}

/// The path is asked first whether it works: to fence it is to end its connection.
#[test]
fn a_silent_link_costs_a_write_of_a_shared_device_the_question_and_the_fence() {
    let mut load = Load::new(Kind::Write, Sharing::Shared);
    let (before, longest, _) = load.meet(LinkFault::Silent);
    println!("p99.9 {before:?}, longest {longest:?}");
    // Late, asked, fenced.
    assert!(longest <= MILLI * (4 + 16 + 11), "{longest:?}");
    assert_eq!(load.failed, 0);
}

#[test]
fn when_all_links_are_back_the_io_goes_on() {
    for signalled in [true, false] {
        let mut load = Load::new(Kind::Read, Sharing::Shared);
        for link in 0..4 {
            load.sim.break_link(link, LinkFault::Dead);
        }
        load.run(MILLI * 3000);
        let back = load.sim.now();
        for (link, path) in load.sim.status().paths.into_iter().enumerate() {
            load.sim.restore_link(link);
            if signalled {
                load.sim.retry_path(path.id).unwrap();
            }
        }
        let (bound, before) = (if signalled { MILLI * 10 } else { MILLI * 1010 }, load.ended.len());
        while load.ended.len() == before {
            assert!(load.sim.now().since(back) < bound, "signalled: {signalled}");
            load.run(MILLI);
        }
        assert_eq!(load.failed, 0);
    }
}
