//! Fences that are put off: to fence a connection is to end it, and what is late may still be answered.

use std::sync::Arc;

use crate::io::PathId;
use crate::path::{AttemptId, Incarnation};
use crate::time::Tick;

use super::routes::bit;
use super::{Engine, Evidence, Ghost};

/// A connection whose fence is put off: to fence it is to end it, and it may still answer by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unasked {
    path: PathId,
    incarnation: Incarnation,
    /// Since when: the first scan that finds it.
    since: Option<Tick>,
}

impl Engine {
    /// Has a connection fenced; where its path may still answer, after a while.
    pub(super) fn ask_fence(&mut self, path: PathId, incarnation: Incarnation, attempt: Option<AttemptId>) {
        if attempt.is_some() {
            return self.put_off(path, incarnation);
        }
        self.evidence.push(Evidence::Unfenced { path, incarnation });
    }

    pub(super) fn put_off(&mut self, path: PathId, incarnation: Incarnation) {
        let is_it = |unasked: &Unasked| unasked.path == path && unasked.incarnation == incarnation;
        if !self.unasked.iter().any(is_it) {
            self.unasked.push(Unasked { path, incarnation, since: None });
            // At the next occasion.
            self.scan_by(self.last_scan);
        }
    }

    /// Asks for the fences that were put off and that ghosts still wait for: when the path is in trouble or has had its time, if
    /// there is a better way. If there is none, the attempt itself counts as lost in the end.
    pub(super) fn ask_put_off(&mut self, now: Tick) {
        let ghosts = Arc::clone(self.ghosts.load());
        for mut unasked in std::mem::take(&mut self.unasked) {
            let Unasked { path, incarnation, .. } = unasked;
            let age = now.since(*unasked.since.get_or_insert(now));
            let waits = |ghost: &Ghost| ghost.path == path && ghost.incarnation == incarnation;
            if !ghosts.ghosts.iter().chain(&self.haunts).any(waits) {
                continue;
            }
            let patience = self.config.suspect_after;
            let is_due = age >= patience || !self.is_well(path, incarnation);
            if self.is_fenced(path, incarnation) || is_due && self.has_better(path, incarnation) {
                self.evidence.push(Evidence::Unfenced { path, incarnation });
            } else {
                self.unasked.push(unasked);
            }
        }
    }

    /// Whether the supervisor has a fence of this connection already: it lays what comes late as well.
    fn is_fenced(&self, path: PathId, incarnation: Incarnation) -> bool {
        let slot = path.slot();
        self.routes.id(slot) == path && incarnation <= self.routes.standing(slot).fenced
    }

    /// Whether this is a path's present connection, and the path is up.
    fn is_well(&self, path: PathId, incarnation: Incarnation) -> bool {
        self.routes.up() & self.way(path, incarnation) != 0
    }

    pub(super) fn is_present(&self, path: PathId, incarnation: Incarnation) -> bool {
        let slot = path.slot();
        self.routes.id(slot) == path && self.routes.standing(slot).incarnation == incarnation
    }

    /// Whether there is a trusted way other than this connection.
    fn has_better(&self, path: PathId, incarnation: Incarnation) -> bool {
        self.routes.trusted() & !self.way(path, incarnation) != 0
    }

    /// A connection as a way for requests: none if it is over, since a later one of the same path is another way.
    pub(super) fn way(&self, path: PathId, incarnation: Incarnation) -> u64 {
        if self.is_present(path, incarnation) { bit(path.slot()) } else { 0 }
    }
}
