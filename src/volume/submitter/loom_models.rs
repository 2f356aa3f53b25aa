//! Models of a submitter and its door under loom: a lost wake is a deadlock, which loom reports. Run with
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib loom`.

use super::*;
use crate::volume::dispatcher::door::Door;

/// Both ends, of which the submitter sleeps as soon as there is nothing to do, and the bed of the door's thread.
fn ends() -> (Submitter, LaneDoor, Bed) {
    let bed = Bed::new().unwrap();
    let shape = (LiveGeometry::new(Geometry::new(512, 8).unwrap()), Limits::new(512));
    let (mut submitter, door) = Submitter::with(2, shape, Arc::clone(bed.bell())).unwrap();
    submitter.pulse = Pulse::expecting(1 << 30);
    (submitter, door, bed)
}

/// Takes one request and answers it.
fn serve_one(door: &mut LaneDoor) {
    let request = loop {
        match door.next() {
            Some(Asked::Request(request)) => break request,
            _ => loom::thread::yield_now(),
        }
    };
    let number = u32::try_from(request.cookie.0).unwrap();
    door.end(number, Ok(()), Memory::None);
    door.notify();
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// How the user sleeps.
fn by_waiting(submitter: &mut Submitter, completions: &mut Vec<Completion>) {
    submitter.wait(None, completions);
}

fn by_descriptor(submitter: &mut Submitter, completions: &mut Vec<Completion>) {
    submitter.keep_armed();
    submitter.bed.sleep(None);
    submitter.poll(completions);
}

/// Two requests, then the end of the queue.
fn no_end_is_slept_over(sleep: fn(&mut Submitter, &mut Vec<Completion>)) {
    check(move || {
        let (mut submitter, mut door, _bed) = ends();
        let thread = loom::thread::spawn(move || {
            serve_one(&mut door);
            serve_one(&mut door);
        });
        let mut completions = Vec::new();
        for cookie in [7, 8] {
            submitter.submit(Request::flush(Cookie(cookie))).unwrap();
        }
        while completions.len() < 2 {
            sleep(&mut submitter, &mut completions);
        }
        assert!(completions.iter().all(|end| end.result.is_ok()));
        while !submitter.is_finished() {
            sleep(&mut submitter, &mut completions);
        }
        assert_eq!(completions.len(), 2);
        thread.join().unwrap();
    });
}

#[test]
fn loom_no_end_is_slept_over_by_waiting() {
    no_end_is_slept_over(by_waiting);
}

#[test]
fn loom_no_end_is_slept_over_on_the_descriptor() {
    no_end_is_slept_over(by_descriptor);
}

/// The door goes, at any time, and may have taken the request: it ends once.
#[test]
fn loom_a_request_ends_once_though_the_door_goes() {
    check(|| {
        let (mut submitter, mut door, _bed) = ends();
        let thread = loom::thread::spawn(move || {
            if let Some(Asked::Request(request)) = door.next() {
                let number = u32::try_from(request.cookie.0).unwrap();
                door.end(number, Ok(()), Memory::None);
            }
        });
        let mut completions = Vec::new();
        match submitter.submit(Request::flush(Cookie(7))) {
            Err(rejected) => assert!(matches!(rejected.error, Error::Closed { .. })),
            Ok(()) => {
                while !submitter.is_finished() {
                    submitter.wait(None, &mut completions);
                }
                assert_eq!(completions.len(), 1);
                let end = &completions[0].result;
                assert!(matches!(end, Ok(()) | Err(Error::Closed { fate: Fate::NotSent })), "{end:?}");
            }
        }
        thread.join().unwrap();
    });
}

/// The dispatcher's side sleeps whenever it finds nothing to do.
#[test]
fn loom_a_submitter_that_goes_is_not_slept_over() {
    check(|| {
        let (mut submitter, mut door, mut bed) = ends();
        let thread = loom::thread::spawn(move || {
            submitter.submit(Request::flush(Cookie(7))).unwrap();
        });
        let mut taken = 0;
        while !door.is_left() {
            if door.next().is_some() {
                taken += 1;
                continue;
            }
            bed.arm();
            if door.is_empty() && !door.is_left() {
                bed.sleep(None);
            }
            bed.disarm();
        }
        assert_eq!(taken, 1);
        thread.join().unwrap();
    });
}
