//! Writes that were completed (given up) while they could still take effect.
//!
//! A ghost bars every later write to its extent, on every queue, until it is known that it cannot land any more.
//!
//! *Order.* The queue that gives a write up publishes its ghost before it delivers the completion. Whoever submits an
//! overlapping write because of that completion does so after it, so the queue that takes the later write, looking
//! after it took the write, finds the ghost: the publication happens before the look, by way of the caller's own
//! hand-over, and a load cannot return what was there before a store that happens before it.

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use crate::block::Extent;
use crate::io::PathId;
use crate::path::{AttemptId, Incarnation, QueueIndex};

/// A write that may still land.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ghost {
    pub(crate) extent: Extent,
    pub(crate) path: PathId,
    pub(crate) incarnation: Incarnation,
    pub(crate) queue: QueueIndex,
    /// The attempt, while its path may still answer; `None` where only a fence can tell.
    pub(crate) attempt: Option<AttemptId>,
    /// The request of its queue that was sent again with the same data: its ghost does not bar it.
    pub(crate) resent: Option<Resent>,
}

/// Names a request of a queue that was sent again before its first attempt was fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resent {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// Whether ghosts were removed: what they barred can go on, if it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retired {
    None,
    Some,
}

/// A write that is late and has not ended. What overlaps it and is submitted now waits for its end, so that the later of two
/// writes is what stays, although whoever submits the second before the first has ended could not ask for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LateWrite {
    pub(crate) extent: Extent,
    pub(crate) queue: QueueIndex,
    pub(crate) request: Resent,
}

/// All of a volume's ghosts and late writes: hardly ever any.
#[derive(Debug, Default)]
pub(crate) struct Ghosts {
    list: Arc<ArcSwap<GhostList>>,
}

/// The ghosts and late writes as they were at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct GhostList {
    pub(crate) ghosts: Vec<Ghost>,
    pub(crate) late: Vec<LateWrite>,
}

impl GhostList {
    pub(crate) fn is_empty(&self) -> bool {
        self.ghosts.is_empty() && self.late.is_empty()
    }
}

/// A queue's view of the ghosts.
pub(crate) type GhostWatch = Cache<Arc<ArcSwap<GhostList>>, Arc<GhostList>>;

impl Ghosts {
    /// A queue's own way to look: one relaxed load where nothing changed.
    pub(crate) fn watch(&self) -> GhostWatch {
        Cache::new(Arc::clone(&self.list))
    }

    /// Makes ghosts and late writes known to every queue, at once: each publication copies all there are.
    pub(crate) fn publish(&self, ghosts: &mut Vec<Ghost>, late: &mut Vec<LateWrite>) {
        if ghosts.is_empty() && late.is_empty() {
            return;
        }
        self.list.rcu(|list| GhostList {
            ghosts: [list.ghosts.as_slice(), ghosts.as_slice()].concat(),
            late: [list.late.as_slice(), late.as_slice()].concat(),
        });
        ghosts.clear();
        late.clear();
    }

    /// Removes those that `settled` says cannot land any more; whether there were any. Whoever does it has every queue
    /// look again.
    pub(crate) fn retire(&self, settled: impl Fn(&Ghost) -> bool) -> Retired {
        if !self.list.load().ghosts.iter().any(&settled) {
            return Retired::None;
        }
        self.list.rcu(|list| {
            let mut list = GhostList::clone(list);
            list.ghosts.retain(|ghost| !settled(ghost));
            list
        });
        Retired::Some
    }

    /// Removes late writes of a queue that have ended. Whoever does it has every queue look again.
    pub(crate) fn ended(&self, queue: QueueIndex, requests: &[Resent]) {
        self.list.rcu(|list| {
            let mut list = GhostList::clone(list);
            list.late.retain(|late| late.queue != queue || !requests.contains(&late.request));
            list
        });
    }

    /// The last connection of a path that has any.
    pub(crate) fn through(&self, path: PathId) -> Incarnation {
        let list = self.list.load();
        let of_path = list.ghosts.iter().filter(|ghost| ghost.path == path);
        of_path.map(|ghost| ghost.incarnation).max().unwrap_or(Incarnation::NONE)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.list.load().ghosts.len()
    }
}
