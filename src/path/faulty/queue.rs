//! The data half.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use crate::error::{Cause, Error};
use crate::path::faulty::faults::{Decision, Stall};
use crate::path::faulty::fence::Needs;
use crate::path::faulty::flights::{End, Flights};
use crate::path::faulty::shared::{Life, Orders, Seat, Shared};
use crate::path::{
    Attempt, AttemptId, Attempts, Fault, FenceGrade, Incarnation, OpenQueue, Outcome, Outcomes, PathQueue,
};
use crate::reactor::{Port, Reactor, ReactorEvent, Waker};
use crate::time::Tick;

/// How soon what the inner path had no room for is offered again.
pub(super) const NO_ROOM_RETRY: Duration = Duration::from_micros(100);

/// A [`FaultyQueue`] to be.
pub(super) struct OpenFaultyQueue {
    pub(super) inner: Box<dyn OpenQueue>,
    /// The path's, for messages.
    pub(super) name: String,
    pub(super) shared: Arc<Shared>,
    pub(super) incarnation: Incarnation,
    pub(super) block_size: u32,
    pub(super) seed: u64,
}

impl OpenQueue for OpenFaultyQueue {
    fn open(self: Box<Self>, reactor: &mut Reactor, port: Port) -> Result<Box<dyn PathQueue>, Error> {
        self.shared.check_open(self.incarnation, || self.name.clone())?;
        let waker = reactor.waker(port);
        let inner = self.inner.open(reactor, port)?;
        let mut state = self.shared.lock();
        let seat = state.seat(self.incarnation, waker.clone());
        let (version, orders) = (self.shared.version(), state.orders(seat));
        let duties: Vec<Duty> = state.duties(seat).map(|(fence, needs)| Duty { fence, needs }).collect();
        drop(state);
        if !duties.is_empty() {
            // Its first poll begins them.
            waker.wake();
        }
        Ok(Box::new(FaultyQueue {
            inner,
            shared: self.shared,
            seat,
            waker,
            block_size: self.block_size,
            chance: Xoshiro256PlusPlus::seed_from_u64(self.seed),
            version,
            orders,
            flights: Flights::default(),
            kept: Vec::new(),
            withheld: Vec::new(),
            delayed: Vec::new(),
            ready: Vec::new(),
            duties,
            inner_due: None,
            batch: Vec::new(),
            answers: Vec::new(),
        }))
    }
}

/// An attempt that a stall keeps.
struct Kept {
    attempt: Attempt,
    /// When it lands if the path is not restored before.
    due: Tick,
}

/// A result that slowness holds up.
struct Delayed {
    outcome: Outcome,
    delay: Duration,
    /// `None` until a poll has told the time.
    due: Option<Tick>,
}

/// What a fence waits for.
struct Duty {
    fence: u32,
    needs: Needs,
}

struct FaultyQueue {
    inner: Box<dyn PathQueue>,
    shared: Arc<Shared>,
    seat: Seat,
    waker: Waker,
    block_size: u32,
    chance: Xoshiro256PlusPlus,
    /// Of `shared`, as of `orders` and `duties`.
    version: u32,
    orders: Orders,
    /// Every attempt that was sent or kept, until it is handed back.
    flights: Flights,
    kept: Vec<Kept>,
    /// Held up by a late stall, in order.
    withheld: Vec<Outcome>,
    delayed: Vec<Delayed>,
    /// To be handed over at the next chance, in order.
    ready: Vec<Outcome>,
    duties: Vec<Duty>,
    /// When the wrapped queue wants to be polled.
    inner_due: Option<Tick>,
    /// Scratch: on the way to the wrapped queue, newest first.
    batch: Vec<Attempt>,
    /// Scratch: what the wrapped queue said.
    answers: Vec<Outcome>,
}

impl PathQueue for FaultyQueue {
    fn submit(&mut self, reactor: &mut Reactor, now: Tick, attempts: &mut Attempts<'_>) -> Option<Tick> {
        self.notice();
        self.land(reactor, now);
        while let Some(attempt) = attempts.next() {
            self.place(attempt, now);
        }
        self.batch.reverse();
        self.send(reactor, now);
        for attempt in self.batch.drain(..) {
            self.flights.unsend(attempt.id());
            attempts.put_back(attempt);
        }
        self.next(now)
    }

    fn event(&mut self, reactor: &mut Reactor, event: ReactorEvent, outcomes: &mut Outcomes<'_>) {
        self.notice();
        self.catch_up(outcomes);
        self.inner.event(reactor, event, &mut Outcomes::new(&mut self.answers));
        self.take_answers(None, outcomes);
        self.clear_duties();
    }

    fn poll(&mut self, reactor: &mut Reactor, now: Tick, outcomes: &mut Outcomes<'_>) -> Option<Tick> {
        self.notice();
        self.catch_up(outcomes);
        self.land(reactor, now);
        self.inner_due = self.inner.poll(reactor, now, &mut Outcomes::new(&mut self.answers));
        self.take_answers(Some(now), outcomes);
        self.end_delays(now, outcomes);
        self.serve_fences(now, outcomes);
        self.next(now)
    }

    fn cancel(&mut self, reactor: &mut Reactor, attempt: AttemptId) {
        // What is kept is on its way to the device: it lands whether or not anybody waits.
        if !self.kept.iter().any(|kept| kept.attempt.id() == attempt) {
            self.inner.cancel(reactor, attempt);
        }
    }
}

impl Drop for FaultyQueue {
    fn drop(&mut self) {
        for kept in self.kept.drain(..) {
            self.flights.discard(kept.attempt.id());
        }
        self.clear_duties();
        self.shared.lock().leave(self.seat, self.flights.rest());
    }
}

/// Orders.
impl FaultyQueue {
    /// Learns what changed.
    fn notice(&mut self) {
        if self.shared.version() == self.version {
            return;
        }
        let restores = self.orders.restores;
        let mut state = self.shared.lock();
        self.version = self.shared.version();
        self.orders = state.orders(self.seat);
        for (fence, needs) in state.duties(self.seat) {
            if self.duties.iter().all(|duty| duty.fence != fence) {
                self.duties.push(Duty { fence, needs });
            }
        }
        drop(state);
        if self.orders.restores != restores {
            self.restore();
        }
    }

    fn restore(&mut self) {
        self.ready.append(&mut self.withheld);
        self.ready.extend(self.delayed.drain(..).map(|delayed| delayed.outcome));
        for kept in &mut self.kept {
            kept.due = Tick::ZERO;
        }
    }

    /// Says what could not be said when it became known.
    fn catch_up(&mut self, outcomes: &mut Outcomes<'_>) {
        if self.orders.life == Life::Dead {
            let fault = Fault::Unknown { cause: Cause::Disconnected, fence: None };
            for attempt in self.flights.give_up_all() {
                outcomes.give_up(attempt, fault);
            }
        }
        for outcome in self.ready.drain(..) {
            hand_over(&mut self.flights, outcome, outcomes);
        }
    }

    /// When to be polled at the latest.
    fn next(&self, now: Tick) -> Option<Tick> {
        let ready = (!self.ready.is_empty()).then_some(now);
        // What is due and still kept found no room.
        let kept =
            self.kept.iter().map(|kept| if kept.due > now { kept.due } else { now.after(NO_ROOM_RETRY) });
        let delayed = self.delayed.iter().map(|delayed| delayed.due.unwrap_or(now));
        let duties = self.duties.iter().filter_map(|duty| duty.needs.next(now));
        let own = kept.chain(delayed).chain(duties).filter(|&due| due < Tick::MAX);
        own.chain(ready).chain(self.inner_due).min()
    }
}

/// On the way down.
impl FaultyQueue {
    /// Finds the place of a new attempt: answered, kept or in the batch.
    fn place(&mut self, attempt: Attempt, now: Tick) {
        let decision = match self.orders.life {
            Life::Open => self.orders.faults.decide(attempt.operation(), &mut self.chance),
            Life::Closed | Life::Dead => Decision::Answer(Fault::NotSent(Cause::NotConnected)),
        };
        match decision {
            Decision::Answer(fault) => {
                if matches!(fault, Fault::Refused(_)) {
                    self.shared.lock().device.refused();
                }
                self.ready.push(Outcome::Complete(attempt, Err(fault)));
            }
            Decision::Keep(land_after) => {
                self.flights.keep(attempt.id());
                let due = land_after.map_or(Tick::MAX, |span| now.after(span));
                self.kept.push(Kept { attempt, due });
            }
            Decision::Send(plan) => {
                self.flights.send(attempt.id(), plan);
                self.batch.push(attempt);
            }
        }
    }

    /// Sends what was kept and is due.
    fn land(&mut self, reactor: &mut Reactor, now: Tick) {
        if self.kept.is_empty() {
            return;
        }
        let landing = self.kept.extract_if(.., |kept| kept.due <= now);
        self.batch.extend(landing.map(|kept| kept.attempt));
        self.batch.reverse();
        let found = self.batch.len();
        self.send(reactor, now);
        for _ in self.batch.len()..found {
            self.flights.land();
        }
        let no_room = self.batch.drain(..).rev();
        self.kept.splice(0..0, no_room.map(|attempt| Kept { attempt, due: now }));
    }

    /// Sends the batch, except for what has no room.
    fn send(&mut self, reactor: &mut Reactor, now: Tick) {
        if self.batch.is_empty() {
            return;
        }
        let due = self.inner.submit(reactor, now, &mut Attempts::new(&mut self.batch));
        self.inner_due = self.inner_due.into_iter().chain(due).min();
    }
}

/// On the way up.
impl FaultyQueue {
    fn is_silent(&self) -> bool {
        self.orders.faults.stall == Some(Stall::Late)
    }

    fn take_answers(&mut self, now: Option<Tick>, outcomes: &mut Outcomes<'_>) {
        let mut answers = mem::take(&mut self.answers);
        for answer in answers.drain(..) {
            self.take_answer(answer, now, outcomes);
        }
        self.answers = answers;
    }

    fn take_answer(&mut self, answer: Outcome, now: Option<Tick>, outcomes: &mut Outcomes<'_>) {
        let mut delay = self.orders.faults.slow;
        let outcome = match answer {
            Outcome::Complete(attempt, result) => {
                let plan = self.flights.answered(attempt.id(), End::of(&result));
                Outcome::Complete(attempt, plan.distort(result, self.block_size))
            }
            Outcome::Released(attempt) => {
                self.flights.answered(attempt.id(), End::MayLand);
                Outcome::Released(attempt)
            }
            gave_up @ Outcome::GaveUp(..) => {
                delay = Duration::ZERO;
                gave_up
            }
        };
        if self.is_silent() {
            self.withheld.push(outcome);
        } else if delay.is_zero() {
            hand_over(&mut self.flights, outcome, outcomes);
        } else {
            if now.is_none() {
                self.waker.wake();
            }
            self.delayed.push(Delayed { outcome, delay, due: now.map(|now| now.after(delay)) });
        }
    }

    fn end_delays(&mut self, now: Tick, outcomes: &mut Outcomes<'_>) {
        let over = |delayed: &mut Delayed| *delayed.due.get_or_insert(now.after(delayed.delay)) <= now;
        let silent = self.is_silent();
        for delayed in self.delayed.extract_if(.., over) {
            if silent {
                self.withheld.push(delayed.outcome);
            } else {
                hand_over(&mut self.flights, delayed.outcome, outcomes);
            }
        }
    }
}

/// Fences.
impl FaultyQueue {
    fn serve_fences(&mut self, now: Tick, outcomes: &mut Outcomes<'_>) {
        let mut aborts = false;
        for duty in &mut self.duties {
            duty.needs = duty.needs.at(now);
            aborts |= duty.needs == Needs::NoneOut;
        }
        if aborts {
            let fault = Fault::Unknown { cause: Cause::Aborted, fence: Some(FenceGrade::Proven) };
            for kept in self.kept.drain(..) {
                self.flights.discard(kept.attempt.id());
                outcomes.complete(kept.attempt, Err(fault));
            }
        }
        self.clear_duties();
    }

    fn clear_duties(&mut self) {
        if self.duties.is_empty() {
            return;
        }
        let rest = self.flights.rest();
        let met = self.duties.extract_if(.., |duty| duty.needs.is_met(rest));
        let met: Vec<u32> = met.map(|duty| duty.fence).collect();
        self.shared.lock().cleared(self.seat, |fence| met.contains(&fence));
    }
}

/// The last step of an outcome: an attempt is given up once, however many have reason to.
fn hand_over(flights: &mut Flights, outcome: Outcome, outcomes: &mut Outcomes<'_>) {
    match &outcome {
        Outcome::GaveUp(attempt, _) => {
            if !flights.give_up(*attempt) {
                return;
            }
        }
        Outcome::Complete(attempt, _) | Outcome::Released(attempt) => flights.finish(attempt.id()),
    }
    outcomes.push(outcome);
}
