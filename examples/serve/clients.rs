//! Those who are connected to the control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use mpio::Tick;

use crate::answer::refused;
use crate::log::Log;
use crate::reception::{Reception, Reply};
use crate::socket::Socket;

/// Most clients at once. When there is one more, the one that was silent for the longest time has to go.
const MOST: usize = 64;
/// Most bytes in a line.
const LONGEST_LINE: u64 = 4096;
/// Of a line that is too long so much is read before its sender is cut off, so that an honest one sees the answer.
const MOST_DISCARDED: u64 = 16 << 20;
/// How long a client may leave an answer unread, or a line unfinished that is too long already.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait when no client can be let in (no descriptors, no memory).
const PAUSE: Duration = Duration::from_millis(100);

/// Lets clients in, for as long as the process lives.
///
/// # Errors
/// Why there is no thread for it.
pub(crate) fn serve(socket: &Socket, reception: Arc<Reception>) -> io::Result<()> {
    let listener = socket.listener.try_clone()?;
    let clients = Arc::new(Clients::default());
    thread::Builder::new().name("serve-control".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            if let Err(error) = stream.and_then(|stream| admit(&clients, &reception, stream)) {
                reception.log.line(format!("control: a client could not be let in: {error}"));
                thread::park_timeout(PAUSE);
            }
        }
    })?;
    Ok(())
}

fn admit(clients: &Arc<Clients>, reception: &Arc<Reception>, stream: UnixStream) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let seat = clients.seat(stream.try_clone()?, &reception.log);
    let reception = Arc::clone(reception);
    thread::Builder::new().name("serve-client".to_owned()).spawn(move || {
        // What goes wrong with a client is its own affair.
        let _ = attend(&reception, &seat, stream);
    })?;
    Ok(())
}

/// Answers a client's lines until it goes.
fn attend(reception: &Reception, seat: &Seat, stream: UnixStream) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut answers = stream;
    loop {
        let mut line = Vec::new();
        lines.by_ref().take(LONGEST_LINE + 1).read_until(b'\n', &mut line)?;
        seat.stir();
        if line.last() != Some(&b'\n') && line.len() as u64 > LONGEST_LINE {
            answers.set_read_timeout(Some(PATIENCE))?;
            skip_line(&mut lines);
            let problem = format!("a line of more than {LONGEST_LINE} bytes; no command is so long");
            return say(&mut answers, &refused(&problem));
        }
        if line.is_empty() {
            return Ok(());
        }
        let Ok(line) = str::from_utf8(&line) else {
            say(&mut answers, &refused("the line is no text (UTF-8); send help for the commands"))?;
            continue;
        };
        let Reply { answer, then } = reception.handle(line);
        let said = say(&mut answers, &answer);
        // It counts even if nobody read the answer.
        if let Some(then) = then {
            reception.follow_up(then);
        }
        said?;
        seat.stir();
    }
}

/// Reads what is left of a line, within reason.
fn skip_line(lines: &mut BufReader<UnixStream>) {
    let mut left = lines.take(MOST_DISCARDED);
    while let Ok(read) = left.fill_buf() {
        let end = read.iter().position(|&byte| byte == b'\n');
        let (bytes, is_over) = (end.map_or(read.len(), |end| end + 1), end.is_some() || read.is_empty());
        left.consume(bytes);
        if is_over {
            return;
        }
    }
}

fn say(answers: &mut UnixStream, answer: &str) -> io::Result<()> {
    answers.write_all(format!("{answer}\n").as_bytes())
}

/// Who is connected.
#[derive(Default)]
struct Clients {
    seated: Mutex<Seated>,
}

#[derive(Default)]
struct Seated {
    count: u64,
    clients: Vec<Client>,
}

struct Client {
    id: u64,
    stream: UnixStream,
    stirred: Tick,
}

/// A client's place, given up when dropped.
struct Seat {
    clients: Arc<Clients>,
    id: u64,
}

impl Clients {
    fn seat(self: &Arc<Self>, stream: UnixStream, log: &Log) -> Seat {
        let mut seated = self.lock();
        while seated.clients.len() >= MOST {
            let silent = seated.clients.iter().enumerate().min_by_key(|(_, client)| client.stirred);
            let Some((index, _)) = silent else { break };
            // Its thread sees that and ends.
            let _ = seated.clients.swap_remove(index).stream.shutdown(Shutdown::Both);
            log.line(format!("control: more than {MOST} clients; the one that was silent longest is let go"));
        }
        seated.count += 1;
        let id = seated.count;
        seated.clients.push(Client { id, stream, stirred: Tick::now() });
        Seat { clients: Arc::clone(self), id }
    }

    fn lock(&self) -> MutexGuard<'_, Seated> {
        self.seated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// The client has done something.
    fn stir(&self) {
        let mut seated = self.clients.lock();
        if let Some(client) = seated.clients.iter_mut().find(|client| client.id == self.id) {
            client.stirred = Tick::now();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.clients.lock().clients.retain(|client| client.id != self.id);
    }
}
