//! Paths whose code panics, in each of its methods.

use std::time::Duration;

use mpio::path::{Fault, QueueIndex};
use mpio::{Cause, NoPath, PathOptions};

use crate::rig::{Pair, Rig, assert_says, builder, rank, refusal};
use crate::script::{Act, Answer, Place, Script, medium};
use crate::scripted::Scripted;

const UNKNOWN: Fault = Fault::Unknown { cause: Cause::Timeout, fence: None };

#[test]
fn a_panic_on_connecting_refuses_the_path_by_its_name() {
    for place in [Place::Connect, Place::OpenQueue] {
        let pair = Pair::new();
        let script = Script::new("lun", "c", &medium());
        script.always(place, Act::Panic);
        let text = refusal(pair.rig.volume.add_path(Scripted::new("third", &script)));
        assert_says(&text, &["third: its code panicked on connecting"]);
        pair.finish();
        let text = refusal(builder().path(Scripted::new("first", &script)).build());
        assert_says(&text, &["first: its code panicked on connecting"]);
    }
}

#[test]
fn a_path_whose_name_panics_has_none() {
    let script = Script::new("lun", "a", &medium());
    script.always(Place::Name, Act::Panic);
    let mut rig = Rig::single(&script);
    assert_eq!(rig.volume.status().paths[0].name, "a path without a name");
    rig.serves();
    rig.finish(&[&script]);
}

#[test]
fn a_panic_on_opening_is_told_and_the_path_connects_anew() {
    let mut pair = Pair::with(|bad, _| bad.once(Place::Open, Act::Panic));
    pair.rig.serves();
    assert_says(&pair.rig.event(&["bad", "down"]), &["its code panicked on opening"]);
    pair.rig.event(&["bad", "up again"]);
    pair.bad.answer(Answer::EndTwice);
    pair.rig.serves();
    pair.rig.event(&["bad", "an attempt that it does not have"]);
    pair.finish();
}

#[test]
fn a_path_that_never_opens_leaves_requests_to_the_no_path_rule() {
    for act in [Act::Panic, Act::Fail("has no room for another queue")] {
        let script = Script::new("lun", "a", &medium());
        script.always(Place::Open, act);
        let mut rig = Rig::single(&script);
        let cookie = rig.start_write(0, 1, 1);
        assert_says(&rig.failure(cookie).to_string(), &["no path left after"]);
        rig.event(&["only", "down"]);
        script.well(Place::Open);
        rig.recovers();
        rig.serves();
        rig.finish(&[&script]);
    }
}

#[test]
fn a_panic_on_the_data_path_is_told_and_the_path_connects_anew() {
    for place in [Place::Submit, Place::Poll] {
        let mut pair = Pair::new();
        pair.bad.once(place, Act::Panic);
        let read = pair.rig.start_read(0, 2);
        pair.rig.end(read).result.unwrap();
        assert_says(&pair.rig.event(&["bad", "down"]), &["its code panicked"]);
        pair.rig.event(&["bad", "up again"]);
        assert!(pair.bad.calls(Place::Connect) > 1, "{place:?}");
        pair.finish();
    }
}

#[test]
fn a_write_that_a_panic_takes_with_it_is_repeated_after_the_fence() {
    for place in [Place::Submit, Place::Poll] {
        let mut pair = Pair::new();
        pair.rig.serves();
        pair.bad.answer(Answer::Keep);
        pair.bad.once(place, Act::Panic);
        pair.rig.write(0, 2, 7);
        assert!(pair.bad.calls(Place::Fence) > 0, "{place:?}");
        assert_eq!(pair.rig.read(0, 2), 7);
        pair.finish();
    }
}

#[test]
fn the_only_path_panics_at_each_attempt_and_requests_fail_with_the_reason() {
    let script = Script::new("lun", "a", &medium());
    let mut rig =
        Rig::new(builder().no_path(NoPath::hold(crate::rig::HOLD)).path(Scripted::new("only", &script)));
    script.always(Place::Submit, Act::Panic);
    let cookie = rig.start_read(0, 2);
    assert_says(
        &rig.failure(cookie).to_string(),
        &["read of 0+2 failed on every path, last on path 0: the path's code failed"],
    );
    script.well(Place::Submit);
    rig.serves();
    rig.finish(&[&script]);
}

#[test]
fn a_panic_on_cancelling_is_told_and_the_path_connects_anew() {
    let mut pair = Pair::new();
    pair.bad.answer(Answer::Keep);
    pair.bad.once(Place::Cancel, Act::Panic);
    let read = pair.rig.start_read(0, 2);
    // The read goes another way when the path counts as silent, and is cancelled there.
    pair.rig.end(read).result.unwrap();
    assert_says(&pair.rig.event(&["bad", "down"]), &["its code panicked"]);
    pair.rig.event(&["bad", "up again"]);
    pair.finish();
}

#[test]
fn a_panic_on_cancelling_as_the_queue_is_dropped_leaves_no_path_behind() {
    let script = Script::new("lun", "a", &medium());
    let mut rig = Rig::single(&script);
    script.answer(Answer::Keep);
    script.always(Place::Cancel, Act::Panic);
    rig.start_read(0, 2);
    rig.until("submitting", |_| (script.calls(Place::Submit) > 0).then_some(()));
    let settled = rig.volume.close(Duration::ZERO);
    drop(rig.queue);
    assert!(settled.wait(crate::rig::BOUND));
    assert_eq!(script.calls(Place::DropPath), 1);
}

#[test]
fn a_panic_on_probing_keeps_the_path_down_until_it_answers() {
    let mut pair = Pair::patient();
    pair.bad.always(Place::Probe, Act::Panic);
    pair.bad.answer(Answer::Fail(Fault::Unknown { cause: Cause::Disconnected, fence: None }));
    let read = pair.rig.start_read(0, 2);
    pair.rig.end(read).result.unwrap();
    assert_says(&pair.rig.event(&["bad", "down"]), &["the path's code failed"]);
    pair.rig.serves();
    assert!(!pair.rig.was_told("up again"));
    pair.bad.well(Place::Probe);
    pair.rig.event(&["bad", "up again"]);
    pair.finish();
}

#[test]
fn a_panic_on_fencing_is_told_and_the_fence_asked_for_again() {
    let mut pair = Pair::new();
    pair.bad.answer(Answer::GiveUp(UNKNOWN));
    pair.bad.once(Place::Fence, Act::Panic);
    pair.rig.write(0, 2, 7);
    pair.rig.event(&["bad", "could not be fenced: the path's code failed"]);
    assert_eq!(pair.bad.calls(Place::Fence), 2);
    assert_eq!(pair.rig.read(0, 2), 7);
    pair.bad.release();
    pair.finish();
}

#[test]
fn a_fence_that_never_comes_is_not_asked_for_for_ever_and_the_rest_goes_on() {
    let mut pair = Pair::new();
    pair.bad.answer(Answer::GiveUp(UNKNOWN));
    pair.bad.always(Place::Fence, Act::Panic);
    let write = pair.rig.start_write(0, 2, 7);
    pair.rig.event(&["bad", "could not be fenced: the path's code failed"]);
    pair.rig.event(&["bad", "up again"]);
    pair.rig.serves();
    assert!(pair.rig.is_out(write) && pair.bad.calls(Place::Fence) < 50);
    // The answer itself is as good as a fence.
    pair.bad.release();
    pair.rig.end(write).result.unwrap();
    pair.finish();
}

#[test]
fn a_panic_in_a_destructor_stays_where_it_is() {
    for place in [Place::DropQueue, Place::DropPath] {
        let mut pair = Pair::new();
        pair.rig.serves();
        pair.bad.always(place, Act::Panic);
        let bad = pair.rig.volume.status().paths[0].id;
        let settled = pair.rig.volume.remove_path(bad).unwrap();
        pair.rig.until("removal", |_| settled.is_settled().then_some(()));
        let script = Script::new("lun", "c", &pair.bad.state().medium);
        script.always(place, Act::Panic);
        pair.rig.volume.add_path_with(rank(2), Scripted::new("third", &script)).unwrap();
        pair.rig.until("opening", |_| (script.calls(Place::Open) > 0).then_some(()));
        pair.rig.serves();
        let settled = pair.rig.volume.close(Duration::from_secs(10));
        drop(pair.rig.queue);
        assert!(settled.wait(crate::rig::BOUND), "{place:?}");
        assert_eq!((script.calls(Place::DropPath), script.calls(Place::DropQueue)), (1, 1));
    }
}

#[test]
fn a_panic_in_one_queue_leaves_the_path_to_the_others_after_it_connects_anew() {
    let script = Script::new("lun", "a", &medium());
    let builder = builder().queues(2).no_path(NoPath::hold(crate::rig::BOUND));
    let mut rig = Rig::new(builder.path_with(PathOptions::new(), Scripted::new("only", &script)));
    let mut other = rig.volume.take_queue(QueueIndex(1)).unwrap();
    let mut ended = Vec::new();
    rig.serves();
    script.once(Place::Submit, Act::Panic);
    let read = rig.start_read(0, 1);
    rig.until("the read", |rig| {
        other.poll(mpio::Tick::now(), &mut ended);
        (!rig.is_out(read)).then_some(())
    });
    rig.end(read).result.unwrap();
    let (buffer, cookie) = (rig.buffer(1, 0), rig.cookie());
    other.submit(mpio::Request::read(crate::rig::extent(0, 1), buffer, cookie)).unwrap();
    rig.until("the other queue", |_| {
        other.poll(mpio::Tick::now(), &mut ended);
        ended.pop()
    })
    .result
    .unwrap();
    drop(other);
    rig.finish(&[&script]);
}

#[test]
fn a_panic_of_a_queue_that_was_never_opened_stays_where_it_is() {
    let mut pair = Pair::new();
    pair.rig.serves();
    // A queue that nobody took, then one that is dropped before its first poll.
    let script = Script::new("lun", "c", &pair.bad.state().medium);
    script.always(Place::DropOpening, Act::Panic);
    let volume = builder().queues(2).path(Scripted::new("only", &script)).build().unwrap();
    drop(volume.take_queue(QueueIndex(0)).unwrap());
    assert!(volume.close(Duration::ZERO).wait(crate::rig::BOUND));
    assert_eq!((script.calls(Place::DropOpening), script.calls(Place::DropPath)), (2, 1));
    pair.finish();
}
