//! The thread on which a volume's control side runs.

use crossbeam::channel::{Receiver, RecvTimeoutError};

use crate::error::Error;
use crate::os::spawn_io_thread;
use crate::time::Tick;

use super::conductor::Conductor;
use super::shared::Message;

/// Starts it; it ends with the volume.
pub(super) fn start(conductor: Conductor, inbox: Receiver<Message>) -> Result<(), Error> {
    spawn_io_thread("mpio-control", move || run(conductor, &inbox))
}

fn run(mut conductor: Conductor, inbox: &Receiver<Message>) {
    loop {
        // The last turn is the one in which it has closed: it tells the queues, and lets the paths go.
        let due = conductor.turn(Tick::now());
        if conductor.is_closed() {
            break;
        }
        let received = match due {
            Some(due) => inbox.recv_timeout(due.since(Tick::now())),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok(message) => conductor.handle(Tick::now(), message),
            Err(RecvTimeoutError::Timeout) => {}
            // The conductor itself holds a sender: it cannot come to this.
            Err(RecvTimeoutError::Disconnected) => break,
        }
        for message in inbox.try_iter() {
            conductor.handle(Tick::now(), message);
        }
    }
}
