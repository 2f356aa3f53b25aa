//! What a path says when it connects, and when it is asked how it is.

use crossbeam::channel::unbounded;

use crate::block::BlockCount;
use crate::buffer::ALIGNMENT;
use crate::io::PathId;
use crate::path::{ControlReport, ControlSink, Incarnation, News, Path};

use super::rig::{BOUND, Rig, extent};

const FIRST: Incarnation = Incarnation::NONE.next();

/// Its name, depth and limits are such that a volume can use them, and its blocks and size go together.
pub fn says_what_can_be_used<P: Path>(ways: &impl Fn(usize) -> Option<P>) {
    let Some(mut path) = ways(0) else { return };
    let before = path.name();
    let description = path.connect(FIRST).unwrap();
    assert!(
        !before.trim().is_empty() && path.name() == before,
        "a name that stays: {before:?}, {:?}",
        path.name()
    );
    assert!(description.depth > 0, "takes no attempts at all");
    let (geometry, limits) = (description.geometry, description.limits);
    assert!(limits.transfer_bytes >= geometry.block_size(), "takes less than a block in a transfer");
    let alignment = limits.memory_alignment;
    assert!(
        alignment.is_power_of_two() && alignment <= ALIGNMENT,
        "needs memory at multiples of {alignment}"
    );
    for identifier in description.identity.identifiers() {
        assert!(!identifier.value.is_empty(), "an identifier that says nothing: {identifier:?}");
    }
    assert_ne!(description.identity.node(), Some(""), "a node without a name");
}

/// To connect again changes nothing, whatever was open before.
pub fn says_the_same_when_it_connects_again<P: Path>(ways: &impl Fn(usize) -> Option<P>) {
    let Some(mut path) = ways(0) else { return };
    let first = path.connect(FIRST).unwrap();
    assert_eq!(path.connect(FIRST.next()).unwrap(), first);
    let queues: Vec<_> = (0..3).map(|queue| path.open_queue(crate::io::QueueIndex(queue)).unwrap()).collect();
    assert_eq!(path.connect(FIRST.next().next()).unwrap(), first);
    drop(queues);
    assert_eq!(path.connect(FIRST.next().next().next()).unwrap(), first);
}

/// A path that works says so when it is probed, each time.
pub fn answers_a_probe<P: Path>(ways: &impl Fn(usize) -> Option<P>) {
    let Some(mut path) = ways(0) else { return };
    path.connect(FIRST).unwrap();
    let (sender, reports) = unbounded();
    for _ in 0..3 {
        let sender = sender.clone();
        path.probe(ControlSink::new(PathId::new(0, 0), FIRST, move |report: ControlReport| {
            let _ = sender.send(report.news);
        }));
        let answer = loop {
            // It may have other news first.
            if let News::Probed(answer) = reports.recv_timeout(BOUND).expect("the probe was answered") {
                break answer;
            }
        };
        answer.expect("the path works");
    }
}

/// When the connection is lost a new one takes its place; the volume's content is what it was.
pub fn goes_on_over_a_new_connection<P: Path>(ways: &impl Fn(usize) -> Option<P>) {
    let Some(path) = ways(0) else { return };
    let mut rig = Rig::new(path);
    let blocks = BlockCount::new(rig.most_blocks().min(8)).get();
    for round in 1..=4 {
        rig.write(extent(0, blocks), round);
        rig.watch.lose_connection();
        rig.check(extent(0, blocks), round);
        let connections = rig.watch.seen().connections;
        assert!(u64::from(connections) > round, "{connections} connections");
    }
    rig.finish();
}
