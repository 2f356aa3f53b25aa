//! Time that makes no sense: from the caller, and from paths.

use std::time::Duration;

use mpio::{Completion, Error, Request, Tick};

use crate::rig::{Pair, Rig, assert_says, extent};
use crate::script::{Answer, Script, medium};

#[test]
fn a_path_may_name_any_tick() {
    for tick in [Tick::ZERO, Tick::from_nanos(1), Tick::MAX] {
        let mut pair = Pair::new();
        pair.bad.name_tick(Some(tick));
        for _ in 0..3 {
            // One that asks to be called at the end of time counts as silent.
            pair.rig.read(0, 2);
        }
        pair.bad.name_tick(None);
        pair.finish();
    }
}

#[test]
fn a_clock_that_goes_back_loses_no_request_and_hides_no_silence() {
    let mut pair = Pair::new();
    let mut ended: Vec<Completion> = Vec::new();
    let (now, hour) = (Tick::now(), Duration::from_hours(1));
    pair.bad.answer_all(Answer::Keep);
    let cookie = pair.rig.start_read(0, 2);
    for now in [now, now.after(hour), Tick::ZERO, Tick::MAX, now] {
        pair.rig.queue.poll(now, &mut ended);
    }
    if ended.is_empty() {
        ended.push(pair.rig.end(cookie));
    }
    ended.pop().unwrap().result.unwrap();
    let late = pair.rig.start_read(4, 2);
    pair.rig.end(late).result.unwrap();
    pair.rig.event(&["bad", "no answer for"]);
    pair.bad.answer_all(Answer::Serve);
    pair.bad.release();
    pair.finish();
}

#[test]
fn a_deadline_is_kept_after_the_clock_went_back() {
    let script = Script::new("lun", "a", &medium());
    let mut rig = Rig::single(&script);
    script.answer_all(Answer::Keep);
    let mut ended = Vec::new();
    rig.queue.poll(Tick::now().after(Duration::from_hours(1)), &mut ended);
    let (buffer, cookie) = (rig.buffer(1, 0), rig.cookie());
    let deadline = Tick::now().after(Duration::from_millis(5));
    rig.queue.submit(Request::read(extent(0, 1), buffer, cookie).with_deadline(deadline)).unwrap();
    let error = rig.failure(cookie);
    assert!(matches!(error, Error::DeadlineExceeded { .. }));
    assert_says(&error.to_string(), &["deadline passed; the request is"]);
    script.answer_all(Answer::Serve);
    script.release();
    rig.serves();
    rig.finish(&[&script]);
}
