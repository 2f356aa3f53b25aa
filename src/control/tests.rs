//! The supervisor by itself: what comes in decides what goes out.

use std::sync::Arc;
use std::time::Duration;

use super::supervisor::{Action, Config, Supervisor};
use super::{EventKind, Promise, Terms};
use crate::block::{Geometry, Limits};
use crate::engine::{Common, Evidence, Health, NoPath};
use crate::error::Error;
use crate::io::PathId;
use crate::path::{
    ControlReport, Description, FenceSupport, IdentifierKind, Identity, Incarnation, News, QueueIndex,
};
use crate::policy::RoundRobin;
use crate::time::Tick;

const MILLI: Duration = Duration::from_millis(1);
const FIRST: Incarnation = Incarnation::NONE.next();

fn geometry(blocks: u64) -> Geometry {
    Geometry::new(512, blocks).unwrap()
}

fn description(value: &str) -> Description {
    let identity = Identity::none().with(IdentifierKind::ScsiNaa, value);
    let mut description = Description::new(identity, geometry(64), Limits::new(4096));
    description.fence = FenceSupport::Proven;
    description
}

/// A volume of one path and one queue.
fn volume() -> (Supervisor, PathId) {
    let config = Config {
        queues: 1,
        promise: Promise { geometry: geometry(64), limits: Limits::new(4096) },
        probe_interval: MILLI * 10,
        probe_timeout: MILLI * 10,
        check_interval: MILLI * 10_000,
    };
    let make = Arc::new(RoundRobin::default());
    let mut supervisor = Supervisor::new(config, NoPath::Fail, make, Arc::new(Common::new(1, geometry(64))));
    let path = supervisor.join(at(0), "a".to_owned(), Terms::default(), description("6001")).unwrap();
    let _ = supervisor.take_snapshot();
    (supervisor, path)
}

fn at(millis: u64) -> Tick {
    Tick::from_nanos(millis * 1_000_000)
}

fn actions(supervisor: &mut Supervisor) -> Vec<Action> {
    std::iter::from_fn(|| supervisor.take_action()).collect()
}

/// The connection that the supervisor asks for by `now`.
fn asked_to_connect(supervisor: &mut Supervisor, now: Tick) -> Incarnation {
    supervisor.advance(now);
    let asked = actions(supervisor).into_iter().find_map(|action| match action {
        Action::Connect { incarnation, .. } => Some(incarnation),
        _ => None,
    });
    asked.expect("a connection is asked for")
}

fn health(supervisor: &Supervisor) -> Health {
    supervisor.roster().next().unwrap().health
}

fn probed(supervisor: &mut Supervisor, now: Tick, path: PathId, incarnation: Incarnation) {
    supervisor.report(now, &ControlReport { path, incarnation, news: News::Probed(Ok(())) });
}

#[test]
fn a_path_that_leads_to_another_device_after_a_reconnect_is_not_admitted() {
    let (mut supervisor, path) = volume();
    let lost = Evidence::Unusable { path, incarnation: FIRST, reason: "gone".to_owned() };
    supervisor.evidence(at(1), QueueIndex(0), lost);
    let second = asked_to_connect(&mut supervisor, at(20));
    assert!(!supervisor.connected(at(21), path, second, Ok(description("6002"))));
    assert_eq!(health(&supervisor), Health::Down);
    let again = asked_to_connect(&mut supervisor, at(60));
    assert!(supervisor.connected(at(61), path, again, Ok(description("6001"))));
}

#[test]
fn a_path_that_has_lost_its_identifiers_after_a_reconnect_is_not_admitted() {
    let (mut supervisor, path) = volume();
    let lost = Evidence::Unusable { path, incarnation: FIRST, reason: "gone".to_owned() };
    supervisor.evidence(at(1), QueueIndex(0), lost);
    let second = asked_to_connect(&mut supervisor, at(20));
    let mut nameless = description("6001");
    nameless.identity = Identity::none();
    assert!(!supervisor.connected(at(21), path, second, Ok(nameless)));
}

#[test]
fn a_path_that_has_shrunk_comes_back_only_when_it_is_large_enough_again() {
    let (mut supervisor, path) = volume();
    supervisor.evidence(
        at(1),
        QueueIndex(0),
        Evidence::Failed { path, admission: 1, cause: crate::error::Cause::Timeout },
    );
    assert_eq!(actions(&mut supervisor), [Action::Probe { path, incarnation: FIRST }]);
    // A device that answers a probe well, and says that it has shrunk.
    let news = News::Capacity(32);
    supervisor.report(at(2), &ControlReport { path, incarnation: FIRST, news });
    probed(&mut supervisor, at(2), path, FIRST);
    assert_eq!(health(&supervisor), Health::Down);
    let second = asked_to_connect(&mut supervisor, at(20));
    let mut small = description("6001");
    small.geometry = geometry(32);
    assert!(!supervisor.connected(at(21), path, second, Ok(small)));
    let again = asked_to_connect(&mut supervisor, at(60));
    assert!(supervisor.connected(at(61), path, again, Ok(description("6001"))));
    probed(&mut supervisor, at(62), path, again);
    assert_eq!(health(&supervisor), Health::Up);
}

#[test]
fn a_queue_that_cannot_use_a_connection_gets_another() {
    let (mut supervisor, path) = volume();
    let failed = || Evidence::Unusable { path, incarnation: FIRST, reason: "its code panicked".to_owned() };
    supervisor.evidence(at(1), QueueIndex(0), failed());
    // A second queue says so of the same connection.
    supervisor.evidence(at(1), QueueIndex(0), failed());
    assert!(asked_to_connect(&mut supervisor, at(20)) == FIRST.next());
}

#[test]
fn a_lost_connection_is_given_up_whatever_was_said_of_the_path_meanwhile() {
    let (mut supervisor, path) = volume();
    supervisor.evidence(
        at(1),
        QueueIndex(0),
        Evidence::Failed { path, admission: 1, cause: crate::error::Cause::Timeout },
    );
    probed(&mut supervisor, at(2), path, FIRST);
    assert_eq!(health(&supervisor), Health::Up);
    let cause = crate::error::Cause::NotConnected;
    supervisor.evidence(at(3), QueueIndex(0), Evidence::NotConnected { path, incarnation: FIRST, cause });
    assert_eq!(asked_to_connect(&mut supervisor, at(13)), FIRST.next());
}

#[test]
fn a_fence_is_asked_for_once_and_covers_what_it_was_asked_for() {
    let (mut supervisor, path) = volume();
    let unfenced = || Evidence::Unfenced { path, incarnation: FIRST };
    supervisor.evidence(at(1), QueueIndex(0), unfenced());
    supervisor.evidence(at(1), QueueIndex(0), unfenced());
    let asked: Vec<Action> = actions(&mut supervisor);
    assert_eq!(
        asked,
        [Action::Fence { path, through: FIRST }, Action::Connect { path, incarnation: FIRST.next() }]
    );
    let news = News::Fenced { through: FIRST.next(), grade: crate::path::FenceGrade::Proven };
    supervisor.report(at(2), &ControlReport { path, incarnation: FIRST, news });
    let snapshot = supervisor.take_snapshot().unwrap();
    assert_eq!(snapshot.route(path).unwrap().fenced, FIRST, "more was not asked for");
    assert!(supervisor.take_events().iter().any(|event| matches!(event.kind, EventKind::Fenced(_))));
}

#[test]
fn a_path_whose_fence_can_be_had_only_after_a_reconnect_is_fenced_then() {
    let (mut supervisor, path) = volume();
    let mut poor = description("6001");
    poor.fence = FenceSupport::None;
    let lost = Evidence::Unusable { path, incarnation: FIRST, reason: "gone".to_owned() };
    supervisor.evidence(at(1), QueueIndex(0), lost);
    let second = asked_to_connect(&mut supervisor, at(20));
    assert!(supervisor.connected(at(21), path, second, Ok(poor)));
    supervisor.evidence(at(22), QueueIndex(0), Evidence::Unfenced { path, incarnation: second });
    actions(&mut supervisor);
    let lost = Evidence::Unusable { path, incarnation: second, reason: "gone".to_owned() };
    supervisor.evidence(at(23), QueueIndex(0), lost);
    let third = asked_to_connect(&mut supervisor, at(200));
    assert!(supervisor.connected(at(201), path, third, Ok(description("6001"))));
    assert!(actions(&mut supervisor).contains(&Action::Fence { path, through: second }));
}

#[test]
fn a_join_is_refused_for_another_device() {
    let (mut supervisor, _) = volume();
    let joined: Result<_, Error> =
        supervisor.join(at(1), "b".to_owned(), Terms::default(), description("6002"));
    assert!(joined.is_err());
}

#[test]
fn a_volume_grows_to_what_its_smallest_path_has_and_names_the_one_that_has_not_grown() {
    let (mut supervisor, first) = volume();
    let other = description("6001");
    let second = supervisor.join(at(0), "b".to_owned(), Terms::default(), other).unwrap();
    let tell = |supervisor: &mut Supervisor, path, blocks| {
        let news = News::Capacity(blocks);
        supervisor.report(at(1), &ControlReport { path, incarnation: FIRST, news });
    };
    assert_eq!(supervisor.grow(at(1)).unwrap(), geometry(64));
    tell(&mut supervisor, first, 128);
    let refusal = supervisor.grow(at(1)).unwrap_err().to_string();
    assert!(refusal.starts_with("b: still has 64 blocks, another path has 128"), "{refusal}");
    tell(&mut supervisor, second, 96);
    assert_eq!(supervisor.grow(at(1)).unwrap(), geometry(96));
    assert!(supervisor.take_events().iter().any(|event| event.kind == EventKind::Grown(96)));
    assert_eq!(supervisor.common.geometry.get(), geometry(96));
    // From now on that is what a path must have.
    tell(&mut supervisor, first, 64);
    let down =
        |supervisor: &Supervisor| supervisor.roster().filter(|path| path.health == Health::Down).count();
    assert_eq!(down(&supervisor), 1);
    // It never gets smaller by itself.
    assert!(supervisor.grow(at(2)).is_ok_and(|present| present == geometry(96)));
}
