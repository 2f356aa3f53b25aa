//! Connecting that fails, hangs, or comes too late: only its caller waits.

use std::thread;
use std::time::Duration;

use mpio::path::Fault;
use mpio::{Cause, Error, Health};

use crate::rig::{BOUND, Pair, Rig, assert_goes, assert_says, builder, rank, refusal};
use crate::script::{Act, Answer, Gate, Place, Script, medium};
use crate::scripted::Scripted;

const LOST: Answer = Answer::Fail(Fault::NotSent(Cause::Disconnected));
const BRIEF: Duration = Duration::from_millis(5);
/// More than a path takes that connects at once, on any machine.
const ENOUGH: Duration = Duration::from_secs(1);

#[test]
fn a_path_that_cannot_connect_is_refused_with_its_own_reason() {
    for place in [Place::Connect, Place::OpenQueue] {
        let script = Script::new("lun", "c", &medium());
        script.always(place, Act::Fail("is on fire; put it out"));
        let text = refusal(builder().path(Scripted::new("only", &script)).build());
        assert_says(&text, &["is on fire; put it out"]);
        assert_goes(&script);
        let pair = Pair::new();
        let script = Script::new("lun", "c", &medium());
        script.always(place, Act::Fail("is on fire; put it out"));
        assert_says(&refusal(pair.rig.volume.add_path(Scripted::new("third", &script))), &["is on fire"]);
        assert_goes(&script);
        pair.finish();
    }
}

#[test]
fn a_failure_of_one_path_lets_go_of_all() {
    let medium = medium();
    let good = Script::new("lun", "a", &medium);
    let bad = Script::new("lun", "b", &medium);
    bad.always(Place::Connect, Act::Fail("is missing"));
    let both = builder().path(Scripted::new("good", &good)).path(Scripted::new("bad", &bad));
    refusal(both.minimum_paths(2).build());
    assert_goes(&good);
    assert_goes(&bad);
    assert_eq!(good.calls(Place::Connect), 1);
}

#[test]
fn building_gives_up_on_a_path_that_hangs_and_lets_go_of_the_others() {
    let medium = medium();
    let (good, stuck) = (Script::new("lun", "a", &medium), Script::new("lun", "b", &medium));
    let gate = Gate::default();
    stuck.always(Place::Connect, Act::Wait(gate.clone()));
    // The first that is late is named: the good one may be too.
    let both = builder().path(Scripted::new("stuck", &stuck)).path(Scripted::new("good", &good));
    let text = refusal(both.minimum_paths(2).connect_timeout(BRIEF).build());
    assert_says(&text, &["stuck: did not connect within 5 ms", "see what it waits for", "connect_timeout"]);
    assert_goes(&good);
    assert_eq!(stuck.calls(Place::DropPath), 0, "its code has not returned");
    gate.open();
    assert_goes(&stuck);
}

#[test]
fn a_volume_starts_with_the_paths_that_work_and_the_others_come_up_when_they_can() {
    let medium = medium();
    let [good, dead, stuck] = ["a", "b", "c"].map(|node| Script::new("lun", node, &medium));
    dead.always(Place::Connect, Act::Fail("has no cable"));
    let gate = Gate::default();
    stuck.once(Place::Connect, Act::Wait(gate.clone()));
    let paths = builder()
        .path(Scripted::new("dead", &dead))
        .path(Scripted::new("stuck", &stuck))
        .path(Scripted::new("good", &good));
    let mut rig = Rig::new(paths.start_timeout(BRIEF));
    let health: Vec<Health> = rig.volume.status().paths.iter().map(|path| path.health).collect();
    assert_eq!(health, [Health::Down, Health::Down, Health::Up]);
    rig.serves();
    rig.event(&["dead", "down: scripted: has no cable"]);
    gate.open();
    rig.event(&["stuck", "up again"]);
    dead.well(Place::Connect);
    rig.event(&["dead", "up again"]);
    rig.serves();
    rig.finish(&[&good, &dead, &stuck]);
}

#[test]
fn a_path_that_must_not_be_used_is_refused_though_others_work() {
    let medium = medium();
    let (good, taken) = (Script::new("lun", "a", &medium), Script::new("lun", "b", &medium));
    taken.always(Place::Connect, Act::Refuse("is mounted"));
    let both = builder().path(Scripted::new("good", &good)).path(Scripted::new("taken", &taken));
    assert_says(&refusal(both.build()), &["is mounted"]);
    assert_goes(&good);
    assert_goes(&taken);
}

#[test]
fn more_paths_are_not_awaited_than_there_are() {
    for (minimum, paths) in [(0, 1), (2, 1)] {
        let script = Script::new("lun", "a", &medium());
        let text = refusal(builder().path(Scripted::new("only", &script)).minimum_paths(minimum).build());
        assert_says(&text, &["minimum_paths", &format!("between 1 and the number of paths, {paths}")]);
    }
}

#[test]
fn a_path_that_comes_late_and_leads_elsewhere_is_never_used() {
    let good = Script::new("lun", "a", &medium());
    let other = Script::new("another", "b", &medium());
    other.once(Place::Connect, Act::Fail("has no cable"));
    let paths = builder().path(Scripted::new("good", &good)).path(Scripted::new("other", &other));
    let mut rig = Rig::new(paths);
    rig.event(&["other", "down", "leads to another device"]);
    rig.serves();
    assert_eq!(rig.volume.status().paths[1].completed(), 0);
    rig.finish(&[&good, &other]);
}

#[test]
fn adding_gives_up_on_a_path_that_hangs() {
    let medium = medium();
    let (good, stuck) = (Script::new("lun", "a", &medium), Script::new("lun", "b", &medium));
    let mut rig = Rig::new(builder().connect_timeout(ENOUGH).path(Scripted::new("good", &good)));
    let gate = Gate::default();
    stuck.always(Place::OpenQueue, Act::Wait(gate.clone()));
    let text = refusal(rig.volume.add_path(Scripted::new("stuck", &stuck)));
    assert_says(&text, &["stuck: did not connect within 1000 ms"]);
    rig.serves();
    gate.open();
    assert_goes(&stuck);
    rig.finish(&[&good]);
}

#[test]
fn while_one_caller_waits_for_a_path_others_add_remove_and_use_theirs() {
    let mut pair = Pair::new();
    let gate = Gate::default();
    let slow = Script::new("lun", "c", &pair.bad.state().medium);
    slow.once(Place::Connect, Act::Wait(gate.clone()));
    let (volume, path) = (pair.rig.volume.clone(), Scripted::new("slow", &slow));
    let caller = thread::spawn(move || volume.add_path_with(rank(2), path));
    gate.arrival();
    pair.rig.serves();
    let quick = Script::new("lun", "d", &pair.bad.state().medium);
    let added = pair.rig.volume.add_path_with(rank(0), Scripted::new("quick", &quick)).unwrap();
    pair.rig.serves();
    let settled = pair.rig.volume.remove_path(added).unwrap();
    pair.rig.until("removal", |_| settled.is_settled().then_some(()));
    assert_eq!(pair.rig.volume.status().paths.len(), 2);
    gate.open();
    caller.join().unwrap().unwrap();
    assert_eq!(pair.rig.volume.status().paths.len(), 3);
    pair.finish();
}

#[test]
fn connecting_anew_may_take_long_while_another_path_serves() {
    let mut pair = Pair::new();
    let gate = Gate::default();
    pair.bad.once(Place::Connect, Act::Wait(gate.clone()));
    pair.bad.answer(LOST);
    pair.rig.serves();
    pair.rig.event(&["bad", "down: connection lost"]);
    gate.arrival();
    pair.rig.serves();
    gate.open();
    pair.rig.event(&["bad", "up again"]);
    pair.finish();
}

#[test]
fn a_path_that_hangs_on_connecting_anew_is_gone_only_when_its_code_returns() {
    let mut pair = Pair::new();
    let gate = Gate::default();
    pair.bad.once(Place::Connect, Act::Wait(gate.clone()));
    pair.bad.answer(LOST);
    pair.rig.serves();
    gate.arrival();
    let bad = pair.rig.volume.status().paths[0].id;
    let settled = pair.rig.volume.remove_path(bad).unwrap();
    pair.rig.event(&["bad", "is being removed"]);
    pair.rig.serves();
    assert!(!settled.is_settled());
    gate.open();
    assert!(settled.wait(BOUND));
    pair.finish();
}

#[test]
fn each_reason_for_staying_down_is_told_once() {
    let mut pair = Pair::new();
    pair.bad.always(Place::Connect, Act::Fail("has no cable; plug it in"));
    pair.bad.answer(LOST);
    pair.rig.serves();
    pair.rig.event(&["bad", "down: scripted: has no cable; plug it in"]);
    pair.rig.forget_events();
    let before = pair.bad.calls(Place::Connect);
    pair.rig.until("more tries", |_| (pair.bad.calls(Place::Connect) > before + 1).then_some(()));
    assert!(!pair.rig.was_told("no cable"));
    pair.bad.always(Place::Connect, Act::Panic);
    pair.rig.event(&["bad", "down: its code panicked on connecting"]);
    pair.bad.well(Place::Connect);
    pair.rig.event(&["bad", "up again"]);
    pair.finish();
}

#[test]
fn a_path_that_never_answers_a_probe_goes_down_and_the_other_serves() {
    let mut pair = Pair::new();
    pair.bad.once(Place::Probe, Act::Silence);
    pair.bad.answer(Answer::Fail(Fault::Unknown { cause: Cause::Timeout, fence: None }));
    pair.rig.read(0, 1);
    pair.rig.event(&["bad", "down: no answer to a probe within"]);
    pair.rig.serves();
    pair.finish();
}

#[test]
fn a_probe_that_blocks_holds_up_nothing_else() {
    let mut pair = Pair::new();
    let gate = Gate::default();
    pair.bad.once(Place::Probe, Act::Wait(gate.clone()));
    pair.bad.answer(Answer::Fail(Fault::Unknown { cause: Cause::Timeout, fence: None }));
    pair.rig.read(0, 1);
    pair.rig.event(&["bad", "no answer to a probe"]);
    pair.rig.serves();
    gate.open();
    pair.rig.event(&["bad", "up again"]);
    pair.finish();
}

#[test]
fn a_closed_volume_takes_no_path() {
    let pair = Pair::new();
    let volume = pair.rig.volume.clone();
    let settled = volume.close(Duration::from_secs(10));
    let late = Script::new("lun", "c", &medium());
    let error = volume.add_path(Scripted::new("late", &late)).unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    assert_goes(&late);
    drop(pair.rig.queue);
    assert!(settled.wait(BOUND));
    let later = Script::new("lun", "d", &medium());
    let error = volume.add_path(Scripted::new("later", &later)).unwrap_err();
    assert_says(&error.to_string(), &["the volume is closed"]);
    assert_eq!((later.calls(Place::Connect), later.calls(Place::DropPath)), (0, 1));
}

#[test]
fn a_path_that_is_still_connecting_when_the_volume_closes_is_let_go() {
    let pair = Pair::new();
    let gate = Gate::default();
    let slow = Script::new("lun", "c", &medium());
    slow.once(Place::Connect, Act::Wait(gate.clone()));
    let (volume, path) = (pair.rig.volume.clone(), Scripted::new("slow", &slow));
    let caller = thread::spawn(move || volume.add_path(path));
    gate.arrival();
    let volume = pair.rig.volume.clone();
    pair.finish();
    gate.open();
    let error = caller.join().unwrap().unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    assert_goes(&slow);
    drop(volume);
}
