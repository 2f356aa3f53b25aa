//! Closing, dropping, removing: in any order, at any time.

use std::time::Duration;

use mpio::path::{FenceSupport, QueueIndex};
use mpio::policy::LeastQueue;
use mpio::{Error, Fate, Memory, NoPath, Request};

use crate::rig::{BOUND, Pair, Rig, assert_goes, assert_says, builder, extent, refusal};
use crate::script::{Answer, Place, Script, medium};
use crate::scripted::Scripted;

#[test]
fn a_closed_volume_says_so_to_everyone() {
    let script = Script::new("lun", "a", &medium());
    let mut rig = Rig::single(&script);
    rig.serves();
    let settled = rig.volume.close(BOUND);
    rig.until("finishing", |rig| rig.queue.is_finished().then_some(()));
    assert!(settled.wait(BOUND));
    rig.event(&["volume: closed"]);
    let (buffer, path) = (rig.buffer(1, 0), mpio::Cookie(1));
    let rejected = rig.queue.submit(Request::read(extent(0, 1), buffer, path)).unwrap_err();
    assert_says(&rejected.error.to_string(), &["the volume is closed; the request is not sent"]);
    assert!(rejected.request.buffer.is_some());
    assert!(rig.queue.poll(mpio::Tick::now(), &mut Vec::new()).is_none());
    assert!(rig.queue.is_empty() && rig.queue.poll_released().is_none());
    rig.queue.wake_fd().unwrap();
    // It does not sleep for what never comes.
    rig.queue.wait(None, &mut Vec::new());
    assert_says(&refusal(rig.volume.set_policy(LeastQueue::new())), &["the volume is closed"]);
    assert!(rig.volume.status().paths.is_empty());
    assert!(rig.volume.events().next_within(Duration::from_millis(1)).is_none());
    assert!(rig.volume.take_queue(QueueIndex(0)).is_none());
    assert!(rig.volume.close(Duration::ZERO).wait(BOUND), "a second time");
}

#[test]
fn a_queue_that_is_not_the_last_to_finish_does_not_sleep_on() {
    let script = Script::new("lun", "a", &medium());
    let mut rig = Rig::new(builder().queues(2).path(Scripted::new("only", &script)));
    let other = rig.volume.take_queue(QueueIndex(1)).unwrap();
    let settled = rig.volume.close(BOUND);
    while !rig.queue.is_finished() {
        rig.queue.wait(None, &mut Vec::new());
    }
    rig.queue.wait(None, &mut Vec::new());
    assert!(!settled.is_settled());
    drop(other);
    assert!(settled.wait(BOUND));
}

#[test]
fn closing_without_grace_ends_what_is_left_as_of_unknown_fate() {
    let script = Script::new("lun", "a", &medium());
    let mut rig = Rig::single(&script);
    script.answer_all(Answer::Keep);
    let (read, write) = (rig.start_read(0, 1), rig.start_write(4, 1, 1));
    rig.until("submitting", |_| (script.calls(Place::Submit) > 0).then_some(()));
    let settled = rig.volume.close(Duration::ZERO);
    for cookie in [read, write] {
        let completion = rig.end(cookie);
        assert!(matches!(completion.memory, Memory::Quarantined));
        let error = completion.result.unwrap_err();
        assert!(matches!(error, Error::Closed { fate: Fate::Unknown }), "{error}");
    }
    assert!(!settled.is_settled(), "the path still holds memory");
    script.release();
    rig.until("finishing", |rig| rig.queue.is_finished().then_some(()));
    assert!(settled.wait(BOUND));
    assert!(rig.queue.poll_released().is_some() && rig.queue.poll_released().is_some());
    assert_eq!(script.calls(Place::DropPath), 1);
}

#[test]
fn closing_with_all_the_time_in_the_world_waits_for_what_is_under_way() {
    let script = Script::new("lun", "a", &medium());
    let mut rig = Rig::single(&script);
    script.answer_all(Answer::Keep);
    let read = rig.start_read(0, 1);
    rig.until("submitting", |_| (script.calls(Place::Submit) > 0).then_some(()));
    let settled = rig.volume.close(Duration::MAX);
    rig.event(&["volume: closing"]);
    assert!(rig.is_out(read) && !settled.is_settled());
    script.release();
    rig.end(read).result.unwrap();
    rig.until("finishing", |rig| rig.queue.is_finished().then_some(()));
    assert!(settled.wait(BOUND));
}

#[test]
fn a_shorter_grace_overrides_a_longer_one_and_not_the_other_way() {
    let script = Script::new("lun", "a", &medium());
    let mut rig = Rig::single(&script);
    script.answer_all(Answer::Keep);
    let read = rig.start_read(0, 1);
    rig.until("submitting", |_| (script.calls(Place::Submit) > 0).then_some(()));
    for grace in [Duration::MAX, Duration::ZERO, Duration::MAX] {
        rig.volume.close(grace);
    }
    assert!(matches!(rig.failure(read), Error::Closed { .. }));
    script.release();
    let settled = rig.volume.close(Duration::ZERO);
    rig.until("finishing", |rig| rig.queue.is_finished().then_some(()));
    assert!(settled.wait(BOUND));
}

#[test]
fn requests_that_no_path_took_end_with_the_volume_as_not_sent() {
    let script = Script::new("lun", "a", &medium());
    let only = Scripted::new("only", &script);
    let mut rig = Rig::new(builder().no_path(NoPath::hold(Duration::MAX)).path(only));
    script.answer_all(Answer::Decline);
    let write = rig.start_write(0, 1, 1);
    rig.event(&["only", "takes no attempts"]);
    rig.volume.close(Duration::ZERO);
    let error = rig.failure(write);
    assert!(matches!(error, Error::Closed { fate: Fate::NotSent }), "{error}");
}

#[test]
fn queues_that_nobody_took_end_with_the_volume() {
    let script = Script::new("lun", "a", &medium());
    let volume = builder().queues(4).path(Scripted::new("only", &script)).build().unwrap();
    assert!(volume.close(Duration::MAX).wait(BOUND));
    assert_eq!(script.calls(Place::DropPath), 1);
}

#[test]
fn a_volume_that_is_dropped_lives_as_long_as_its_queue() {
    let script = Script::new("lun", "a", &medium());
    let Rig { volume, mut queue, pool, .. } = Rig::single(&script);
    drop(volume);
    let mut ended = Vec::new();
    queue.submit(Request::read(extent(0, 1), pool.take(512).unwrap(), mpio::Cookie(1))).unwrap();
    while ended.is_empty() {
        queue.wait(None, &mut ended);
    }
    ended.pop().unwrap().result.unwrap();
    assert_eq!(script.calls(Place::DropPath), 0);
    drop(queue);
    assert_goes(&script);
}

#[test]
fn a_queue_that_is_dropped_with_requests_out_leaves_the_volume_to_the_others() {
    let script = Script::new("lun", "a", &medium());
    let script = script.describe(|description| description.fence = FenceSupport::None);
    let mut rig = Rig::new(builder().queues(2).path(Scripted::new("only", &script)));
    script.answer_all(Answer::Keep);
    rig.start_read(0, 1);
    rig.start_write(4, 1, 1);
    rig.until("submitting", |_| (script.calls(Place::Submit) > 0).then_some(()));
    script.answer_all(Answer::Serve);
    rig.queue = rig.volume.take_queue(QueueIndex(1)).unwrap();
    rig.serves();
    // What was dropped may still land on its blocks until the path answers.
    let barred = rig.start_write(4, 1, 2);
    rig.serves();
    assert!(rig.is_out(barred));
    script.release();
    rig.end(barred).result.unwrap();
    assert_eq!(rig.read(4, 1), 2);
    rig.finish(&[&script]);
}

#[test]
fn everything_dropped_with_a_silent_path_goes_when_the_path_answers() {
    let script = Script::new("lun", "a", &medium());
    let mut rig = Rig::single(&script);
    script.answer_all(Answer::Keep);
    rig.start_read(0, 1);
    rig.start_write(4, 1, 1);
    rig.until("submitting", |_| (script.calls(Place::Submit) > 0).then_some(()));
    drop(rig);
    assert_eq!(script.calls(Place::DropPath), 0, "it still holds memory");
    script.release();
    assert_goes(&script);
}

#[test]
fn a_path_is_removed_once() {
    let mut pair = Pair::new();
    let bad = pair.rig.volume.status().paths[0].id;
    let settled = [pair.rig.volume.remove_path(bad).unwrap(), pair.rig.volume.remove_path(bad).unwrap()];
    pair.rig.until("removal", |_| settled.iter().all(mpio::Settled::is_settled).then_some(()));
    assert_eq!(pair.bad.calls(Place::DropPath), 1);
    let text = refusal(pair.rig.volume.remove_path(bad));
    assert_says(&text, &["path 0: is not a path of this volume (any more)"]);
    pair.finish();
}

#[test]
fn a_path_of_another_volume_is_not_removed_here() {
    let (first, mut second) = (Pair::new(), Pair::new());
    let third = Script::new("lun", "c", &medium());
    let foreign = second.rig.volume.add_path(Scripted::new("third", &third)).unwrap();
    assert_says(&refusal(first.rig.volume.remove_path(foreign)), &["path 2: is not a path of this volume"]);
    first.finish();
    second.rig.serves();
    second.finish();
}

#[test]
fn a_path_that_is_removed_while_silent_goes_when_it_answers() {
    let mut pair = Pair::new();
    pair.bad.answer(Answer::Keep);
    let read = pair.rig.start_read(0, 1);
    pair.rig.until("submitting", |rig| (rig.volume.status().paths[0].in_flight() > 0).then_some(()));
    let bad = pair.rig.volume.status().paths[0].id;
    let settled = pair.rig.volume.remove_path(bad).unwrap();
    pair.rig.end(read).result.unwrap();
    pair.rig.serves();
    assert!(!settled.is_settled());
    pair.bad.release();
    pair.rig.until("removal", |_| settled.is_settled().then_some(()));
    assert_eq!(pair.bad.calls(Place::DropPath), 1);
    pair.finish();
}
