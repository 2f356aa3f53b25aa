//! A client whose door the test itself attends, step by step.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{Builder, yield_now};

use super::*;
use crate::block::{BlockCount, Lba, LiveGeometry};
use crate::error::Fate;
use crate::io::{Completion, Memory};
use crate::volume::bell::Bell;
use crate::volume::dispatcher::door::{Asked, Door};

const BLOCK: u32 = 512;

struct Rig {
    client: Client,
    door: ClientDoor,
    pool: Pool,
}

fn rig(depth: u32) -> Rig {
    let pool = Pool::with_reserve(BLOCK, 8, 0).unwrap();
    let geometry = LiveGeometry::new(Geometry::new(BLOCK, 1000).unwrap());
    let shape = (geometry, Limits::new(64 * BLOCK));
    let pieces = Pieces::new(vec![pool.take(BLOCK).unwrap()], BLOCK);
    let desk = Arc::new(Desk::new(shape, depth, pieces, Bell::new(None)));
    let door = ClientDoor::new(Arc::clone(&desk), depth);
    Rig { client: Client { inner: Arc::new(Inner { desk }), timeout: None }, door, pool }
}

fn extent(block: u64) -> Extent {
    Extent::new(Lba::new(block), BlockCount::new(1)).unwrap()
}

impl Rig {
    fn write(&self, block: u64) -> Response {
        self.client.write(extent(block), self.pool.take(BLOCK).unwrap(), Durability::Cached)
    }

    /// The next request at the door.
    fn take(&mut self) -> Option<Request> {
        match self.door.next() {
            Some(Asked::Request(request)) => Some(request),
            Some(Asked::Cancel(_)) => panic!("nobody cancelled"),
            None => None,
        }
    }

    fn end(&mut self, request: Request, result: Result<(), Error>) {
        let memory = request.buffer.map_or(Memory::None, Memory::Returned);
        self.door.end(number(request.cookie), result, memory);
    }
}

#[allow(clippy::cast_possible_truncation)]
fn number(cookie: Cookie) -> u32 {
    cookie.0 as u32
}

/// Says on a channel which task it woke.
struct Teller(u32, Sender<u32>);

impl Wake for Teller {
    fn wake(self: Arc<Self>) {
        let _ = self.1.send(self.0);
    }
}

fn tellers() -> (impl Fn(u32) -> Waker, Receiver<u32>) {
    let (sender, woken) = channel();
    (move |task| Waker::from(Arc::new(Teller(task, sender.clone()))), woken)
}

fn poll(response: &mut Response, waker: &Waker) -> Option<Completion> {
    match std::pin::Pin::new(response).poll(&mut Context::from_waker(waker)) {
        Poll::Ready(completion) => Some(completion),
        Poll::Pending => None,
    }
}

fn ended(response: &mut Response) -> Option<Completion> {
    poll(response, Waker::noop())
}

fn fate(completion: &Completion) -> Option<Fate> {
    match completion.result {
        Err(Error::Closed { fate }) => Some(fate),
        _ => None,
    }
}

#[test]
fn requests_are_taken_in_the_order_in_which_they_were_sent() {
    let mut rig = rig(1);
    let (teller, woken) = tellers();
    let mut responses: Vec<_> = (0..300).map(|task| (task, rig.client.flush())).collect();
    for (task, response) in responses.iter_mut().rev() {
        assert!(poll(response, &teller(*task)).is_none());
    }
    for task in 0..300 {
        let request = rig.take().unwrap();
        assert!(rig.take().is_none() && rig.door.is_empty(), "there is one place");
        rig.end(request, Ok(()));
        rig.door.notify();
        assert_eq!(woken.try_recv(), Ok(task));
    }
    assert!(responses.iter_mut().all(|(_, response)| ended(response).is_some()));
}

#[test]
fn an_end_that_nobody_has_looked_at_does_not_hold_a_place() {
    let mut rig = rig(1);
    let (mut first, mut second) = (rig.client.flush(), rig.client.flush());
    for _ in 0..2 {
        let request = rig.take().unwrap();
        rig.end(request, Ok(()));
    }
    assert!(ended(&mut second).unwrap().result.is_ok());
    assert!(ended(&mut first).unwrap().result.is_ok());
    assert!(ended(&mut first).is_none(), "it ends once");
}

#[test]
fn a_response_dropped_while_it_waits_is_withdrawn() {
    let mut rig = rig(1);
    let (first, second, third) = (rig.write(1), rig.write(2), rig.write(3));
    let taken = rig.take().unwrap();
    let before = rig.pool.available();
    drop(second);
    assert_eq!(rig.pool.available(), before + 1, "its buffer is back at once");
    rig.end(taken, Ok(()));
    assert_eq!(rig.take().unwrap().extent, extent(3), "its turn goes to the next");
    drop((first, third));
}

#[test]
fn withdrawn_requests_do_not_pile_up_while_a_path_hangs() {
    let mut rig = rig(1);
    let (hangs, patient) = (rig.client.flush(), rig.client.flush());
    let request = rig.take().unwrap();
    for _ in 0..100 {
        for _ in 0..1000 {
            drop(rig.client.flush());
        }
        rig.door.expire(Tick::ZERO);
    }
    assert!(rig.door.waiting() < 5000, "{} are waiting", rig.door.waiting());
    rig.end(request, Ok(()));
    assert!(rig.take().is_some() && rig.take().is_none(), "the one that is still wanted is there");
    drop((hangs, patient));
}

#[test]
fn a_response_dropped_while_it_is_under_way_lets_it_run_on() {
    let mut rig = rig(2);
    let all = rig.pool.available();
    let (ends, is_quarantined) = (rig.write(1), rig.write(2));
    let (one, other) = (rig.take().unwrap(), rig.take().unwrap());
    drop((ends, is_quarantined));
    assert_eq!(rig.pool.available(), all - 2);
    rig.end(one, Ok(()));
    assert_eq!(rig.pool.available(), all - 1);
    rig.door.end(
        number(other.cookie),
        Err(Error::DeadlineExceeded { fate: Fate::Unknown }),
        Memory::Quarantined,
    );
    assert_eq!(rig.pool.available(), all - 1);
    rig.door.release(number(other.cookie), other.buffer.unwrap());
    assert_eq!(rig.pool.available(), all);
    let _more = [rig.client.flush(), rig.client.flush()];
    assert!(rig.take().is_some() && rig.take().is_some(), "both places are free");
}

#[test]
fn quarantined_memory_keeps_its_number_and_holds_no_place() {
    let mut rig = rig(1);
    let (mut first, _second) = (rig.write(1), rig.write(2));
    let request = rig.take().unwrap();
    rig.door.end(number(request.cookie), Ok(()), Memory::Quarantined);
    assert!(matches!(ended(&mut first).unwrap().memory, Memory::Quarantined));
    let next = rig.take().unwrap();
    assert_eq!(next.extent, extent(2));
    assert_ne!(next.cookie, request.cookie);
    rig.door.release(number(request.cookie), request.buffer.unwrap());
    let _third = rig.write(3);
    rig.end(next, Ok(()));
    assert_eq!(rig.take().unwrap().extent, extent(3));
}

#[test]
fn what_cannot_be_accepted_ends_at_once_with_its_buffer() {
    let mut rig = rig(1);
    let buffer = rig.pool.take(BLOCK).unwrap();
    let request = Request::write(extent(1000), buffer, Durability::Cached, Cookie(9));
    let mut response = rig.client.submit(request);
    let completion = ended(&mut response).unwrap();
    assert!(matches!(completion.result, Err(Error::OutOfRange { .. })));
    assert!(matches!(completion.memory, Memory::Returned(_)) && completion.cookie == Cookie(9));
    assert!(rig.take().is_none() && ended(&mut response).is_none());
}

#[test]
fn a_door_that_goes_ends_everything_once() {
    let Rig { client, mut door, pool } = rig(2);
    let send = |block| client.write(extent(block), pool.take(BLOCK).unwrap(), Durability::Cached);
    let (mut taken, mut flush, mut waiting) = (send(1), client.flush(), send(2));
    let held = [door.next(), door.next()];
    door.expire(Tick::ZERO);
    let mut queued = send(3);
    let (teller, woken) = tellers();
    assert!(poll(&mut taken, &teller(1)).is_none());
    assert!(poll(&mut queued, &teller(2)).is_none());
    drop(door);
    assert_eq!(woken.try_iter().count(), 2);
    let (taken, flush, queued) =
        (ended(&mut taken).unwrap(), ended(&mut flush).unwrap(), ended(&mut queued).unwrap());
    assert_eq!(
        [&taken, &flush, &queued].map(fate),
        [Some(Fate::Unknown), Some(Fate::Unknown), Some(Fate::NotSent)]
    );
    assert!(matches!(taken.memory, Memory::Quarantined));
    assert!(matches!(flush.memory, Memory::None));
    assert_eq!(ended(&mut waiting).as_ref().and_then(fate), Some(Fate::NotSent));
    assert!(matches!(queued.memory, Memory::Returned(_)));
    let late = send(4).wait();
    assert_eq!(fate(&late), Some(Fate::NotSent));
    assert!(matches!(late.memory, Memory::Returned(_)));
    assert!(matches!(client.read_at(&mut [0; 512], 0), Err(Error::Closed { fate: Fate::NotSent })));
    drop(held);
}

#[test]
fn a_door_is_left_when_clients_are_gone_and_nothing_is_on_the_lane() {
    let Rig { client, mut door, pool: _ } = rig(2);
    let other = client.clone().with_timeout(Duration::from_secs(100));
    let mut response = client.flush();
    drop(client);
    assert!(!door.is_left());
    drop(other);
    assert!(!door.is_left(), "a request is still to be taken");
    let Some(Asked::Request(request)) = door.next() else { panic!("it is on the lane") };
    assert!(door.is_left());
    door.end(number(request.cookie), Ok(()), Memory::None);
    assert!(ended(&mut response).unwrap().result.is_ok());
}

#[test]
fn a_waker_that_panics_keeps_nobody_else_from_being_woken() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker of the test's, which is to panic");
        }
    }
    let mut rig = rig(2);
    let (teller, woken) = tellers();
    let (mut bad, mut good) = (rig.client.flush(), rig.client.flush());
    assert!(poll(&mut bad, &Waker::from(Arc::new(Panics))).is_none());
    assert!(poll(&mut good, &teller(7)).is_none());
    for _ in 0..2 {
        let request = rig.take().unwrap();
        rig.end(request, Ok(()));
    }
    rig.door.notify();
    assert_eq!(woken.try_recv(), Ok(7));
    assert!(ended(&mut bad).is_some() && ended(&mut good).is_some());
}

#[test]
fn the_last_waker_is_the_one_that_is_woken() {
    let mut rig = rig(1);
    let (teller, woken) = tellers();
    let mut response = rig.client.flush();
    for task in 0..3 {
        assert!(poll(&mut response, &teller(task)).is_none());
    }
    let request = rig.take().unwrap();
    rig.end(request, Ok(()));
    rig.door.notify();
    assert_eq!(woken.try_iter().collect::<Vec<_>>(), [2]);
}

/// The waker is all that is left of a task, and with it the response goes, as when an executor has ended.
#[test]
fn a_response_may_be_dropped_by_its_own_waker() {
    struct Task(Mutex<Option<Response>>);
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    let mut rig = rig(1);
    let all = rig.pool.available();
    let task = Arc::new(Task(Mutex::new(Some(rig.write(1)))));
    let waker = Waker::from(Arc::clone(&task));
    assert!(poll(task.0.lock().unwrap().as_mut().unwrap(), &waker).is_none());
    drop((waker, task));
    let request = rig.take().unwrap();
    rig.end(request, Ok(()));
    rig.door.notify();
    assert_eq!(rig.pool.available(), all);
}

#[test]
fn calls_get_the_buffer_in_the_order_in_which_they_asked() {
    let rig = rig(4);
    let desk = &rig.client.inner.desk;
    let ops: Vec<_> = (0..3).map(|_| desk.op()).collect();
    let Ok(pieces::Turn::Given(buffer)) = desk.pieces.take(&ops[0]) else { panic!("one is free") };
    for op in &ops {
        assert!(matches!(desk.pieces.take(op), Ok(pieces::Turn::InLine)));
    }
    assert!(desk.pieces.take_now().is_none());
    // One that gives up passes its turn on, and one that has the buffer already gets it.
    assert!(desk.pieces.leave(&ops[0]).is_none());
    assert!(desk.pieces.give(buffer).is_none());
    assert!(!ops[0].is_ready() && ops[1].is_ready() && !ops[2].is_ready());
    let buffer = desk.pieces.leave(&ops[1]).unwrap();
    desk.pieces.give(buffer);
    assert!(ops[2].take_given().is_some());
}

#[test]
fn a_deadline_ends_the_wait_for_a_place() {
    let mut rig = rig(1);
    let (teller, woken) = tellers();
    let _holds_the_place = rig.client.flush();
    let request = rig.take().unwrap();
    let by = |nanos| Request::flush(Cookie(nanos)).with_deadline(Tick::from_nanos(nanos));
    let mut responses = [30, 10, 20].map(|nanos| rig.client.submit(by(nanos)));
    let patient = rig.client.flush();
    for (task, response) in (0..).zip(&mut responses) {
        assert!(poll(response, &teller(task)).is_none());
    }
    assert!(rig.door.is_unread());
    assert_eq!(rig.door.expire(Tick::from_nanos(5)), Some(Tick::from_nanos(10)));
    assert_eq!(rig.door.expire(Tick::from_nanos(20)), Some(Tick::from_nanos(30)));
    assert_eq!(woken.try_iter().collect::<Vec<_>>(), [1, 2]);
    let [mut still, mut one, mut other] = responses;
    for response in [&mut one, &mut other] {
        let error = ended(response).unwrap().result.unwrap_err();
        assert!(matches!(error, Error::DeadlineExceeded { fate: Fate::NotSent }));
    }
    assert!(ended(&mut still).is_none() && !rig.door.is_left());
    rig.end(request, Ok(()));
    assert!(!rig.door.is_empty());
    assert_eq!(rig.take().unwrap().deadline, Some(Tick::from_nanos(30)), "the order is kept");
    drop(patient);
}

#[test]
fn a_deadline_ends_the_wait_for_a_buffer() {
    let rig = rig(1);
    let _buffer = rig.client.inner.desk.pieces.take_now().unwrap();
    let hasty = rig.client.with_timeout(Duration::from_millis(1));
    let error = hasty.read_at(&mut [0; 512], 0).unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded { fate: Fate::NotSent }));
}

#[test]
fn a_write_of_which_a_part_was_sent_is_not_said_to_be_unsent() {
    let Rig { client, mut door, pool: _ } = rig(1);
    let writer = client.clone();
    let thread = Builder::new().spawn(move || writer.write_at(&[1; 1024], 0, Durability::Cached)).unwrap();
    // There is one buffer, so the second part is sent when the first has ended.
    let first = loop {
        if let Some(Asked::Request(request)) = door.next() {
            break request;
        }
        yield_now();
    };
    door.end(number(first.cookie), Ok(()), first.buffer.map_or(Memory::None, Memory::Returned));
    door.notify();
    drop(door);
    assert!(matches!(thread.join().unwrap(), Err(Error::Closed { fate: Fate::Unknown })));
    assert!(matches!(
        client.write_at(&[1; 512], 0, Durability::Cached),
        Err(Error::Closed { fate: Fate::NotSent })
    ));
}

#[test]
fn a_door_that_goes_ends_the_wait_for_a_buffer() {
    let Rig { client, door, pool: _ } = rig(1);
    let desk = &client.inner.desk;
    let _quarantined = desk.pieces.take_now().unwrap();
    let op = desk.op();
    assert!(matches!(desk.pieces.take(&op), Ok(pieces::Turn::InLine)));
    drop(door);
    let closed = |error: &Error| matches!(error, Error::Closed { fate: Fate::NotSent });
    assert!(op.collect().is_some_and(|(result, _)| closed(&result.unwrap_err())));
    assert!(closed(&client.read_at(&mut [0; 512], 0).unwrap_err()));
}
