//! The faults themselves, and what chance makes of them.

use std::time::Duration;

use rand::Rng;
use rand::rngs::Xoshiro256PlusPlus;

use crate::error::{Cause, DeviceError, Error};
use crate::io::Operation;
use crate::path::{AccessState, Fault, FenceGrade};

/// How a stalled path is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// On the way back: attempts are done, their results come when the path is restored.
    Late,
    /// On the way there: attempts that are submitted from now on are kept, and done only when the path is restored
    /// or `land_after` their submission, over whatever the device holds by then. Results are not held up.
    Lost {
        /// When a kept attempt is done although the path was not restored; `None` for never.
        land_after: Option<Duration>,
    },
}

/// What a transport error says of the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// As on PCIe or in one machine: the attempt can no longer take effect ([`FenceGrade::Proven`]).
    Local,
    /// As on a network: the attempt may yet take effect, for all that is known. A write then waits for the path's
    /// fence: give it one ([`FaultHandle::fence_after`](super::FaultHandle::fence_after)) if the wrapped path has none.
    Fabric,
}

impl Transport {
    const fn error(self) -> Fault {
        let fence = match self {
            Self::Local => Some(FenceGrade::Proven),
            Self::Fabric => None,
        };
        // What Linux gives for BLK_STS_TRANSPORT.
        Fault::Unknown { cause: Cause::Errno(libc::ENOLINK), fence }
    }
}

/// An error that attempts can meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// The transport fails and the attempt was not done: [`Fault::Unknown`].
    TransportBefore(Transport),
    /// The transport fails after the attempt was done: [`Fault::Unknown`] too. An attempt that fails by itself fails
    /// as it would have.
    TransportAfter(Transport),
    /// The device answers with a medium error, and does nothing: [`DeviceError::Medium`].
    Medium,
    /// The device is busy, and does nothing: [`Fault::Congested`] for one millisecond.
    Busy,
    /// The device is in standby, and does nothing: [`Fault::Refused`]. The next probe tells the real access state.
    Refused,
}

impl FaultKind {
    const ALL: [Self; 7] = [
        Self::TransportBefore(Transport::Local),
        Self::TransportBefore(Transport::Fabric),
        Self::TransportAfter(Transport::Local),
        Self::TransportAfter(Transport::Fabric),
        Self::Medium,
        Self::Busy,
        Self::Refused,
    ];

    const fn decision(self) -> Decision {
        match self {
            Self::TransportBefore(transport) => Decision::Answer(transport.error()),
            Self::TransportAfter(transport) => Decision::Send(Plan::LoseAnswer(transport)),
            Self::Medium => Decision::Answer(Fault::Final(DeviceError::Medium)),
            Self::Busy => Decision::Answer(Fault::Congested { retry_after: Duration::from_millis(1) }),
            Self::Refused => Decision::Answer(Fault::Refused(AccessState::Standby)),
        }
    }
}

/// A probability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rate(u32);

impl Rate {
    const WHOLE: u32 = 1_000_000;

    pub(super) fn per_million(setting: &'static str, parts: u32) -> Result<Self, Error> {
        if parts > Self::WHOLE {
            let problem = format!("{parts} parts per million is more than all; at most 1000000 makes sense");
            return Err(Error::setting(setting, problem));
        }
        Ok(Self(parts))
    }

    /// Asks chance only where it has a say, so that a fault that is off leaves the other faults' sequence alone.
    fn strikes(self, chance: &mut Xoshiro256PlusPlus) -> bool {
        self.0 > 0 && (u64::from(chance.next_u32()) * u64::from(Self::WHOLE)) >> 32 < u64::from(self.0)
    }
}

/// What is on at present, apart from a lost connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    pub(super) stall: Option<Stall>,
    pub(super) slow: Duration,
    errors: [Rate; FaultKind::ALL.len()],
    pub(super) short: Rate,
}

/// What to do with an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Never to send it.
    Answer(Fault),
    /// To keep it for this long, or until restored.
    Keep(Option<Duration>),
    /// To send it.
    Send(Plan),
}

/// What to do with the result of an attempt that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Honest,
    LoseAnswer(Transport),
    Halve,
}

impl Faults {
    pub(super) fn set_error(&mut self, kind: FaultKind, rate: Rate) {
        for (known, place) in FaultKind::ALL.into_iter().zip(&mut self.errors) {
            if known == kind {
                *place = rate;
            }
        }
    }

    /// A stalled path has no other faults: it says nothing.
    pub(super) fn decide(&self, operation: Operation, chance: &mut Xoshiro256PlusPlus) -> Decision {
        match self.stall {
            Some(Stall::Lost { land_after }) => return Decision::Keep(land_after),
            Some(Stall::Late) => return Decision::Send(Plan::Honest),
            None => {}
        }
        for (kind, rate) in FaultKind::ALL.into_iter().zip(self.errors) {
            if rate.strikes(chance) {
                return kind.decision();
            }
        }
        let halved = operation.has_data() && self.short.strikes(chance);
        Decision::Send(if halved { Plan::Halve } else { Plan::Honest })
    }
}

impl Plan {
    /// What is told of `result`, in whole blocks of `block_size` bytes. Only success is tampered with: an error of
    /// the wrapped path may mean that the attempt can still land.
    pub(super) fn distort(self, result: Result<u32, Fault>, block_size: u32) -> Result<u32, Fault> {
        let bytes = result?;
        match self {
            Self::Honest => Ok(bytes),
            Self::LoseAnswer(transport) => Err(transport.error()),
            Self::Halve => Ok(bytes / 2 / block_size * block_size),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_rate_strikes_as_often_as_it_says() {
        let mut chance = Xoshiro256PlusPlus::seed_from_u64(1);
        for (parts, expected) in [(0, 0..=0), (250_000, 24_000..=26_000), (1_000_000, 100_000..=100_000)] {
            let rate = Rate::per_million("rate", parts).unwrap();
            let strikes = (0..100_000).filter(|_| rate.strikes(&mut chance)).count();
            assert!(expected.contains(&strikes), "{parts}: {strikes}");
        }
        assert!(Rate::per_million("rate", 1_000_001).is_err());
    }

    #[test]
    fn half_of_a_transfer_is_whole_blocks() {
        assert_eq!(Plan::Halve.distort(Ok(3 * 512), 512), Ok(512));
        assert_eq!(Plan::Halve.distort(Ok(512), 512), Ok(0));
    }

    #[test]
    fn an_error_that_may_land_is_never_called_fenced() {
        let may_land = Err(Fault::Unknown { cause: Cause::Timeout, fence: None });
        assert_eq!(Plan::LoseAnswer(Transport::Local).distort(may_land, 512), may_land);
    }
}
