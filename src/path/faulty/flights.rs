//! Attempts that a faulty queue has taken and not yet handed back.

use crate::path::faulty::faults::Plan;
use crate::path::{AttemptId, Fault};

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Flight {
    id: AttemptId,
    plan: Plan,
    /// Whether it was ever kept.
    ghost: bool,
    given_up: bool,
}

/// All of them, and counts of those that can still take effect.
#[derive(Debug, Default)]
pub(super) struct Flights {
    list: Vec<Flight>,
    /// By an attempt's index, where in the list it is, unless another with its index came after it.
    places: Vec<u32>,
    out: u32,
    ghosts: u32,
}

/// What of a queue's attempts can still take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    Nothing,
    /// Attempts that were sent at once.
    Sent,
    /// Attempts that were kept, sent by now or not, perhaps beside others.
    Ghosts,
}

/// Whether an answer of the wrapped path is the end of an attempt's effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Settled,
    MayLand,
}

impl End {
    pub(super) const fn of(result: &Result<u32, Fault>) -> Self {
        match result {
            Err(fault) if fault.may_land() => Self::MayLand,
            _ => Self::Settled,
        }
    }
}

impl Flights {
    /// An attempt is kept: it can take effect when it is sent some day.
    pub(super) fn keep(&mut self, id: AttemptId) {
        self.ghosts += 1;
        self.push(Flight { id, plan: Plan::Honest, ghost: true, given_up: false });
    }

    /// A kept attempt goes after all.
    pub(super) fn land(&mut self) {
        self.out += 1;
    }

    /// An attempt goes.
    pub(super) fn send(&mut self, id: AttemptId, plan: Plan) {
        self.out += 1;
        self.push(Flight { id, plan, ghost: false, given_up: false });
    }

    /// The wrapped path had no room for an attempt that was to go.
    pub(super) fn unsend(&mut self, id: AttemptId) {
        self.out -= 1;
        self.finish(id);
    }

    /// The wrapped path is done with an attempt. The result is what to make of its answer.
    pub(super) fn answered(&mut self, id: AttemptId, end: End) -> Plan {
        let Some(index) = self.find(id) else { return Plan::Honest };
        let flight = self.list[index];
        if end == End::Settled {
            self.out -= 1;
            self.ghosts -= u32::from(flight.ghost);
        }
        flight.plan
    }

    /// A kept attempt will never be sent.
    pub(super) fn discard(&mut self, id: AttemptId) {
        self.ghosts -= 1;
        self.finish(id);
    }

    /// An attempt is handed back.
    pub(super) fn finish(&mut self, id: AttemptId) {
        if let Some(index) = self.find(id) {
            self.list.swap_remove(index);
            if let Some(moved) = self.list.get(index).map(|flight| flight.id) {
                self.note(moved, index);
            }
        }
    }

    /// An attempt is given up. Whether that is news.
    pub(super) fn give_up(&mut self, id: AttemptId) -> bool {
        match self.find(id) {
            Some(index) => !std::mem::replace(&mut self.list[index].given_up, true),
            None => true,
        }
    }

    /// Gives up those that were not.
    pub(super) fn give_up_all(&mut self) -> impl Iterator<Item = AttemptId> {
        let flights = self.list.iter_mut().filter(|flight| !flight.given_up);
        flights.map(|flight| {
            flight.given_up = true;
            flight.id
        })
    }

    /// What can still take effect.
    pub(super) const fn rest(&self) -> Rest {
        match (self.out, self.ghosts) {
            (_, 1..) => Rest::Ghosts,
            (1.., 0) => Rest::Sent,
            (0, 0) => Rest::Nothing,
        }
    }

    fn push(&mut self, flight: Flight) {
        let place = self.list.len();
        self.list.push(flight);
        self.note(flight.id, place);
    }

    fn note(&mut self, id: AttemptId, place: usize) {
        if id.index as usize >= self.places.len() {
            self.places.resize(id.index as usize + 1, 0);
        }
        self.places[id.index as usize] = u32::try_from(place).unwrap_or(u32::MAX);
    }

    fn find(&self, id: AttemptId) -> Option<usize> {
        let place = *self.places.get(id.index as usize)? as usize;
        match self.list.get(place) {
            Some(flight) if flight.id == id => Some(place),
            _ => self.list.iter().position(|flight| flight.id == id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::QueueIndex;

    #[test]
    fn attempts_of_one_index_are_told_apart() {
        let mut flights = Flights::default();
        let (older, newer) = (AttemptId::new(QueueIndex(0), 3, 1), AttemptId::new(QueueIndex(0), 3, 2));
        flights.send(older, Plan::Halve);
        flights.send(newer, Plan::Honest);
        assert_eq!(flights.answered(older, End::Settled), Plan::Halve);
        flights.finish(older);
        assert_eq!(flights.rest(), Rest::Sent);
        assert_eq!(flights.answered(newer, End::Settled), Plan::Honest);
        assert!(flights.give_up(newer) && !flights.give_up(newer));
        flights.finish(newer);
        assert_eq!((flights.rest(), flights.give_up_all().count()), (Rest::Nothing, 0));
    }
}
