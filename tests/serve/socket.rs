//! The control socket under clients that behave badly.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::rig::{Connection, Serve, can_serve, until};
use crate::testing_support::TempDir;

/// A server over one file, and the file's directory.
fn serve() -> Option<(Serve, TempDir)> {
    can_serve().then(|| {
        let dir = TempDir::in_memory();
        let file = dir.file("file", 1 << 20);
        (Serve::start(&["--path", file.to_str().unwrap()]), dir)
    })
}

#[test]
fn lines_that_are_no_commands_are_answered_with_what_would_be() {
    let Some((serve, _dir)) = serve() else { return };
    let table = [
        ("", "stats, paths, fail"),
        ("   ", "stats, paths, fail"),
        ("Stats", "stats, paths, fail"),
        ("{\"command\":\"stats\"}", "stats, paths, fail"),
        ("stats 1", "takes no"),
        ("stats\0", "stats, paths, fail"),
        ("paths all", "takes no"),
        ("fail", "number"),
        ("fail one", "number"),
        ("fail -1", "number"),
        ("fail 4294967296", "number"),
        ("fail 1", "there is no path 1; there is 0"),
        ("fail 0 1", "takes no"),
        ("restore 7", "there is no path 7"),
        ("remove 7", "there is no path 7"),
        ("slow 0", "time"),
        ("slow 0 20", "20ms"),
        ("slow 0 -20ms", "20ms"),
        ("stall 0", "late or lost"),
        ("stall 0 dead", "late and lost"),
        ("stall 0 late fence", "takes no"),
        ("stall 0 late fence=", "duration"),
        ("stall 0 late fence=soon", "duration"),
        ("stall 0 lost fence=1s fence=1s", "twice"),
        ("stall 0 late land=1s", "land="),
        ("error 0", "rate"),
        ("error 0 2 before", "rate"),
        ("error 0 101% before", "rate"),
        ("error 0 1000001ppm before", "rate"),
        ("error 0 -1% before", "rate"),
        ("error 0 0.00000001 before", "finer"),
        ("error 0 . before", "rate"),
        ("error 0 1. before", "rate"),
        ("error 0 nan before", "rate"),
        ("error 0 1%", "before, after, medium or busy"),
        ("error 0 1% never", "before, after, medium and busy"),
        ("error 0 1% busy fence=1s", "fence="),
        ("error 0 1% before land=1s", "land="),
        ("add", "block device or file"),
        ("add /nonexistent", "/nonexistent"),
        ("add /dev/null", "character device"),
        ("policy", "name"),
        ("policy fastest", "failover, round-robin, least-queue"),
        ("help me", "takes no"),
    ];
    let mut client = Connection::open(serve.socket());
    for (line, words) in table {
        let answer = client.ask(line);
        assert_eq!(answer["ok"], false, "{line}: {answer}");
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains(words), "{line:?} is answered {error:?}, which lacks {words:?}");
    }
    client.send(b"\xff\xfe\xfd\n");
    assert_eq!(client.answer().unwrap()["ok"], false);
    assert_eq!(client.ask("stats")["ok"], true, "the client can go on");
    serve.terminate().with(0);
}

#[test]
fn a_line_that_is_too_long_is_answered_and_ends_the_connection() {
    let Some((serve, _dir)) = serve() else { return };
    let mut line = vec![b'x'; 1 << 16];
    line.push(b'\n');
    let mut client = Connection::open(serve.socket());
    client.send(&line);
    let answer = client.answer().unwrap();
    assert_eq!((answer["ok"].as_bool(), client.answer()), (Some(false), None), "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("4096"));

    // One that never ends.
    let mut client = Connection::open(serve.socket());
    let endless = vec![b'x'; 1 << 16];
    until("the client is never cut off", || client.stream().write_all(&endless).is_err());
    serve.must("stats");
}

#[test]
fn lines_may_come_in_pieces_at_once_or_without_an_end() {
    let Some((serve, _dir)) = serve() else { return };
    let mut client = Connection::open(serve.socket());
    client.send(b"st");
    client.send(b"ats\r\npaths\nhelp\nsta");
    let answers: Vec<_> = (0..3).map(|_| client.answer().unwrap()).collect();
    assert!(answers[0]["device"].is_string() && answers[1]["paths"].is_array());
    assert!(answers[2]["commands"].is_array());
    client.send(b"ts");
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert!(client.answer().unwrap()["device"].is_string());
    assert_eq!(client.answer(), None);
}

#[test]
fn a_client_that_never_reads_holds_up_nobody_and_is_dropped() {
    let Some((serve, _dir)) = serve() else { return };
    let mut deaf = Connection::open(serve.socket());
    deaf.stream().set_write_timeout(Some(Duration::from_millis(10))).unwrap();
    until("the deaf client is never dropped", || {
        serve.must("stats");
        let sent = deaf.stream().write(b"stats\npaths\n");
        sent.is_err_and(|error| !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    });
}

#[test]
fn clients_that_say_nothing_make_room_for_those_that_do() {
    let Some((serve, _dir)) = serve() else { return };
    let mut first = Connection::open(serve.socket());
    let silent: Vec<Connection> = (0..200).map(|_| Connection::open(serve.socket())).collect();
    let mut late = Connection::open(serve.socket());
    assert_eq!(late.ask("stats")["ok"], true);
    assert_eq!(first.answer(), None, "the one that was silent for longest is let go");
    drop(silent);
    assert_eq!(late.ask("stats")["ok"], true);
    serve.terminate().with(0);
}

#[test]
fn the_socket_is_its_owner_s_alone_and_goes_with_the_server() {
    if !can_serve() {
        return;
    }
    let dir = TempDir::in_memory();
    let (file, socket) = (dir.file("file", 1 << 20), dir.path().join("control"));
    let serve = Serve::start_at(&["--path", file.to_str().unwrap()], &socket);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    // A second server is refused, and takes nothing away.
    let args = ["--path", "/nonexistent", "--control", socket.to_str().unwrap()];
    let second = std::process::Command::new(crate::rig::program()).args(args).output().unwrap();
    assert_eq!(second.status.code(), Some(3));
    serve.must("stats");
    serve.terminate().with(0);
    assert!(!socket.exists());
}
