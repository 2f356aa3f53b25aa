//! Requests that make no sense: each comes back as it was given, with the reason.

use mpio::path::QueueIndex;
use mpio::{BlockCount, Class, Cookie, Durability, Error, Extent, Lba, Pool, Rejected, Request, Tick, Unmap};

use crate::rig::{Rig, assert_says, extent};
use crate::script::{Answer, BLOCK, BLOCKS, Script, TRANSFER, medium};

const FUA: Durability = Durability::Fua;

fn rig() -> (Script, Rig) {
    let script = Script::new("lun", "a", &medium());
    let rig = Rig::single(&script);
    (script, rig)
}

/// Submits `request`, which must come back whole with an error that says `says`, and is the caller's own matter.
#[track_caller]
fn rejected(rig: &mut Rig, request: Request, says: &str) -> Error {
    let (cookie, bytes) = (request.cookie, request.buffer.as_ref().map(|buffer| buffer.len()));
    let Rejected { request, error } = rig.queue.submit(request).expect_err(says);
    assert_eq!((request.cookie, request.buffer.as_ref().map(|buffer| buffer.len())), (cookie, bytes));
    assert_says(&error.to_string(), &[says]);
    assert_eq!(error.fate(), mpio::Fate::NotSent);
    error
}

#[test]
fn an_extent_that_is_empty_or_overflows_cannot_be_made() {
    for (start, blocks) in [(0, 0), (u64::MAX, 1), (u64::MAX - 3, 4)] {
        let error = Extent::new(Lba::new(start), BlockCount::new(blocks)).unwrap_err();
        assert_says(&error.to_string(), &["is empty or has no representable end"]);
        assert_eq!(error.class(), Class::Request);
    }
}

#[test]
fn an_empty_extent_is_rejected_whatever_the_operation() {
    let (script, mut rig) = rig();
    let empty = "extent of 0 blocks at 0 is empty";
    let (buffer, other) = (rig.buffer(1, 0), rig.buffer(1, 0));
    rejected(&mut rig, Request::read(Extent::NONE, buffer, Cookie(1)), empty);
    rejected(&mut rig, Request::write(Extent::NONE, other, FUA, Cookie(2)), empty);
    rejected(&mut rig, Request::discard(Extent::NONE, Cookie(3)), empty);
    rejected(&mut rig, Request::write_zeroes(Extent::NONE, Unmap::Allowed, Cookie(4)), empty);
    rig.serves();
    rig.finish(&[&script]);
}

#[test]
fn what_does_not_lie_on_the_volume_is_rejected() {
    let (script, mut rig) = rig();
    for start in [BLOCKS - 1, BLOCKS, u64::MAX - 8] {
        let buffer = rig.buffer(2, 0);
        let error = rejected(
            &mut rig,
            Request::read(extent(start, 2), buffer, Cookie(1)),
            "ends past the last of 64 blocks",
        );
        assert_eq!(error.class(), Class::Request);
        rejected(&mut rig, Request::discard(extent(start, 2), Cookie(2)), "ends past the last of 64 blocks");
    }
    rig.serves();
    rig.finish(&[&script]);
}

#[test]
fn what_is_larger_than_the_limits_is_rejected() {
    let (script, mut rig) = rig();
    let pool = Pool::new(2 * TRANSFER, 4).unwrap();
    let buffer = pool.take(TRANSFER + BLOCK).unwrap();
    rejected(
        &mut rig,
        Request::read(extent(0, 17), buffer, Cookie(1)),
        "read of 17 blocks exceeds the limit of 16: split it",
    );
    let zeroes = Request::write_zeroes(extent(0, 17), Unmap::Forbidden, Cookie(2));
    rejected(&mut rig, zeroes, "write zeroes of 17 blocks exceeds the limit of 16: split it");
    rejected(
        &mut rig,
        Request::discard(extent(0, 64), Cookie(2)),
        "discard of 64 blocks exceeds the limit of 16: split it",
    );
    rig.serves();
    rig.finish(&[&script]);
}

#[test]
fn what_a_path_does_not_support_is_rejected() {
    let script = Script::new("lun", "a", &medium()).describe(|description| {
        description.limits = mpio::Limits::new(TRANSFER);
    });
    let mut rig = Rig::single(&script);
    rejected(&mut rig, Request::discard(extent(0, 1), Cookie(1)), "discard is not supported by every path");
    let zeroes = Request::write_zeroes(extent(0, 1), Unmap::Allowed, Cookie(2));
    rejected(&mut rig, zeroes, "write zeroes is not supported by every path");
    rig.serves();
    rig.finish(&[&script]);
}

#[test]
fn a_buffer_of_the_wrong_size_is_rejected() {
    let (script, mut rig) = rig();
    for bytes in [1, BLOCK - 1, BLOCK, 2 * BLOCK + 1, TRANSFER] {
        let buffer = rig.pool.take(bytes).unwrap();
        let says = format!("read takes a buffer of 1024 bytes, was given a buffer of {bytes} bytes");
        rejected(&mut rig, Request::read(extent(0, 2), buffer, Cookie(1)), &says);
    }
    rig.serves();
    rig.finish(&[&script]);
}

#[test]
fn a_missing_and_a_needless_buffer_are_rejected() {
    let (script, mut rig) = rig();
    let mut missing = Request::read(extent(0, 2), rig.buffer(2, 0), Cookie(1));
    missing.buffer = None;
    rejected(&mut rig, missing, "read takes a buffer of 1024 bytes, was given no buffer");
    for mut request in [
        Request::flush(Cookie(1)),
        Request::discard(extent(0, 2), Cookie(2)),
        Request::write_zeroes(extent(0, 2), Unmap::Allowed, Cookie(3)),
    ] {
        request.buffer = Some(rig.buffer(2, 0));
        let says = format!("{} takes no buffer, was given a buffer of 1024 bytes", request.operation);
        rejected(&mut rig, request, &says);
    }
    rig.serves();
    rig.finish(&[&script]);
}

#[test]
fn a_flush_of_an_extent_is_a_flush_of_everything() {
    let (script, mut rig) = rig();
    let cookie = rig.cookie();
    let mut flush = Request::flush(cookie);
    flush.extent = extent(u64::MAX - 8, 8);
    rig.queue.submit(flush).unwrap();
    rig.end(cookie).result.unwrap();
    rig.finish(&[&script]);
}

#[test]
fn no_more_requests_are_taken_than_the_queue_was_built_for() {
    let script = Script::new("lun", "a", &medium());
    let only = crate::scripted::Scripted::new("only", &script);
    let mut rig = Rig::new(crate::rig::builder().queue_depth(2).path(only));
    script.answer_all(Answer::Keep);
    let reads = [rig.start_read(0, 1), rig.start_read(1, 1)];
    let buffer = rig.buffer(1, 0);
    let error = rejected(
        &mut rig,
        Request::read(extent(2, 1), buffer, Cookie(9)),
        "the queue holds its 2 requests; poll it and submit again",
    );
    assert_eq!(error.class(), Class::Busy);
    script.answer_all(Answer::Serve);
    script.release();
    for read in reads {
        rig.end(read).result.unwrap();
    }
    rig.serves();
    rig.finish(&[&script]);
}

#[test]
fn a_deadline_that_has_passed_ends_the_request_and_one_that_never_comes_does_not() {
    let (script, mut rig) = rig();
    for (deadline, passes) in [(Tick::ZERO, false), (Tick::MAX, true)] {
        let (buffer, cookie) = (rig.buffer(1, 0), rig.cookie());
        rig.queue.submit(Request::read(extent(0, 1), buffer, cookie).with_deadline(deadline)).unwrap();
        let ended = rig.end(cookie).result;
        assert_eq!(ended.is_ok(), passes, "{ended:?}");
    }
    rig.until("memory", |rig| rig.queue.is_empty().then_some(()));
    while rig.queue.poll_released().is_some() {}
    rig.serves();
    rig.finish(&[&script]);
}

#[test]
fn requests_of_one_cookie_are_cancelled_together_and_an_unknown_one_cancels_nothing() {
    let (script, mut rig) = rig();
    script.answer_all(Answer::Keep);
    for block in 0..3 {
        let buffer = rig.buffer(1, 0);
        rig.queue.submit(Request::read(extent(block, 1), buffer, Cookie(7))).unwrap();
    }
    let mut ended = Vec::new();
    assert_eq!(rig.queue.cancel(Cookie(8), &mut ended), 0);
    assert_eq!(rig.queue.cancel(Cookie(7), &mut ended), 3);
    assert_eq!(rig.queue.cancel(Cookie(7), &mut ended), 0);
    assert!(ended.iter().all(|completion| matches!(completion.result, Err(Error::Cancelled { .. }))));
    script.answer_all(Answer::Serve);
    script.release();
    rig.serves();
    rig.finish(&[&script]);
}

#[test]
fn a_queue_is_handed_out_once_and_only_if_there_is_one() {
    let (script, rig) = rig();
    for index in [0, 1, u16::MAX] {
        assert!(rig.volume.take_queue(QueueIndex(index)).is_none());
    }
    rig.finish(&[&script]);
}
