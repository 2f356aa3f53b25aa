//! Which paths this queue may use: the supervisor's view, less what the queue itself holds against them.
//!
//! Sets of paths are bits by slot.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::io::PathId;
use crate::path::{AccessState, Incarnation};
use crate::policy::{Candidate, MAX_PATHS};
use crate::time::Tick;

use super::pace::Pace;
use super::request::AttemptSlot;
use super::snapshot::{Health, Route};

/// One bit.
pub(super) const fn bit(slot: usize) -> u64 {
    1 << slot
}

/// The slots of a set, ascending.
pub(super) fn slots(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let slot = set.trailing_zeros() as usize;
        if set == 0 {
            return None;
        }
        set &= set - 1;
        Some(slot)
    })
}

/// What the queue knows of one path beyond its [`Candidate`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) incarnation: Incarnation,
    pub(super) admission: u32,
    pub(super) fenced: Incarnation,
    pub(super) scope: Option<u8>,
    /// Caches that a flush over it covers.
    pub(super) covers: u64,
    /// Until when the path asked to be left alone.
    rests_until: Tick,
    /// Since when it has declined every attempt; `Tick::MAX` if the last was taken.
    declined_since: Tick,
    /// Attempts over its present connection that are late, or that nobody waits for.
    stale: u32,
    /// Attempts that it holds over earlier connections.
    earlier: u32,
    /// Attempts that it takes.
    depth: u32,
    /// Attempts that it is given until it has proved itself: one after its return, twice as many with each that succeeds.
    trial: u32,
}

/// The path has proved itself.
const NO_TRIAL: u32 = u32::MAX;

/// Attempts over earlier connections that take no room from the present one, in depths of the path. What is beyond that does: so
/// a path that falls silent again and again holds a bounded amount of memory.
const MOST_EARLIER: u32 = 3;

#[derive(Debug)]
pub(super) struct Routes {
    pub(super) table: Box<[Candidate; MAX_PATHS]>,
    standing: Box<[Standing; MAX_PATHS]>,
    /// Slots that have a path.
    known: u64,
    /// The queue holds a path queue of the present connection.
    open: u64,
    up: u64,
    suspect: u64,
    optimized: u64,
    non_optimized: u64,
    /// Those that the array wants used before others of their access state.
    preferred: u64,
    leaving: u64,
    /// Failed here since it was last admitted: used only where nothing better is left.
    distrusted: u64,
    /// Not connected as far as this queue can tell: not used before there is a new connection.
    broken: u64,
    /// Asked to be left alone for a while.
    resting: u64,
    /// As many attempts out as it takes.
    full: u64,
    /// Half of their room is held by attempts that are late or that nobody waits for: not used where another path can be.
    clogged: u64,
    /// Let go of by this queue; others may still use it.
    gone: u64,
    late_after: Duration,
    paces: Box<[Pace; MAX_PATHS]>,
    /// Members of each cache.
    scopes: Box<[u64; MAX_PATHS]>,
    /// The best usable paths, whether or not they have room.
    best: u64,
}

impl Routes {
    /// Nothing is late before `late_after`.
    pub(super) fn new(late_after: Duration) -> Self {
        let standing = Standing {
            incarnation: Incarnation::NONE,
            admission: 0,
            fenced: Incarnation::NONE,
            scope: None,
            covers: 0,
            rests_until: Tick::ZERO,
            declined_since: Tick::MAX,
            stale: 0,
            earlier: 0,
            depth: 0,
            trial: NO_TRIAL,
        };
        let nobody = Candidate::new(PathId::new(0, u32::MAX), 0);
        Self {
            table: Box::new([nobody; MAX_PATHS]),
            standing: Box::new([standing; MAX_PATHS]),
            known: 0,
            open: 0,
            up: 0,
            suspect: 0,
            optimized: 0,
            non_optimized: 0,
            preferred: 0,
            leaving: 0,
            distrusted: 0,
            broken: 0,
            resting: 0,
            full: 0,
            clogged: 0,
            gone: 0,
            late_after,
            paces: Box::new([Pace::new(late_after); MAX_PATHS]),
            scopes: Box::new([0; MAX_PATHS]),
            best: 0,
        }
    }

    // What may be used.

    /// The best usable paths.
    pub(super) const fn best(&self) -> u64 {
        self.best
    }

    /// The best usable paths within `within`.
    pub(super) fn best_within(&self, within: u64) -> u64 {
        self.tiers(within & !self.leaving)
    }

    /// The best paths for a flush within `within`: one that is being removed must still give up what its cache holds.
    pub(super) fn best_for_flush(&self, within: u64) -> u64 {
        match self.best_within(within) {
            0 => self.tiers(within),
            staying => staying,
        }
    }

    fn tiers(&self, within: u64) -> u64 {
        let base = self.open & !self.broken & within;
        let trusted = base & self.up & !self.distrusted;
        let last_resort = base & (self.up | self.suspect);
        let free = !self.clogged;
        [trusted & free, base & self.up & free, trusted, last_resort & free, last_resort]
            .into_iter()
            .flat_map(|set| {
                let others = set & self.non_optimized;
                [set & self.optimized, others & self.preferred, others]
            })
            .find(|&set| set != 0)
            .unwrap_or(0)
    }

    /// Paths that nothing is held against: what is late on another is better off here.
    pub(super) const fn trusted(&self) -> u64 {
        self.open
            & self.up
            & (self.optimized | self.non_optimized)
            & !(self.broken | self.distrusted | self.leaving | self.clogged)
    }

    /// Paths that this queue has nothing to hold against.
    pub(super) const fn believed(&self) -> u64 {
        self.open & self.up & !(self.broken | self.distrusted)
    }

    /// Paths that may yet serve: known, not leaving and not known to be dead.
    pub(super) const fn hopeful(&self) -> u64 {
        self.known & !self.leaving & (self.up | self.suspect)
    }

    /// Paths that work, whose connection this queue is about to be able to use.
    pub(super) const fn opening(&self) -> u64 {
        self.up & !self.open & !self.broken & !self.leaving
    }

    /// Those of `set` that can take one more attempt now.
    pub(super) const fn with_room(&self, set: u64) -> u64 {
        set & !self.full & !self.resting
    }

    /// Those that work, as far as the supervisor knows.
    pub(super) const fn up(&self) -> u64 {
        self.up
    }

    pub(super) const fn leaving(&self) -> u64 {
        self.leaving
    }

    pub(super) const fn known(&self) -> u64 {
        self.known
    }

    pub(super) fn id(&self, slot: usize) -> PathId {
        self.table[slot].id
    }

    pub(super) fn standing(&self, slot: usize) -> &Standing {
        &self.standing[slot]
    }

    /// The paths that share cache `scope`.
    pub(super) fn members(&self, scope: usize) -> u64 {
        self.scopes[scope]
    }

    /// The paths that share cache `scope` and that this queue has let go of, while others have not.
    pub(super) fn let_go_of(&self, scope: usize) -> u64 {
        let shares = |&slot: &usize| self.standing[slot].covers & bit(scope) != 0;
        slots(self.gone).filter(shares).fold(0, |set, slot| set | bit(slot))
    }

    /// Caches that have members, in this queue or in another.
    pub(super) fn scopes(&self) -> u64 {
        let gone = slots(self.gone).fold(0, |set, slot| set | self.standing[slot].covers);
        let own = (0..MAX_PATHS).filter(|&scope| self.scopes[scope] != 0);
        own.fold(gone, |set, scope| set | bit(scope))
    }

    // What changes it from within.

    /// One more attempt is out.
    #[inline]
    pub(super) fn placed(&mut self, slot: usize) {
        self.table[slot].in_flight += 1;
        if !self.has_room(slot) {
            self.full |= bit(slot);
        }
    }

    #[inline]
    fn has_room(&self, slot: usize) -> bool {
        let Candidate { in_flight, depth, .. } = self.table[slot];
        in_flight < depth && in_flight.saturating_add(self.excess(slot)) < self.standing[slot].depth
    }

    /// Attempts over earlier connections that take room from the present one.
    #[inline]
    fn excess(&self, slot: usize) -> u32 {
        match self.standing[slot].earlier {
            0 => 0,
            earlier => earlier.saturating_sub(self.standing[slot].depth.saturating_mul(MOST_EARLIER)),
        }
    }

    /// An attempt is late, or nobody waits for it any more.
    pub(super) fn mark_stale(&mut self, attempt: &mut AttemptSlot) {
        let slot = usize::from(attempt.slot);
        let news = !std::mem::replace(&mut attempt.stale, true);
        if news && self.standing[slot].incarnation == attempt.incarnation {
            self.standing[slot].stale += 1;
            self.weigh(slot);
        }
    }

    /// Looks whether stale attempts take too much of a path's room.
    fn weigh(&mut self, slot: usize) {
        let half = |depth: u32| depth.div_ceil(2).max(1);
        let Standing { stale, depth, .. } = self.standing[slot];
        let is_clogged =
            stale >= half(self.table[slot].depth) || stale.saturating_add(self.excess(slot)) >= half(depth);
        if is_clogged != (self.clogged & bit(slot) != 0) {
            set(&mut self.clogged, slot, is_clogged);
            self.refresh();
        }
    }

    /// An attempt there has succeeded: a path that came back is given twice as many from now on.
    #[inline]
    pub(super) fn passed(&mut self, slot: usize) {
        if self.standing[slot].trial != NO_TRIAL {
            self.proved(slot);
        }
    }

    #[cold]
    fn proved(&mut self, slot: usize) {
        let Standing { trial, depth, .. } = &mut self.standing[slot];
        *trial = trial.saturating_mul(2);
        if *trial >= *depth {
            *trial = NO_TRIAL;
        }
        self.table[slot].depth = (*trial).min(*depth);
        let has_room = self.has_room(slot);
        set(&mut self.full, slot, !has_room);
        self.weigh(slot);
    }

    /// Notes how long a read or a write has taken.
    #[inline]
    pub(super) fn note(&mut self, slot: usize, nanos: u64) {
        self.paces[slot].note(nanos);
    }

    /// The age from which on a read or a write there is late, in ns.
    #[inline]
    pub(super) fn allowance(&self, slot: usize) -> u64 {
        self.paces[slot].allowance()
    }

    /// Reckons anew what is late.
    pub(super) fn turn(&mut self, now: Tick) {
        for slot in slots(self.known) {
            self.paces[slot].turn(now);
        }
    }

    /// Attempts that the path has, over whichever connection.
    pub(super) fn out(&self, slot: usize) -> u32 {
        self.table[slot].in_flight.saturating_add(self.standing[slot].earlier)
    }

    /// The path says that it has no room: so it is until it hands an attempt back. `false` if it holds none over its present
    /// connection.
    pub(super) const fn fill(&mut self, slot: usize) -> bool {
        let holds = self.table[slot].in_flight > 0;
        if holds {
            self.full |= bit(slot);
        }
        holds
    }

    /// Since when the path has declined every attempt, `None` if the last was taken.
    pub(super) fn declined_since(&self, slot: usize) -> Option<Tick> {
        Some(self.standing[slot].declined_since).filter(|&since| since < Tick::MAX)
    }

    pub(super) fn set_declined(&mut self, slot: usize, since: Tick) {
        self.standing[slot].declined_since = since;
    }

    /// The path has handed back one attempt, which was sent over this connection.
    #[inline]
    pub(super) fn released(&mut self, slot: usize, incarnation: Incarnation, stale: bool) {
        let standing = &mut self.standing[slot];
        standing.declined_since = Tick::MAX;
        if standing.incarnation == incarnation {
            let candidate = &mut self.table[slot];
            candidate.in_flight = candidate.in_flight.saturating_sub(1);
            if stale {
                standing.stale = standing.stale.saturating_sub(1);
                self.weigh(slot);
            }
        } else {
            standing.earlier = standing.earlier.saturating_sub(1);
            self.weigh(slot);
        }
        if self.has_room(slot) {
            self.full &= !bit(slot);
        }
    }

    pub(super) fn distrust(&mut self, slot: usize) {
        self.distrusted |= bit(slot);
        self.refresh();
    }

    pub(super) fn mark_broken(&mut self, slot: usize) {
        self.broken |= bit(slot);
        self.refresh();
    }

    pub(super) fn set_access(&mut self, slot: usize, access: AccessState) {
        set(&mut self.optimized, slot, access == AccessState::Optimized);
        set(&mut self.non_optimized, slot, access == AccessState::NonOptimized);
        self.refresh();
    }

    /// Leaves the path alone until `until`.
    pub(super) fn rest(&mut self, slot: usize, until: Tick) {
        self.resting |= bit(slot);
        self.standing[slot].rests_until = self.standing[slot].rests_until.max(until);
    }

    /// Ends the rests that are over; the next that will be.
    pub(super) fn wake(&mut self, now: Tick) -> Option<Tick> {
        let mut next = None;
        for slot in slots(self.resting) {
            let until = self.standing[slot].rests_until;
            if until <= now {
                self.resting &= !bit(slot);
            } else {
                next = Some(next.map_or(until, |earliest: Tick| earliest.min(until)));
            }
        }
        next
    }

    pub(super) const fn is_resting(&self) -> bool {
        self.resting != 0
    }

    // What changes it from without.

    /// Whether this queue has let go of the path, for good.
    pub(super) fn is_gone(&self, path: PathId) -> bool {
        self.gone & bit(path.slot()) != 0 && self.table[path.slot()].id == path
    }

    /// Takes over what the supervisor says of a slot; whether what was held against the path is over.
    pub(super) fn update(&mut self, slot: usize, route: &Route) -> Settled {
        let same = self.table[slot].id == route.id;
        if same && self.gone & bit(slot) != 0 {
            return Settled::No;
        }
        let newcomer = self.known & bit(slot) == 0 || !same;
        if newcomer {
            self.forget(slot);
            self.known |= bit(slot);
            self.table[slot] = Candidate::new(route.id, route.depth);
        }
        let standing = &mut self.standing[slot];
        let readmitted = newcomer || standing.admission != route.admission;
        let is_return =
            !newcomer && readmitted && (self.distrusted & bit(slot) != 0 || self.up & bit(slot) == 0);
        let (mut stale, mut earlier) = (standing.stale, standing.earlier);
        if newcomer || standing.incarnation != route.incarnation {
            self.open &= !bit(slot);
            self.broken &= !bit(slot);
            // The new connection has room of its own.
            earlier = earlier.saturating_add(std::mem::take(&mut self.table[slot].in_flight));
            stale = 0;
        }
        *standing = Standing {
            incarnation: route.incarnation,
            admission: route.admission,
            fenced: route.fenced,
            scope: route.scope,
            covers: route.covers,
            rests_until: standing.rests_until,
            declined_since: if readmitted { Tick::MAX } else { standing.declined_since },
            stale,
            earlier,
            depth: route.depth,
            trial: match (newcomer, is_return) {
                (true, _) => NO_TRIAL,
                (false, true) => 1,
                (false, false) => standing.trial,
            },
        };
        let room = standing.trial.min(route.depth);
        if readmitted {
            self.distrusted &= !bit(slot);
        }
        let candidate = &mut self.table[slot];
        *candidate = candidate.with_weight(NonZeroU32::new(route.weight).unwrap_or(NonZeroU32::MIN));
        (candidate.rank, candidate.depth) = (route.rank, room);
        let has_room = self.has_room(slot);
        set(&mut self.full, slot, !has_room);
        self.weigh(slot);
        set(&mut self.up, slot, route.health == Health::Up);
        set(&mut self.suspect, slot, route.health == Health::Suspect);
        set(&mut self.leaving, slot, route.leaving);
        set(&mut self.preferred, slot, route.preferred);
        for (scope, members) in self.scopes.iter_mut().enumerate() {
            set(members, slot, route.covers & bit(scope) != 0);
        }
        self.set_access(slot, route.access);
        match (newcomer, readmitted) {
            (true, _) => Settled::Newcomer,
            (false, true) => Settled::Yes,
            (false, false) => Settled::No,
        }
    }

    /// The queue is done with a path that is being removed, for good.
    pub(super) fn let_go(&mut self, slot: usize) {
        self.forget(slot);
        self.gone |= bit(slot);
    }

    /// The slot has no path any more.
    pub(super) fn forget(&mut self, slot: usize) {
        let keep = !bit(slot);
        for set in [
            &mut self.known,
            &mut self.open,
            &mut self.up,
            &mut self.suspect,
            &mut self.optimized,
            &mut self.non_optimized,
            &mut self.preferred,
            &mut self.leaving,
            &mut self.distrusted,
            &mut self.broken,
            &mut self.resting,
            &mut self.full,
            &mut self.clogged,
            &mut self.gone,
        ] {
            *set &= keep;
        }
        for members in self.scopes.iter_mut() {
            *members &= keep;
        }
        let standing = &mut self.standing[slot];
        (standing.incarnation, standing.rests_until) = (Incarnation::NONE, Tick::ZERO);
        (standing.stale, standing.earlier) = (0, 0);
        self.paces[slot] = Pace::new(self.late_after);
        self.refresh();
    }

    /// The queue has a path queue of connection `incarnation`.
    pub(super) fn opened(&mut self, slot: usize, incarnation: Incarnation) {
        if self.standing[slot].incarnation == incarnation && self.known & bit(slot) != 0 {
            self.open |= bit(slot);
            self.refresh();
        }
    }

    /// The queue has lost its path queue.
    pub(super) fn closed(&mut self, slot: usize) {
        self.open &= !bit(slot);
        self.refresh();
    }

    fn refresh(&mut self) {
        self.best = self.best_within(u64::MAX);
    }
}

/// Whether what was held against a path is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    No,
    /// It was admitted again.
    Yes,
    /// It is another path.
    Newcomer,
}

const fn set(mask: &mut u64, slot: usize, member: bool) {
    *mask = *mask & !bit(slot) | (member as u64) << slot;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(slot: u8, health: Health, access: AccessState) -> Route {
        Route {
            id: PathId::new(slot, u32::from(slot)),
            incarnation: Incarnation::NONE.next(),
            admission: 1,
            health,
            access,
            weight: 1,
            rank: 0,
            depth: 2,
            fenced: Incarnation::NONE,
            scope: None,
            covers: 0,
            leaving: false,
            preferred: false,
        }
    }

    fn routes(of: &[(Health, AccessState)]) -> Routes {
        let mut routes = Routes::new(Duration::ZERO);
        for (slot, &(health, access)) in of.iter().enumerate() {
            routes.update(slot, &route(u8::try_from(slot).unwrap(), health, access));
            routes.opened(slot, Incarnation::NONE.next());
        }
        routes
    }

    use AccessState::{NonOptimized, Optimized, Standby};
    use Health::{Down, Suspect, Up};

    #[test]
    fn optimized_paths_come_before_others_and_standby_never() {
        let mut routes = routes(&[(Up, NonOptimized), (Up, Optimized), (Up, Standby)]);
        assert_eq!(routes.best(), 0b010);
        routes.mark_broken(1);
        assert_eq!(routes.best(), 0b001);
        routes.mark_broken(0);
        assert_eq!(routes.best(), 0);
    }

    #[test]
    fn of_those_that_are_not_optimized_preferred_ones_come_first() {
        let mut routes = routes(&[(Up, NonOptimized), (Up, NonOptimized), (Up, Optimized)]);
        routes.update(1, &Route { preferred: true, ..route(1, Up, NonOptimized) });
        assert_eq!(routes.best(), 0b100);
        routes.mark_broken(2);
        assert_eq!(routes.best(), 0b010);
        routes.mark_broken(1);
        assert_eq!(routes.best(), 0b001);
    }

    #[test]
    fn a_suspect_path_is_the_last_resort_and_a_dead_one_none() {
        let mut routes = routes(&[(Suspect, Optimized), (Up, NonOptimized), (Down, Optimized)]);
        assert_eq!(routes.best(), 0b010);
        routes.mark_broken(1);
        assert_eq!(routes.best(), 0b001);
        routes.mark_broken(0);
        assert_eq!(routes.best(), 0);
    }

    #[test]
    fn distrust_ends_with_the_next_admission_only() {
        let mut routes = routes(&[(Up, Optimized), (Up, Optimized)]);
        routes.distrust(0);
        assert_eq!(routes.best(), 0b10);
        let mut again = route(0, Up, Optimized);
        assert_eq!(routes.update(0, &again), Settled::No);
        assert_eq!(routes.best(), 0b10);
        again.admission += 1;
        assert_eq!(routes.update(0, &again), Settled::Yes);
        assert_eq!(routes.best(), 0b11);
    }

    #[test]
    fn a_new_connection_is_used_only_once_opened() {
        let mut routes = routes(&[(Up, Optimized)]);
        let mut next = route(0, Up, Optimized);
        next.incarnation = next.incarnation.next();
        routes.update(0, &next);
        assert_eq!(routes.best(), 0);
        routes.opened(0, Incarnation::NONE.next());
        assert_eq!(routes.best(), 0, "that was the old one");
        routes.opened(0, next.incarnation);
        assert_eq!(routes.best(), 1);
    }

    #[test]
    fn a_path_that_comes_back_is_given_one_attempt_and_twice_as_many_with_each_that_succeeds() {
        let mut deep = Route { depth: 16, ..route(0, Up, Optimized) };
        let mut routes = routes(&[(Up, Optimized)]);
        routes.update(0, &deep);
        assert_eq!(routes.table[0].depth, 16, "a newcomer is given all");
        deep.health = Suspect;
        routes.update(0, &deep);
        (deep.health, deep.admission) = (Up, deep.admission + 1);
        routes.update(0, &deep);
        for depth in [1, 2, 4, 8, 16, 16] {
            assert_eq!(routes.table[0].depth, depth);
            for _ in 0..depth {
                assert_eq!(routes.with_room(routes.best()), 1);
                routes.placed(0);
            }
            assert_eq!(routes.with_room(routes.best()), 0);
            for _ in 0..depth {
                routes.released(0, deep.incarnation, false);
            }
            routes.update(0, &deep);
            routes.passed(0);
        }
        // What an earlier connection holds does not keep it from proving itself.
        routes.distrust(0);
        (0..60).for_each(|_| routes.placed(0));
        (deep.incarnation, deep.admission) = (deep.incarnation.next(), deep.admission + 1);
        routes.update(0, &deep);
        routes.opened(0, deep.incarnation);
        assert_eq!((routes.table[0].depth, routes.with_room(routes.best())), (1, 1));
    }

    #[test]
    fn a_full_or_resting_path_has_no_room() {
        let mut routes = routes(&[(Up, Optimized), (Up, Optimized)]);
        routes.placed(0);
        routes.placed(0);
        assert_eq!(routes.with_room(routes.best()), 0b10);
        routes.rest(1, Tick::from_nanos(10));
        assert_eq!(routes.with_room(routes.best()), 0);
        assert_eq!(routes.wake(Tick::from_nanos(9)), Some(Tick::from_nanos(10)));
        assert_eq!(routes.wake(Tick::from_nanos(10)), None);
        routes.released(0, Incarnation::NONE.next(), false);
        assert_eq!(routes.with_room(routes.best()), 0b11);
    }

    #[test]
    fn slots_of_a_set_ascend() {
        assert_eq!(slots(0b1010_0001).collect::<Vec<_>>(), [0, 5, 7]);
        assert_eq!(slots(1 << 63).collect::<Vec<_>>(), [63]);
    }
}
