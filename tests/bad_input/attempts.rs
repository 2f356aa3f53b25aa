//! Paths that do with attempts what they must not.

use mpio::path::{Fault, FenceGrade, QueueIndex};
use mpio::{Cause, Error, Fate, Memory, NoPath, Request};

use crate::rig::{BOUND, Pair, Rig, assert_says, extent};
use crate::script::{Answer, BLOCK, Place, Script, TRANSFER, medium};

const UNKNOWN: Fault = Fault::Unknown { cause: Cause::Timeout, fence: None };

#[test]
fn an_attempt_that_ends_twice_completes_its_request_once() {
    let mut pair = Pair::new();
    pair.bad.answer(Answer::EndTwice);
    pair.rig.write(0, 4, 7);
    let told = pair.rig.event(&["bad", "down"]);
    assert_says(&told, &["its code", "an attempt that it does not have"]);
    assert_eq!(pair.rig.read(0, 4), 7);
    pair.finish();
}

#[test]
fn an_attempt_that_is_given_up_twice_and_then_served_completes_its_request_once() {
    let mut pair = Pair::new();
    pair.bad.answer(Answer::GiveUpAndServe(UNKNOWN));
    pair.rig.write(0, 4, 7);
    assert_eq!(pair.rig.read(0, 4), 7);
    pair.finish();
}

#[test]
fn an_attempt_of_another_path_is_not_taken_from_this_one() {
    let mut pair = Pair::new();
    pair.bad.answer(Answer::Smuggle(pair.good.clone(), QueueIndex(0)));
    let cookie = pair.rig.start_read(0, 4);
    let told = pair.rig.event(&["good", "down"]);
    assert_says(&told, &["its code", "an attempt that it does not have"]);
    // What strays is lost: the read goes another way when its path counts as silent.
    pair.rig.end(cookie).result.unwrap();
    pair.rig.serves();
}

#[test]
fn an_attempt_of_another_queue_is_not_taken_in_this_one() {
    // The first attempts of two queues have the same place and generation.
    let script = Script::new("lun", "a", &medium());
    let builder = crate::rig::builder().queues(2).no_path(NoPath::hold(BOUND));
    let mut rig = Rig::new(builder.path(crate::scripted::Scripted::new("only", &script)));
    let mut other = rig.volume.take_queue(QueueIndex(1)).unwrap();
    let mut ended = Vec::new();
    rig.serves();
    script.answer(Answer::Smuggle(script.clone(), QueueIndex(1)));
    let stolen = rig.start_write(0, 2, 1);
    rig.turn();
    // The other queue's path queue ends it.
    let (buffer, cookie) = (rig.buffer(2, 2), rig.cookie());
    let request = Request::write(extent(8, 2), buffer, mpio::Durability::Cached, cookie);
    script.answer(Answer::Keep);
    other.submit(request).unwrap();
    rig.until("the other queue to be told", |rig| {
        other.poll(mpio::Tick::now(), &mut ended);
        rig.was_told("an attempt that it does not have").then_some(())
    });
    assert!(ended.is_empty(), "{ended:?}");
    script.release();
    rig.until("the other queue's own", |_| {
        other.poll(mpio::Tick::now(), &mut ended);
        ended.iter().any(|completion| completion.cookie == cookie && completion.result.is_ok()).then_some(())
    });
    rig.queue.cancel(stolen, &mut Vec::new());
}

#[test]
fn attempts_that_come_back_with_each_others_memory_are_no_successes() {
    let mut pair = Pair::new();
    pair.rig.write(0, 4, 7);
    pair.rig.write(8, 4, 9);
    pair.bad.answer(Answer::Swap);
    pair.bad.answer(Answer::Swap);
    let reads = [pair.rig.start_read(0, 4), pair.rig.start_read(8, 4)];
    let told = pair.rig.event(&["bad", "down"]);
    assert_says(&told, &["its code", "memory of another attempt"]);
    for (read, fill) in reads.into_iter().zip([7, 9]) {
        let ended = pair.rig.end(read);
        ended.result.unwrap();
        let Memory::Returned(buffer) = ended.memory else { panic!("no memory") };
        assert!(buffer.iter().all(|&byte| byte == fill));
    }
    pair.finish();
}

#[test]
fn a_transfer_of_nothing_is_no_success() {
    let mut pair = Pair::new();
    pair.bad.answer(Answer::Bytes(0));
    pair.rig.write(0, 4, 7);
    assert_says(&pair.rig.event(&["bad", "suspect"]), &["short transfer"]);
    assert_eq!(pair.rig.read(0, 4), 7);
    pair.finish();
}

#[test]
fn a_transfer_of_less_than_a_block_is_no_progress() {
    let mut pair = Pair::new();
    pair.bad.answer(Answer::Bytes(BLOCK - 1));
    pair.rig.write(0, 4, 7);
    pair.rig.event(&["bad", "suspect: short transfer"]);
    assert_eq!(pair.rig.read(0, 4), 7);
    pair.finish();
}

#[test]
fn a_short_transfer_is_continued_where_it_ended() {
    for bytes in [BLOCK, 3 * BLOCK, 3 * BLOCK + 5] {
        let mut pair = Pair::new();
        pair.bad.answer(Answer::Bytes(bytes));
        pair.rig.write(0, 4, 7);
        assert!(!pair.rig.was_told("suspect"));
        pair.bad.answer(Answer::Bytes(bytes));
        assert_eq!(pair.rig.read(0, 4), 7);
        pair.finish();
    }
}

#[test]
fn a_transfer_that_is_short_twice_goes_to_another_path() {
    let mut pair = Pair::new();
    pair.bad.answer(Answer::Bytes(BLOCK));
    pair.bad.answer(Answer::Bytes(BLOCK));
    pair.rig.write(0, 4, 7);
    pair.rig.event(&["bad", "suspect: short transfer"]);
    assert_eq!(pair.rig.read(0, 4), 7);
    pair.finish();
}

#[test]
fn more_than_was_asked_for_is_no_success() {
    for bytes in [4 * BLOCK + 1, TRANSFER, u32::MAX] {
        let mut pair = Pair::new();
        pair.bad.answer(Answer::Bytes(bytes));
        pair.rig.write(0, 4, 7);
        assert_says(
            &pair.rig.event(&["bad", "down"]),
            &["its code", "transferred more than it was asked to"],
        );
        assert_eq!(pair.rig.read(0, 4), 7);
        pair.finish();
    }
}

#[test]
fn what_no_path_can_do_fails_with_the_reason() {
    for (answer, says) in
        [(Answer::Bytes(0), "short transfer"), (Answer::Bytes(u32::MAX), "the path's code failed")]
    {
        let script = Script::new("lun", "a", &medium());
        let builder = crate::rig::builder().no_path(NoPath::Fail);
        let mut rig = Rig::new(builder.path(crate::scripted::Scripted::new("only", &script)));
        script.answer_all(answer);
        let cookie = rig.start_read(0, 4);
        let error = rig.failure(cookie);
        assert_says(&error.to_string(), &["read of 0+4 failed on every path, last on path 0", says]);
        script.answer_all(Answer::Serve);
        rig.recovers();
        rig.serves();
        rig.finish(&[&script]);
    }
}

#[test]
fn a_path_that_never_answers_holds_up_nothing_but_writes_to_the_same_blocks() {
    let mut pair = Pair::new();
    pair.bad.answer_all(Answer::Keep);
    let (read, write) = (pair.rig.start_read(0, 2), pair.rig.start_write(8, 2, 7));
    let told = pair.rig.event(&["bad", "no answer for"]);
    assert_says(&told, &["suspect"]);
    pair.rig.end(read).result.unwrap();
    // The path was fenced, and the write went another way.
    pair.rig.end(write).result.unwrap();
    assert_eq!(pair.rig.read(8, 2), 7);
    pair.bad.answer_all(Answer::Serve);
    pair.bad.release();
    pair.finish();
}

#[test]
fn a_request_over_a_path_that_never_answers_keeps_its_deadline() {
    let script = Script::new("lun", "a", &medium());
    let mut rig = Rig::single(&script);
    script.answer_all(Answer::Keep);
    let (buffer, cookie) = (rig.buffer(2, 0), rig.cookie());
    let request = Request::read(extent(0, 2), buffer, cookie).with_deadline(mpio::Tick::now());
    rig.queue.submit(request).unwrap();
    let completion = rig.end(cookie);
    assert!(matches!(completion.memory, Memory::Quarantined | Memory::Returned(_)));
    let error = completion.result.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded { .. }), "{error}");
    script.release();
    rig.serves();
    rig.until("memory", |rig| {
        rig.queue.is_empty().then_some(()).or_else(|| rig.queue.poll_released().map(drop))
    });
    rig.finish(&[&script]);
}

#[test]
fn a_path_that_hands_back_less_than_it_took_holds_up_nothing_else() {
    let mut pair = Pair::new();
    pair.bad.answer(Answer::Lose);
    let read = pair.rig.start_read(0, 2);
    pair.rig.event(&["bad", "no answer for"]);
    pair.rig.end(read).result.unwrap();
    pair.bad.answer(Answer::Lose);
    let write = pair.rig.start_write(0, 2, 9);
    pair.rig.end(write).result.unwrap();
    assert_eq!(pair.rig.read(0, 2), 9);
    pair.rig.serves();
}

#[test]
fn a_path_that_takes_no_attempts_is_said_to_and_the_other_serves() {
    let mut pair = Pair::new();
    pair.bad.answer_all(Answer::Decline);
    pair.rig.serves();
    let told = pair.rig.until("an event", |rig| {
        let read = rig.start_read(0, 1);
        rig.end(read).result.unwrap();
        rig.was_told("takes no attempts").then(|| rig.event(&["bad", "down"]))
    });
    assert_says(&told, &["its code takes no attempts although it has none out"]);
    pair.bad.answer_all(Answer::Serve);
    pair.finish();
}

#[test]
fn a_volume_whose_only_path_takes_no_attempts_fails_requests() {
    let script = Script::new("lun", "a", &medium());
    let mut rig = Rig::single(&script);
    script.answer_all(Answer::Decline);
    let cookie = rig.start_write(0, 1, 1);
    let error = rig.failure(cookie);
    assert_says(&error.to_string(), &["no path left after"]);
    assert_eq!(error.fate(), Fate::NotSent);
    assert_says(&rig.event(&["only", "down"]), &["takes no attempts"]);
    script.answer_all(Answer::Serve);
    rig.recovers();
    rig.serves();
    rig.finish(&[&script]);
}

#[test]
fn a_path_that_connects_and_sends_nothing_fails_requests_in_bounded_time() {
    let script = Script::new("lun", "a", &medium());
    let mut rig = Rig::single(&script);
    script.answer_all(Answer::Fail(Fault::NotSent(Cause::NotConnected)));
    let cookie = rig.start_write(0, 1, 1);
    let error = rig.failure(cookie);
    assert_says(&error.to_string(), &["no path left after"]);
    assert_eq!(error.fate(), Fate::NotSent);
    rig.event(&["only", "down: not connected"]);
    // It is not asked again and again without pause.
    assert!(script.calls(Place::Connect) < 200, "{} connections", script.calls(Place::Connect));
    script.answer_all(Answer::Serve);
    rig.recovers();
    rig.serves();
    rig.finish(&[&script]);
}

#[test]
fn a_write_of_unknown_fate_is_repeated_after_the_fence_alone() {
    let mut pair = Pair::new();
    pair.bad.answer(Answer::GiveUp(UNKNOWN));
    pair.bad.always(Place::Fence, crate::script::Act::Silence);
    let write = pair.rig.start_write(0, 2, 7);
    pair.rig.event(&["bad", "are being fenced"]);
    pair.rig.serves();
    assert!(pair.rig.is_out(write));
    pair.bad.release();
    pair.rig.end(write).result.unwrap();
    assert_eq!(pair.rig.read(0, 2), 7);
    pair.finish();
}

#[test]
fn a_fault_that_says_the_access_state_is_active_is_held_against_the_path() {
    let mut pair = Pair::new();
    pair.bad.answer(Answer::Fail(Fault::Refused(mpio::path::AccessState::Optimized)));
    pair.rig.write(0, 2, 7);
    pair.rig.event(&["bad", "suspect: refused for its access state"]);
    pair.finish();
}

#[test]
fn a_path_that_says_it_is_busy_for_ever_is_tried_again() {
    let script = Script::new("lun", "a", &medium());
    let mut rig = Rig::single(&script);
    let fault = Fault::Congested { retry_after: std::time::Duration::ZERO };
    (0..5).for_each(|_| script.answer(Answer::Fail(fault)));
    rig.serves();
    rig.finish(&[&script]);
}

#[test]
fn an_unknown_fate_with_a_fence_is_repeated_at_once() {
    let mut pair = Pair::new();
    let fault = Fault::Unknown { cause: Cause::Errno(5), fence: Some(FenceGrade::Proven) };
    pair.bad.answer(Answer::Fail(fault));
    pair.rig.write(0, 2, 7);
    assert_says(&pair.rig.event(&["bad", "suspect"]), &["Input/output error"]);
    pair.finish();
}
