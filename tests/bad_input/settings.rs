//! Settings at the ends of their ranges and beyond.

use std::time::Duration;

use mpio::{NoPath, Pool, VolumeBuilder};

use crate::rig::{BOUND, Rig, assert_says, builder, refusal};
use crate::script::{Place, Script, medium};
use crate::scripted::Scripted;

/// Builds with one path and a setting that is refused before the path is even connected.
fn refused(set: impl FnOnce(VolumeBuilder) -> VolumeBuilder, says: &[&str]) {
    let script = Script::new("lun", "a", &medium());
    let text = refusal(set(builder().path(Scripted::new("only", &script))).build());
    assert_says(&text, says);
    assert_eq!((script.calls(Place::Connect), script.calls(Place::DropPath)), (0, 1));
}

/// Builds with a setting that is odd but allowed, and uses it.
fn taken(set: impl FnOnce(VolumeBuilder) -> VolumeBuilder) {
    let script = Script::new("lun", "a", &medium());
    let mut rig = Rig::new(set(builder().path(Scripted::new("only", &script))));
    rig.serves();
    let settled = rig.volume.close(Duration::ZERO);
    drop(rig.queue);
    assert!(settled.wait(BOUND));
    assert_eq!(script.calls(Place::DropPath), 1);
}

#[test]
fn queues_are_one_to_1024() {
    refused(|builder| builder.queues(0), &["queues: 0 is not between 1 and 1024"]);
    refused(|builder| builder.queues(1025), &["queues: 1025 is not between 1 and 1024"]);
    taken(|builder| builder.queues(32));
}

#[test]
fn a_queue_has_room_for_one_to_65536_requests() {
    refused(|builder| builder.queue_depth(0), &["queue_depth: 0 is not between 1 and 65536"]);
    refused(|builder| builder.queue_depth(u32::MAX), &["queue_depth: 4294967295 is not between 1 and 65536"]);
    taken(|builder| builder.queue_depth(1));
    taken(|builder| builder.queue_depth(65_536));
}

#[test]
fn all_queues_together_have_room_for_so_many() {
    refused(
        |builder| builder.queues(1024).queue_depth(65_536),
        &[
            "queue_depth: 65536 in each of 1024 queues are 67108864 in all, more than 1048576: take less of either",
        ],
    );
}

#[test]
fn times_are_a_millisecond_or_more() {
    let brief = Duration::from_micros(999);
    refused(|builder| builder.suspect_after(brief), &["suspect_after: 999µs is below the least of 1ms"]);
    refused(
        |builder| builder.probe_interval(Duration::ZERO),
        &["probe_interval: 0ns is below the least of 1ms"],
    );
    refused(
        |builder| builder.connect_timeout(Duration::ZERO),
        &["connect_timeout: 0ns is below the least of 1ms"],
    );
}

#[test]
fn times_without_end_are_taken() {
    taken(|builder| builder.suspect_after(Duration::MAX).probe_interval(Duration::MAX));
    taken(|builder| builder.connect_timeout(Duration::MAX));
    for rule in [NoPath::Fail, NoPath::hold(Duration::ZERO), NoPath::hold(Duration::MAX)] {
        taken(|builder| builder.no_path(rule));
    }
}

#[test]
fn a_pool_has_buffers_of_some_size() {
    for (size, count) in [(0, 1), (1, 0)] {
        assert_says(
            &refusal(Pool::new(size, count)),
            &["pool: needs at least one buffer of at least one byte"],
        );
    }
    assert_says(&refusal(Pool::with_reserve(u32::MAX, u32::MAX, 1)), &["pool", "beyond this machine"]);
}

#[test]
fn the_same_pool_registered_twice_is_taken() {
    let pool = Pool::new(4096, 4).unwrap();
    taken(|builder| builder.pool(&pool).pool(&pool));
}
