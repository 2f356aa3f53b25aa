//! Sleeping and waking, with a ring and without.

#![cfg(not(loom))]
#![allow(clippy::disallowed_methods, reason = "tests start threads")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use super::{NoRoom, Port, Reactor, Registered, Span};
use crate::buffer::{Direction, Lent, Pool};
use crate::io::Durability;
use crate::testing_support::TempDir;
use crate::time::Tick;

const PORT: Port = Port::new(9);

fn null() -> Arc<File> {
    Arc::new(File::options().read(true).write(true).open("/dev/null").unwrap())
}

/// Reactors of every kind, each with what keeps its ring in use.
fn kinds() -> [(Reactor, Option<Registered>); 3] {
    let mut ring = Reactor::new(Vec::new(), 4).unwrap();
    let registered = ring.register(PORT, null());
    assert!(registered.is_some(), "{:?}", ring.take_warning());
    [
        (Reactor::new(Vec::new(), 4).unwrap(), None),
        (Reactor::without_ring().unwrap(), None),
        (ring, registered),
    ]
}

/// A read of nothing much: its event is the number of bytes, 0 from `/dev/null`.
fn start_read(reactor: &mut Reactor, file: &Registered, token: u32, memory: Span) -> Result<(), NoRoom> {
    // SAFETY: every test that calls this keeps the lease of `memory` until it has seen the event, or loses it.
    #[allow(unsafe_code)]
    unsafe {
        reactor.read(file, token, memory, 0)
    }
}

fn lent() -> (Lent, Span) {
    let mut lent = Lent::new(Pool::new(4096, 1).unwrap().take(4096).unwrap(), Direction::Sink);
    let lease = lent.lend(0).unwrap();
    (lent, Span { start: lease.address(), len: 4096 })
}

/// The next event: port, token, result.
fn ended(reactor: &mut Reactor) -> Option<(Port, u32, i32)> {
    reactor.next_event().map(|(port, event)| (port, event.token, event.result))
}

#[test]
fn an_event_is_of_the_file_that_it_ended_for_and_a_file_of_its_ring() {
    let [.., (mut reactor, file)] = kinds();
    let file = file.unwrap();
    let neighbour = reactor.register(PORT, null()).unwrap();
    let mut other = Reactor::new(Vec::new(), 8).unwrap();
    let stranger = other.register(PORT, null()).unwrap();
    let (_lent, memory) = lent();
    assert_eq!(start_read(&mut other, &file, 1, memory), Err(NoRoom), "it is registered elsewhere");
    let (_lent, memory) = lent();
    start_read(&mut reactor, &file, 1, memory).unwrap();
    reactor.flush();
    let (_, event) = reactor.next_event().unwrap();
    assert!(file.owns(&event) && !neighbour.owns(&event) && !stranger.owns(&event));
}

#[test]
fn wait_ends_at_a_wake_before_it_and_at_one_during_it() {
    for (mut reactor, _file) in kinds() {
        let (waker, bell) = (reactor.waker(PORT), reactor.bell());
        for round in 0..50 {
            let waker = waker.clone();
            let thread = thread::spawn(move || waker.wake());
            while reactor.take_ready() == 0 {
                reactor.wait(None);
                assert_eq!(reactor.next_event(), None, "round {round}");
            }
            thread.join().unwrap();
        }
        bell.wake();
        reactor.wait(None);
        assert_eq!(reactor.take_ready(), 0);
    }
}

#[test]
fn wait_ends_at_its_time() {
    for (mut reactor, _file) in kinds() {
        let until = Tick::now().after(Duration::from_millis(3));
        while Tick::now() < until {
            reactor.wait(Some(until));
        }
        reactor.wait(Some(Tick::ZERO));
    }
}

/// The poll on the eventfd ends with the thread that put it on the ring.
#[test]
fn wakes_arrive_after_the_thread_that_slept_first_has_ended() {
    for (mut reactor, file) in kinds() {
        let (sender, receiver) = mpsc::channel();
        let first = thread::spawn(move || {
            reactor.wait(Some(Tick::now().after(Duration::from_millis(1))));
            sender.send((reactor, file)).unwrap();
        });
        let (mut reactor, _file) = receiver.recv().unwrap();
        first.join().unwrap();
        for _ in 0..3 {
            let waker = reactor.waker(PORT);
            let thread = thread::spawn(move || waker.wake());
            while reactor.take_ready() == 0 {
                reactor.wait(None);
                assert_eq!(reactor.next_event(), None);
            }
            thread.join().unwrap();
        }
    }
}

fn is_readable(reactor: &mut Reactor) -> bool {
    let mut poll =
        libc::pollfd { fd: reactor.wake_fd().unwrap().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid entry.
    #[allow(unsafe_code)]
    let count = unsafe { libc::poll(&raw mut poll, 1, 0) };
    count > 0
}

#[test]
fn the_wake_descriptor_tells_of_wakes_and_events() {
    for (mut reactor, file) in kinds() {
        assert!(!is_readable(&mut reactor));
        reactor.bell().wake();
        assert!(is_readable(&mut reactor));
        reactor.take_ready();
        assert!(!is_readable(&mut reactor));
        let Some(file) = file else { continue };
        let (_lent, memory) = lent();
        start_read(&mut reactor, &file, 3, memory).unwrap();
        reactor.flush();
        assert!(is_readable(&mut reactor));
        assert_eq!(ended(&mut reactor), Some((PORT, 3, 0)));
        assert!(!is_readable(&mut reactor));
    }
}

#[test]
fn the_wake_descriptor_follows_a_ring_that_is_made_later() {
    let mut reactor = Reactor::new(Vec::new(), 4).unwrap();
    assert!(!is_readable(&mut reactor));
    let file = reactor.register(PORT, null()).unwrap();
    let (_lent, memory) = lent();
    start_read(&mut reactor, &file, 1, memory).unwrap();
    reactor.flush();
    assert!(is_readable(&mut reactor));
}

#[test]
fn a_full_submission_queue_is_submitted_and_a_full_ring_gives_back() {
    let [.., (mut reactor, file)] = kinds();
    let file = file.unwrap();
    let (_lent, memory) = lent();
    let mut taken = 0;
    while start_read(&mut reactor, &file, taken, memory).is_ok() {
        taken += 1;
    }
    assert!(taken > 4, "beyond the submission queue's entries");
    reactor.flush();
    let mut tokens: Vec<u32> =
        std::iter::from_fn(|| reactor.next_event()).map(|(_, event)| event.token).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, (0..taken).collect::<Vec<_>>());
    assert_eq!(start_read(&mut reactor, &file, 0, memory), Ok(()), "there is room again");
}

#[test]
fn events_of_a_file_that_was_given_up_go_nowhere() {
    let [.., (mut reactor, file)] = kinds();
    let (_lent, memory) = lent();
    start_read(&mut reactor, file.as_ref().unwrap(), 1, memory).unwrap();
    drop(file);
    let again = reactor.register(Port::new(2), null()).unwrap();
    start_read(&mut reactor, &again, 2, memory).unwrap();
    reactor.flush();
    assert_eq!(ended(&mut reactor), Some((Port::new(2), 2, 0)));
    assert_eq!(reactor.next_event(), None);
}

#[test]
fn files_beyond_the_kernel_s_table_work_by_descriptor() {
    let [.., (mut reactor, _file)] = kinds();
    let files: Vec<Registered> = (0..200).map(|_| reactor.register(PORT, null()).unwrap()).collect();
    let (_lent, memory) = lent();
    for (token, file) in (0..).zip(&files) {
        start_read(&mut reactor, file, token, memory).unwrap();
    }
    reactor.flush();
    let events: Vec<_> = std::iter::from_fn(|| reactor.next_event()).collect();
    assert_eq!(events.len(), 200);
    assert!(events.iter().all(|(_, event)| event.result == 0));
}

#[test]
fn registered_and_plain_memory_move_the_same_bytes() {
    let dir = TempDir::new();
    let pool = Pool::new(4096, 2).unwrap();
    let path = dir.file("disk", 4096);
    for pools in [vec![pool.clone()], Vec::new()] {
        let mut reactor = Reactor::new(pools, 4).unwrap();
        let file = Arc::new(File::options().read(true).write(true).open(&path).unwrap());
        let registered = reactor.register(PORT, file).unwrap();
        let mut buffer = pool.take(4096).unwrap();
        buffer.fill(0x42);
        let mut source = Lent::new(buffer, Direction::Source);
        let lease = source.lend(0).unwrap();
        let memory = Span { start: lease.address(), len: 4096 };
        // SAFETY: the lease is held until the event was seen.
        #[allow(unsafe_code)]
        unsafe { reactor.write(&registered, 1, memory, 0, Durability::Fua) }.unwrap();
        let event = std::iter::repeat_with(|| {
            reactor.wait(None);
            reactor.next_event()
        });
        let (_, event) = event.flatten().next().unwrap();
        assert_eq!(event.result, 4096);
        source.give_back(lease).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), [0x42; 4096]);
        std::fs::write(&path, [0; 4096]).unwrap();
    }
}

/// Has `number` fail with `EPERM` on this thread, as a container's filter would.
#[allow(unsafe_code)]
fn forbid(number: libc::c_long) {
    let (load, jump, ret) =
        (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ, libc::BPF_RET);
    let word =
        |code: u32, jf: u8, k: u32| libc::sock_filter { code: u16::try_from(code).unwrap(), jt: 0, jf, k };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
    let mut program = [
        word(load, 0, 0),
        word(jump, 1, u32::try_from(number).unwrap()),
        word(ret, 0, refuse),
        word(ret, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    let (on, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: plain numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, on, unused, unused, unused) }, 0);
    let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
    // SAFETY: `filter` names a valid program, which the call copies.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter) }, 0);
}

/// What the reactor says when a thread of its own may not make this call, and whether it made a ring.
fn without(number: libc::c_long) -> (Option<String>, bool) {
    let attempt = move || {
        forbid(number);
        let mut reactor = Reactor::new(vec![Pool::new(4096, 1).unwrap()], 4).unwrap();
        let has_ring = reactor.register(PORT, null()).is_some();
        (reactor.take_warning(), has_ring)
    };
    thread::spawn(attempt).join().unwrap()
}

#[test]
fn where_io_uring_is_forbidden_threads_are_used_and_one_warning_says_so() {
    for number in [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter] {
        let (warning, has_ring) = without(number);
        let warning = warning.unwrap();
        assert!(
            !has_ring && warning.starts_with("io_uring is not available: Operation not permitted"),
            "{warning}"
        );
    }
}

#[test]
fn where_registration_is_forbidden_the_ring_works_without_it() {
    let (warning, has_ring) = without(libc::SYS_io_uring_register);
    assert!(has_ring && warning.unwrap().contains("raise RLIMIT_MEMLOCK"));
}
