//! The event core, and what lies between the queues and the array: links that delay, lose, fail and hold what they carry.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::block::{Extent, Geometry, Limits};
use crate::error::{Cause, DeviceError};
use crate::io::Operation;
use crate::path::{
    AccessState, Cache, CacheScope, ControlSink, Fault, FenceGrade, FenceSupport, Incarnation,
};
use crate::reactor::Waker;
use crate::time::Tick;

use super::array::{Array, Stamp};

/// When a transport gives up a command that is not answered.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(500);

/// Longest time that a fence takes.
const LONGEST_FENCE: Duration = Duration::from_millis(10);

/// Number of a link, from 0.
pub type LinkIndex = usize;

/// How a link behaves while no fault is switched on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkProfile {
    /// Shortest and longest time from submission to effect, and again from effect to answer.
    pub latency: (Duration, Duration),
    /// Of a million attempts so many end otherwise than well, in one of many ways drawn by lot.
    pub mishaps: u32,
    /// How it can be fenced.
    pub fence: FenceSupport,
    /// The cache that writes over this link land in: the same name is the same cache.
    pub cache: Option<CacheScope>,
    /// Attempts at once, over all queues.
    pub depth: u32,
    /// Access state.
    pub access: AccessState,
}

impl Default for LinkProfile {
    /// 40 to 100 microseconds there and back, no mishaps, a proven fence, no volatile cache, 32 attempts.
    fn default() -> Self {
        Self {
            latency: (Duration::from_micros(20), Duration::from_micros(50)),
            mishaps: 0,
            fence: FenceSupport::Proven,
            cache: None,
            depth: 32,
            access: AccessState::Optimized,
        }
    }
}

/// What is wrong with a link as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkFault {
    /// The connection is lost: what is out is of unknown fate, and may yet land; nothing new gets through.
    Dead,
    /// Attempts arrive and take effect; answers, those to probes too, wait until the link is restored.
    Silent,
    /// Attempts are held back, and go on when the link is restored: over whatever is there by then.
    Stuck,
    /// As silent for attempts; probes are answered, and connections made.
    HalfDead,
    /// Every transfer of more than one block ends half-way.
    Short,
    /// Every attempt gets a final error, which is none of the device's.
    Denied,
    /// The path's code panics in whichever queue calls it next, and what it had out goes on.
    Crash,
}

/// What is wrong with a link's fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceFault {
    /// It cannot be made, and says so.
    Fails,
    /// It never answers.
    Silent,
}

/// Who an attempt belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token {
    pub(super) link: LinkIndex,
    /// The path queue that sent it.
    pub(super) sender: u64,
    pub(super) number: u64,
}

/// What came back for an attempt.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) number: u64,
    pub(super) result: Result<u32, Fault>,
    /// What a read found, block by block.
    pub(super) found: Vec<Stamp>,
}

/// What is asked of the array.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) operation: Operation,
    pub(super) extent: Extent,
    pub(super) stamps: Vec<Stamp>,
    pub(super) bytes: u32,
}

/// An attempt between its path queue and the array, or on its way back.
#[derive(Debug)]
struct Flight {
    command: Command,
    incarnation: Incarnation,
    applied: bool,
    answered: bool,
    /// Its answer is lost.
    muted: bool,
    result: Result<u32, Fault>,
    found: Vec<Stamp>,
}

/// Something that happens at its time.
#[derive(Debug)]
enum Occurrence {
    Apply(Token),
    Answer(Token),
    Probed(LinkIndex, ControlSink),
    Fenced(LinkIndex, ControlSink, Incarnation),
}

#[derive(Debug)]
struct Link {
    profile: LinkProfile,
    fault: Option<LinkFault>,
    fence_fault: Option<FenceFault>,
    /// So many attempts to come get lost.
    losses: u32,
    /// What it calls its cache, if not by its name.
    alias: Option<CacheScope>,
    connected: Incarnation,
    /// Connections up to this one are gone.
    lost: Incarnation,
    flights: BTreeMap<Token, Flight>,
    /// Grows with each thing from which it can be learnt that its access state is another.
    news: u64,
    /// Where its path says what it has to say.
    sink: Option<ControlSink>,
    /// What happens when the link is restored.
    withheld: Vec<Occurrence>,
}

/// A path queue's mailbox.
#[derive(Debug)]
struct Sender {
    answers: Vec<Answer>,
    waker: Waker,
}

/// Where everything is that is neither queue nor control side. One event core for all.
#[derive(Debug)]
pub(super) struct Fabric {
    pub(super) geometry: Geometry,
    pub(super) limits: Limits,
    pub(super) array: Array,
    now: Tick,
    occurrences: BTreeMap<u64, Occurrence>,
    due: BinaryHeap<Reverse<(Tick, u64)>>,
    serial: u64,
    links: Vec<Link>,
    senders: BTreeMap<u64, Sender>,
    chance: Xoshiro256PlusPlus,
    pub(super) violations: Vec<String>,
}

impl Fabric {
    pub(super) fn new(geometry: Geometry, limits: Limits, seed: u64) -> Self {
        Self {
            geometry,
            limits,
            array: Array::new(geometry.capacity()),
            now: Tick::ZERO,
            occurrences: BTreeMap::new(),
            due: BinaryHeap::new(),
            serial: 0,
            links: Vec::new(),
            senders: BTreeMap::new(),
            chance: Xoshiro256PlusPlus::seed_from_u64(seed),
            violations: Vec::new(),
        }
    }

    pub(super) fn add_link(&mut self, profile: LinkProfile) -> LinkIndex {
        self.links.push(Link {
            profile,
            fault: None,
            fence_fault: None,
            losses: 0,
            alias: None,
            connected: Incarnation::NONE,
            lost: Incarnation::NONE,
            flights: BTreeMap::new(),
            news: 0,
            sink: None,
            withheld: Vec::new(),
        });
        self.links.len() - 1
    }

    pub(super) fn links(&self) -> usize {
        self.links.len()
    }

    /// Changes a link's access state. The path says so itself once it has been probed; before that it is found out.
    pub(super) fn set_access(&mut self, link: LinkIndex, access: AccessState) {
        let link = &mut self.links[link];
        link.profile.access = access;
        link.news += 1;
        if let Some(sink) = &link.sink {
            sink.access_state(access);
        }
    }

    /// How much was to be learnt of the link's access state so far.
    pub(super) fn news(&self, link: LinkIndex) -> u64 {
        self.links[link].news
    }

    /// Whether the code of the link's path panics.
    pub(super) fn crashes(&self, link: LinkIndex) -> bool {
        self.links[link].fault == Some(LinkFault::Crash)
    }

    /// How long attempts and probes take, one way.
    pub(super) fn set_latency(&mut self, link: LinkIndex, latency: (Duration, Duration)) {
        self.links[link].profile.latency = latency;
    }

    pub(super) fn set_fence_fault(&mut self, link: LinkIndex, fault: Option<FenceFault>) {
        self.links[link].fence_fault = fault;
    }

    /// The next so many attempts over a link never arrive, and nothing is said of them.
    pub(super) fn lose(&mut self, link: LinkIndex, attempts: u32) {
        self.links[link].losses = attempts;
    }

    /// From its next connection on the link has another name for its cache, which stays the same.
    pub(super) fn rename_cache(&mut self, link: LinkIndex, alias: CacheScope) {
        self.links[link].alias = Some(alias);
    }

    pub(super) fn profile(&self, link: LinkIndex) -> LinkProfile {
        self.links[link].profile.clone()
    }

    // Time.

    pub(super) fn next_due(&self) -> Option<Tick> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// Lets everything happen that is due.
    pub(super) fn advance(&mut self, now: Tick) {
        self.now = now;
        while let Some(&Reverse((at, serial))) = self.due.peek() {
            if at > now {
                break;
            }
            self.due.pop();
            if let Some(occurrence) = self.occurrences.remove(&serial) {
                self.happen(occurrence);
            }
        }
    }

    fn schedule(&mut self, after: Duration, occurrence: Occurrence) {
        self.serial += 1;
        self.occurrences.insert(self.serial, occurrence);
        self.due.push(Reverse((self.now.after(after), self.serial)));
    }

    fn delay(&mut self, link: LinkIndex) -> Duration {
        let (least, most) = self.links[link].profile.latency;
        let nanos = crate::time::nanos(least)..=crate::time::nanos(most.max(least));
        Duration::from_nanos(self.chance.random_range(nanos))
    }

    fn happen(&mut self, occurrence: Occurrence) {
        match occurrence {
            Occurrence::Apply(token) => self.apply(token),
            Occurrence::Answer(token) => self.answer(token),
            Occurrence::Probed(link, sink) => self.answer_probe(link, sink),
            Occurrence::Fenced(link, sink, through) => self.fenced(link, &sink, through),
        }
    }

    // Attempts.

    pub(super) fn open(&mut self, sender: u64, waker: Waker) {
        self.senders.insert(sender, Sender { answers: Vec::new(), waker });
    }

    pub(super) fn close(&mut self, sender: u64) {
        self.senders.remove(&sender);
    }

    /// Sends a command; `false` if the connection is gone.
    pub(super) fn send(&mut self, token: Token, incarnation: Incarnation, command: Command) -> bool {
        let link = &self.links[token.link];
        if incarnation <= link.lost {
            return false;
        }
        let result = Ok(command.bytes);
        let flight = Flight {
            command,
            incarnation,
            applied: false,
            answered: false,
            muted: false,
            result,
            found: Vec::new(),
        };
        let mishap = link.profile.mishaps;
        self.links[token.link].flights.insert(token, flight);
        let access = self.links[token.link].profile.access;
        if self.is_lost(token.link) {
            self.drop_attempt(token);
        } else if !access.is_active() {
            self.refuse(token, Fault::Refused(access));
        } else if self.links[token.link].fault == Some(LinkFault::Denied) {
            self.refuse(token, Fault::Final(DeviceError::Unsupported));
        } else if self.links[token.link].fault == Some(LinkFault::Short) {
            let delay = self.delay(token.link);
            self.shorten(token, delay);
        } else if self.chance.random_range(0..1_000_000) < mishap {
            self.mishap(token);
        } else {
            let delay = self.delay(token.link);
            self.schedule(delay, Occurrence::Apply(token));
        }
        true
    }

    /// Whether the attempt that is sent at this moment gets lost.
    fn is_lost(&mut self, link: LinkIndex) -> bool {
        let left = self.links[link].losses.checked_sub(1);
        self.links[link].losses = left.unwrap_or(0);
        left.is_some()
    }

    /// The attempt does nothing, and ends with its connection at the soonest; where it is promised that everything is answered,
    /// when it is given up.
    fn drop_attempt(&mut self, token: Token) {
        let link = &mut self.links[token.link];
        if let Some(flight) = link.flights.get_mut(&token) {
            flight.applied = true;
            flight.result = Err(Fault::Unknown { cause: Cause::Timeout, fence: None });
        }
        if link.profile.fence == FenceSupport::Answered {
            self.schedule(COMMAND_TIMEOUT, Occurrence::Answer(token));
        }
    }

    /// Nothing is done, and the answer says so.
    fn refuse(&mut self, token: Token, fault: Fault) {
        if let Some(flight) = self.links[token.link].flights.get_mut(&token) {
            (flight.result, flight.applied) = (Err(fault), true);
        }
        let delay = self.delay(token.link);
        self.schedule(delay, Occurrence::Answer(token));
    }

    /// One attempt goes wrong.
    fn mishap(&mut self, token: Token) {
        let delay = self.delay(token.link);
        let unknown = |fence| Err(Fault::Unknown { cause: Cause::Errno(libc::EIO), fence });
        let proven = Some(FenceGrade::Proven);
        let (result, applies) = match self.chance.random_range(0..9) {
            0 => (unknown(proven), false),
            1 => (unknown(proven), true),
            2 => (unknown(None), false),
            3 => (unknown(None), true),
            4 => (Err(Fault::Congested { retry_after: Duration::from_millis(1) }), false),
            5 => (Err(Fault::Final(DeviceError::Medium)), false),
            6 => return self.haunt(token),
            7 => return self.shorten(token, delay),
            // Lost on the way back: it takes effect, and the transport gives it up after its own long time.
            _ => {
                self.schedule(delay, Occurrence::Apply(token));
                if let Some(flight) = self.links[token.link].flights.get_mut(&token) {
                    flight.muted = true;
                    flight.result = Err(Fault::Unknown { cause: Cause::Timeout, fence: None });
                }
                self.schedule(COMMAND_TIMEOUT, Occurrence::Answer(token));
                return;
            }
        };
        if let Some(flight) = self.links[token.link].flights.get_mut(&token) {
            flight.result = result;
            flight.applied = !applies;
        }
        self.schedule(delay, Occurrence::Apply(token));
    }

    /// The attempt is reported as of unknown fate and lands a good while later.
    fn haunt(&mut self, token: Token) {
        let answer = self.delay(token.link);
        if let Some(flight) = self.links[token.link].flights.get_mut(&token) {
            flight.result = Err(Fault::Unknown { cause: Cause::Timeout, fence: None });
        }
        self.schedule(answer, Occurrence::Answer(token));
        let landing = self.landing(token.link);
        self.schedule(landing, Occurrence::Apply(token));
    }

    /// When a ghost lands: within the quiet time that the link's fence assumes, or before a proven one is made, or after.
    fn landing(&mut self, link: LinkIndex) -> Duration {
        let most = match self.links[link].profile.fence {
            FenceSupport::Assumed(quiet) => quiet / 2,
            FenceSupport::Proven => LONGEST_FENCE * 2,
            // What was answered is over.
            FenceSupport::Answered => Duration::ZERO,
            FenceSupport::Resend | FenceSupport::None => Duration::from_millis(200),
        };
        Duration::from_nanos(self.chance.random_range(0..=crate::time::nanos(most)))
    }

    /// The transfer ends early.
    fn shorten(&mut self, token: Token, delay: Duration) {
        let block_size = self.geometry.block_size();
        if let Some(flight) = self.links[token.link].flights.get_mut(&token)
            && flight.command.operation.has_data()
        {
            let blocks = flight.command.bytes / block_size / 2;
            flight.command.bytes = blocks * block_size;
            flight.command.stamps.truncate(blocks as usize);
            flight.result = Ok(flight.command.bytes);
            let kept = crate::block::BlockCount::new(blocks);
            match Extent::new(flight.command.extent.start(), kept) {
                Ok(extent) => flight.command.extent = extent,
                Err(_) => flight.applied = true,
            }
        }
        self.schedule(delay, Occurrence::Apply(token));
    }

    fn apply(&mut self, token: Token) {
        let link = &mut self.links[token.link];
        let held = link.flights.get(&token).is_some_and(|flight| flight.incarnation > link.lost);
        if held && link.fault == Some(LinkFault::Stuck) {
            link.withheld.push(Occurrence::Apply(token));
            return;
        }
        let cache = cache_number(link.profile.cache.as_ref());
        let Some(flight) = link.flights.get_mut(&token) else { return };
        if !std::mem::replace(&mut flight.applied, true) {
            let Command { operation, extent, stamps, .. } = &flight.command;
            if *operation == Operation::Read {
                flight.found = self.array.read(*extent);
            } else {
                self.array.change(*operation, *extent, stamps, cache);
            }
        }
        if flight.answered {
            // Its answer went before it.
            link.flights.remove(&token);
            return;
        }
        if flight.muted {
            return;
        }
        let delay = self.delay(token.link);
        self.schedule(delay, Occurrence::Answer(token));
    }

    fn answer(&mut self, token: Token) {
        let link = &mut self.links[token.link];
        if let Some(LinkFault::Silent | LinkFault::Stuck | LinkFault::HalfDead) = link.fault {
            link.withheld.push(Occurrence::Answer(token));
            return;
        }
        let Some(flight) = link.flights.get_mut(&token) else { return };
        if std::mem::replace(&mut flight.answered, true) {
            return;
        }
        let (result, found) = (flight.result, std::mem::take(&mut flight.found));
        if flight.applied {
            link.flights.remove(&token);
        }
        self.deliver(token, Answer { number: token.number, result, found });
    }

    fn deliver(&mut self, token: Token, answer: Answer) {
        if let Some(sender) = self.senders.get_mut(&token.sender) {
            sender.answers.push(answer);
            sender.waker.wake();
        }
    }

    /// What came back for a path queue.
    pub(super) fn take_answers(&mut self, sender: u64) -> Vec<Answer> {
        self.senders.get_mut(&sender).map(|sender| std::mem::take(&mut sender.answers)).unwrap_or_default()
    }

    // Connections.

    /// Makes a connection; `None` if there is no way, or it was fenced before it was made.
    pub(super) fn connect(&mut self, link: LinkIndex, incarnation: Incarnation) -> Option<LinkProfile> {
        let state = &mut self.links[link];
        if incarnation <= state.lost {
            self.violations.push(format!("link {link}: a connection was fenced before it was made"));
        }
        if state.fault.is_some_and(|fault| !matches!(fault, LinkFault::HalfDead | LinkFault::Denied)) {
            return None;
        }
        let earlier = std::mem::replace(&mut state.connected, incarnation);
        let mut profile = state.profile.clone();
        profile.cache = profile.cache.map(|cache| state.alias.clone().unwrap_or(cache));
        if let FenceSupport::Assumed(_) = profile.fence {
            // What it assumes is that nothing of an earlier connection lives longer than that.
            self.disconnect(link, earlier);
        }
        Some(profile)
    }

    /// Switches a fault on.
    pub(super) fn break_link(&mut self, link: LinkIndex, fault: LinkFault) {
        self.links[link].fault = Some(fault);
        if fault == LinkFault::Dead {
            let through = self.links[link].connected;
            self.disconnect(link, through);
        }
    }

    /// The connections up to `through` are gone. What is out may have been done, may be done later, or never.
    fn disconnect(&mut self, link: LinkIndex, through: Incarnation) {
        let state = &mut self.links[link];
        state.lost = state.lost.max(through);
        let out: Vec<Token> = state
            .flights
            .iter()
            .filter(|(_, flight)| flight.incarnation <= through)
            .map(|(token, _)| *token)
            .collect();
        for token in out {
            let landing = self.landing(link);
            let lands = self.chance.random_range(0..2) == 0;
            let Some(flight) = self.links[link].flights.get_mut(&token) else { continue };
            let told = std::mem::replace(&mut flight.answered, true);
            let applied = flight.applied;
            if applied || !lands {
                self.links[link].flights.remove(&token);
            } else {
                self.schedule(landing, Occurrence::Apply(token));
            }
            if !told {
                let result = Err(Fault::Unknown { cause: Cause::Disconnected, fence: None });
                self.deliver(token, Answer { number: token.number, result, found: Vec::new() });
            }
        }
    }

    /// Ends a link's fault; what was withheld happens now.
    pub(super) fn restore(&mut self, link: LinkIndex) {
        self.links[link].fault = None;
        for occurrence in std::mem::take(&mut self.links[link].withheld) {
            let delay = self.delay(link);
            self.schedule(delay, occurrence);
        }
    }

    /// Changes how a link behaves from now on.
    pub(super) fn set_mishaps(&mut self, link: LinkIndex, mishaps: u32) {
        self.links[link].profile.mishaps = mishaps;
    }

    pub(super) fn probe(&mut self, link: LinkIndex, sink: ControlSink) {
        let there_and_back = self.delay(link).saturating_add(self.delay(link));
        self.links[link].sink = Some(sink.clone());
        self.schedule(there_and_back, Occurrence::Probed(link, sink));
    }

    fn answer_probe(&mut self, index: LinkIndex, sink: ControlSink) {
        let link = &mut self.links[index];
        link.news += 1;
        match link.fault {
            Some(LinkFault::Silent | LinkFault::Stuck) => link.withheld.push(Occurrence::Probed(index, sink)),
            _ if sink.incarnation() <= link.lost => sink.probed(Err(Cause::NotConnected)),
            _ => sink.probed(Ok(())),
        }
    }

    /// The connections up to `through` take nothing any more; what they have taken can take effect until the fence is
    /// made, which takes its time.
    pub(super) fn fence(
        &mut self,
        link: LinkIndex,
        through: Incarnation,
        sink: ControlSink,
    ) -> Result<(), Cause> {
        let state = &mut self.links[link];
        match state.fence_fault {
            Some(FenceFault::Fails) => return Err(Cause::NotConnected),
            Some(FenceFault::Silent) => return Ok(()),
            None => {}
        }
        state.lost = state.lost.max(through);
        let time = Duration::from_nanos(self.chance.random_range(0..=crate::time::nanos(LONGEST_FENCE)));
        self.schedule(time, Occurrence::Fenced(link, sink, through));
        Ok(())
    }

    /// Nothing of the connections up to `through` takes effect any more; what was out is answered as aborted.
    fn fenced(&mut self, link: LinkIndex, sink: &ControlSink, through: Incarnation) {
        let out: Vec<(Token, bool)> = self.links[link]
            .flights
            .iter()
            .filter(|(_, flight)| flight.incarnation <= through)
            .map(|(token, flight)| (*token, flight.answered))
            .collect();
        let result = Err(Fault::Unknown { cause: Cause::Aborted, fence: Some(FenceGrade::Proven) });
        let is_mute = matches!(self.links[link].fault, Some(LinkFault::Silent | LinkFault::Stuck));
        for (token, told) in out {
            let flights = &mut self.links[link].flights;
            if let Some(flight) = flights.get_mut(&token)
                && is_mute
                && !told
            {
                // It cannot land, and the path still holds its memory: until the link is restored.
                (flight.applied, flight.result) = (true, result);
                self.links[link].withheld.push(Occurrence::Answer(token));
                continue;
            }
            flights.remove(&token);
            if !told {
                self.deliver(token, Answer { number: token.number, result, found: Vec::new() });
            }
        }
        sink.fenced(through, FenceGrade::Proven);
    }

    /// Whether anything that was sent can still take effect.
    pub(super) fn is_quiet(&self) -> bool {
        self.links.iter().all(|link| link.flights.values().all(|flight| flight.applied))
    }
}

/// A cache's number from its name: the sum of its bytes, which is enough for the few names of a simulation.
fn cache_number(cache: Option<&CacheScope>) -> Option<u32> {
    cache.map(|scope| scope.0.bytes().map(u32::from).sum())
}

/// A link's cache, as a path describes it.
pub(super) fn cache_of(profile: &LinkProfile) -> Cache {
    profile.cache.clone().map_or(Cache::None, Cache::Shared)
}
