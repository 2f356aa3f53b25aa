//! What happened to each path, also to those that are gone.

use std::collections::BTreeMap;

use mpio::{PathId, PathStatus, Status, Tick};

#[derive(Default)]
pub(crate) struct History {
    paths: BTreeMap<PathId, Chapter>,
}

/// One path.
#[derive(Default)]
pub(crate) struct Chapter {
    /// As it last stood.
    pub(crate) status: Option<PathStatus>,
    /// What changed, when and why.
    pub(crate) changes: Vec<(Tick, String)>,
}

impl History {
    /// How the paths stand: one that leaves is not in it any more, and keeps the numbers that it had.
    pub(crate) fn stand(&mut self, status: Status) {
        for path in status.paths {
            let id = path.id;
            self.paths.entry(id).or_default().status = Some(path);
        }
    }

    pub(crate) fn change(&mut self, path: PathId, at: Tick, what: String) {
        self.paths.entry(path).or_default().changes.push((at, what));
    }

    /// In the order in which they joined.
    pub(crate) fn chapters(&self) -> impl Iterator<Item = &Chapter> {
        self.paths.values()
    }
}
