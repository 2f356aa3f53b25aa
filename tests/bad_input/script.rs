//! What a scripted path does, said by the test and changed while it runs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use mpio::path::Waker;
use mpio::path::{
    AccessState, Attempt, ControlSink, Description, Fault, FenceSupport, IdentifierKind, Identity, QueueIndex,
};
use mpio::{BlockCount, Error, Geometry, Limits, Tick};

pub(crate) const BLOCK: u32 = 512;
pub(crate) const BLOCKS: u64 = 64;
pub(crate) const TRANSFER: u32 = 16 * BLOCK;

/// What a device in memory holds; paths to one device share it.
pub(crate) type Medium = Arc<Mutex<Vec<u8>>>;

pub(crate) fn medium() -> Medium {
    Arc::new(Mutex::new(vec![0; BLOCK as usize * usize::try_from(BLOCKS).unwrap()]))
}

/// A place in a path's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Name,
    Connect,
    OpenQueue,
    Open,
    Submit,
    Event,
    Poll,
    Cancel,
    Probe,
    Fence,
    DropPath,
    DropOpening,
    DropQueue,
}

/// What the path does there, other than well.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Panic,
    /// Where there is an error to give: one that may pass.
    Fail(&'static str),
    /// One that stays.
    Refuse(&'static str),
    /// Waits at the gate, then goes on well.
    Wait(Gate),
    /// Says nothing, where something is to be said.
    Silence,
}

impl Act {
    fn perform(self) -> Result<(), Error> {
        match self {
            Self::Silence => Ok(()),
            // Without the hook, which would print it.
            Self::Panic => std::panic::resume_unwind(Box::new("scripted")),
            Self::Fail(problem) => {
                Err(Error::Unreachable { path: "scripted".to_owned(), problem: problem.to_owned() })
            }
            Self::Refuse(problem) => {
                Err(Error::Path { path: "scripted".to_owned(), problem: problem.to_owned() })
            }
            Self::Wait(gate) => {
                gate.pass();
                Ok(())
            }
        }
    }
}

/// What becomes of an attempt.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Is done.
    Serve,
    /// Is done as far as so many bytes go; it may say more than there are.
    Bytes(u32),
    Fail(Fault),
    /// Is kept until the script says [`Script::release`], and then served.
    Keep,
    /// Is given up, kept until the script says so, and then served.
    GiveUp(Fault),
    /// Is given up and then served in one batch.
    GiveUpAndServe(Fault),
    /// Is served, and given up after that.
    EndTwice,
    /// Is kept until the next that is to be swapped, and then both are served, with each other's memory.
    Swap,
    /// Is dropped.
    Lose,
    /// Is not taken.
    Decline,
    /// Is handed to this queue of a path, which ends it.
    Smuggle(Script, QueueIndex),
}

/// A gate that a test opens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    state: Arc<(Mutex<(u32, bool)>, Condvar)>,
}

impl Gate {
    pub(crate) fn pass(&self) {
        let mut state = self.state.0.lock().unwrap();
        state.0 += 1;
        self.state.1.notify_all();
        drop(self.state.1.wait_while(state, |state| !state.1).unwrap());
    }

    /// Waits until someone waits at the gate.
    pub(crate) fn arrival(&self) {
        let state = self.state.0.lock().unwrap();
        drop(self.state.1.wait_while(state, |state| state.0 == 0).unwrap());
    }

    pub(crate) fn open(&self) {
        self.state.0.lock().unwrap().1 = true;
        self.state.1.notify_all();
    }
}

pub(crate) struct State {
    pub(crate) description: Description,
    pub(crate) medium: Medium,
    acts: BTreeMap<Place, Act>,
    next_acts: BTreeMap<Place, VecDeque<Act>>,
    calls: BTreeMap<Place, u32>,
    answers: VecDeque<Answer>,
    usual: Answer,
    /// What `submit` and `poll` name as their next tick, if not what is right.
    pub(crate) tick: Option<Tick>,
    /// Attempts that were kept are to be served.
    pub(crate) released: bool,
    /// Attempts of another path or queue, and the queue that is to end them.
    pub(crate) contraband: Vec<(QueueIndex, Attempt)>,
    pub(crate) wakers: Vec<Waker>,
    pub(crate) sinks: Vec<ControlSink>,
}

/// What one scripted path does.
#[derive(Clone)]
pub(crate) struct Script(Arc<Mutex<State>>);

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script")
    }
}

impl Script {
    /// A path that does well, by the node `node` to the device `device`.
    pub(crate) fn new(device: &str, node: &str, medium: &Medium) -> Self {
        let identity = Identity::none().with(IdentifierKind::Custom, device).with_node(node);
        let blocks = BlockCount::new(16);
        let limits = Limits::new(TRANSFER).with_discard(blocks).with_write_zeroes(blocks);
        let mut description = Description::new(identity, Geometry::new(BLOCK, BLOCKS).unwrap(), limits);
        description.fence = FenceSupport::Proven;
        description.depth = 8;
        Self(Arc::new(Mutex::new(State {
            description,
            medium: Arc::clone(medium),
            acts: BTreeMap::new(),
            next_acts: BTreeMap::new(),
            calls: BTreeMap::new(),
            answers: VecDeque::new(),
            usual: Answer::Serve,
            tick: None,
            released: false,
            contraband: Vec::new(),
            wakers: Vec::new(),
            sinks: Vec::new(),
        })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Changes what the path says of itself from the next connection on.
    pub(crate) fn describe(self, change: impl FnOnce(&mut Description)) -> Self {
        change(&mut self.state().description);
        self
    }

    /// From now on.
    pub(crate) fn always(&self, place: Place, act: Act) {
        self.state().acts.insert(place, act);
    }

    /// Does well there again.
    pub(crate) fn well(&self, place: Place) {
        self.state().acts.remove(&place);
    }

    /// The next time.
    pub(crate) fn once(&self, place: Place, act: Act) {
        self.state().next_acts.entry(place).or_default().push_back(act);
    }

    /// The next attempt's answer.
    pub(crate) fn answer(&self, answer: Answer) {
        self.state().answers.push_back(answer);
    }

    /// The answer to every attempt from now on.
    pub(crate) fn answer_all(&self, answer: Answer) {
        let mut state = self.state();
        state.answers.clear();
        state.usual = answer;
    }

    /// Serves what was kept, and what will be.
    pub(crate) fn release(&self) {
        let mut state = self.state();
        state.released = true;
        state.wake();
    }

    /// Names this tick in every `submit` and `poll` from now on, or the right one again.
    pub(crate) fn name_tick(&self, tick: Option<Tick>) {
        let mut state = self.state();
        state.tick = tick;
        state.wake();
    }

    /// Says, unasked, that the device has another size.
    pub(crate) fn resize(&self, blocks: u64) {
        self.sink().capacity(blocks);
    }

    /// Says, unasked, that the access state is another.
    pub(crate) fn access(&self, state: AccessState) {
        self.sink().access_state(state);
    }

    fn sink(&self) -> ControlSink {
        self.state().sinks.last().expect("the path was probed or fenced before").clone()
    }

    /// How often the path came to that place.
    pub(crate) fn calls(&self, place: Place) -> u32 {
        self.state().calls.get(&place).copied().unwrap_or(0)
    }

    /// Does what the script says for that place.
    pub(crate) fn visit(&self, place: Place) -> Result<(), Error> {
        let act = self.state().arrive(place);
        act.map_or(Ok(()), Act::perform)
    }

    /// The same, where there is something to be said: whether to say it.
    pub(crate) fn says(&self, place: Place) -> Result<bool, Error> {
        let act = self.state().arrive(place);
        let silent = matches!(act, Some(Act::Silence));
        act.map_or(Ok(()), Act::perform)?;
        Ok(!silent)
    }

    /// The same where there is no way to say that it failed.
    pub(crate) fn speaks(&self, place: Place) -> bool {
        self.says(place).unwrap_or(true)
    }

    pub(crate) fn next_answer(&self) -> Answer {
        let mut state = self.state();
        let usual = state.usual.clone();
        state.answers.pop_front().unwrap_or(usual)
    }
}

impl State {
    fn arrive(&mut self, place: Place) -> Option<Act> {
        *self.calls.entry(place).or_default() += 1;
        let next = self.next_acts.get_mut(&place).and_then(VecDeque::pop_front);
        next.or_else(|| self.acts.get(&place).cloned())
    }

    pub(crate) fn wake(&self) {
        self.wakers.iter().for_each(Waker::wake);
    }
}
