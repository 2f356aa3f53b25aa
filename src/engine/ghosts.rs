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
}

/// Whether ghosts were removed: what they barred can go on, if it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retired {
    None,
    Some,
}

/// All of a volume's ghosts: hardly ever any.
#[derive(Debug, Default)]
pub(crate) struct Ghosts {
    list: Arc<ArcSwap<GhostList>>,
}

/// The ghosts as they were at one moment.
pub(crate) type GhostList = Vec<Ghost>;

/// A queue's view of the ghosts.
pub(crate) type GhostWatch = Cache<Arc<ArcSwap<GhostList>>, Arc<GhostList>>;

impl Ghosts {
    /// A queue's own way to look: one relaxed load where nothing changed.
    pub(crate) fn watch(&self) -> GhostWatch {
        Cache::new(Arc::clone(&self.list))
    }

    /// Makes a ghost known to every queue.
    pub(crate) fn publish(&self, ghost: Ghost) {
        self.list.rcu(|list| {
            let mut list = GhostList::clone(list);
            list.push(ghost);
            list
        });
    }

    /// Removes those that `settled` says cannot land any more; whether there were any. Whoever does it has every queue
    /// look again.
    pub(crate) fn retire(&self, settled: impl Fn(&Ghost) -> bool) -> Retired {
        if !self.list.load().iter().any(&settled) {
            return Retired::None;
        }
        self.list.rcu(|list| {
            let mut list = GhostList::clone(list);
            list.retain(|ghost| !settled(ghost));
            list
        });
        Retired::Some
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.list.load().len()
    }
}
