//! Fences that are not yet made.

use std::time::Duration;

use crate::path::faulty::flights::Rest;
use crate::path::faulty::shared::Seat;
use crate::path::{ControlSink, FenceGrade, Incarnation};
use crate::time::Tick;

/// A fence that some queues stand in the way of, or that waits for one to tell the time.
#[derive(Debug)]
pub(super) struct Fence {
    pub(super) serial: u32,
    pub(super) through: Incarnation,
    pub(super) grade: FenceGrade,
    pub(super) needs: Needs,
    pub(super) waiting: Vec<Seat>,
    pub(super) sink: ControlSink,
}

/// What a fence needs of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// To wait for this long from the first poll after the fence was asked for,
    Delay(Duration),
    /// that is until this tick, then to drop what it keeps,
    Until(Tick),
    /// and that the wrapped path has answered everything.
    NoneOut,
    /// That nothing is left of what it kept: the wrapped path has seen to the rest.
    NoneKept,
    /// To tell the time, since no queue of the fenced connections is left to do it: this long from its first poll,
    Clock(Duration),
    /// that is until this tick,
    ClockUntil(Tick),
    /// when it is over.
    Nothing,
}

impl Needs {
    /// What is needed at `now`.
    #[must_use]
    pub(super) fn at(self, now: Tick) -> Self {
        match self {
            Self::Delay(delay) => Self::Until(now.after(delay)).at(now),
            Self::Until(due) if now >= due => Self::NoneOut,
            Self::Clock(delay) => Self::ClockUntil(now.after(delay)).at(now),
            Self::ClockUntil(due) if now >= due => Self::Nothing,
            needs => needs,
        }
    }

    /// When to look again, if time alone can change it.
    pub(super) const fn next(self, now: Tick) -> Option<Tick> {
        match self {
            Self::Delay(_) | Self::Clock(_) => Some(now),
            Self::Until(due) | Self::ClockUntil(due) => Some(due),
            Self::NoneOut | Self::NoneKept | Self::Nothing => None,
        }
    }

    /// Whether it needs no more of a queue than its clock.
    pub(super) const fn is_time(self) -> bool {
        matches!(self, Self::Clock(_))
    }

    /// Whether a queue gives it all that has this `rest`.
    pub(super) const fn is_met(self, rest: Rest) -> bool {
        match self {
            Self::Delay(_) | Self::Until(_) | Self::Clock(_) | Self::ClockUntil(_) => false,
            Self::Nothing => true,
            Self::NoneOut => matches!(rest, Rest::Nothing),
            Self::NoneKept => matches!(rest, Rest::Nothing | Rest::Sent),
        }
    }
}
