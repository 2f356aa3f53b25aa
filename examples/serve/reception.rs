//! Receives commands from before there is a volume to the end.

use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mpio::Tick;

use crate::answer::{done, refused};
use crate::claim::Board;
use crate::desk::Desk;
use crate::log::Log;
use crate::paths::names;
use crate::service::News;
use crate::socket::Socket;

/// An answer, and what is to be done once it is given.
pub(crate) struct Reply {
    pub(crate) answer: String,
    pub(crate) then: Option<News>,
}

/// What clients of the control socket meet.
pub(crate) struct Reception {
    /// Where they come in, once it is there.
    pub(crate) socket: OnceLock<Socket>,
    /// Who carries out commands, once it serves.
    pub(crate) desk: OnceLock<Desk>,
    /// What it waits for until then.
    pub(crate) board: Arc<Board>,
    pub(crate) news: Sender<News>,
    pub(crate) log: Arc<Log>,
}

impl Reception {
    pub(crate) fn new(news: Sender<News>, log: Arc<Log>) -> Self {
        Self { socket: OnceLock::new(), desk: OnceLock::new(), board: Arc::default(), news, log }
    }

    /// Carries out one line.
    pub(crate) fn handle(&self, line: &str) -> Reply {
        match self.desk.get() {
            Some(desk) => desk.handle(line),
            None if line.trim() == "quit" => {
                let answer = done(&serde_json::json!({ "in_use": [] }));
                Reply { answer, then: Some(News::Quit) }
            }
            None => {
                let paths = names(&self.board.waiting(Tick::now(), Duration::ZERO));
                let problem = format!("it does not serve yet; it is {} ({paths})", self.board.step());
                Reply { answer: refused(&problem.replace(" ()", "")), then: None }
            }
        }
    }

    /// Does what was to be done after an answer.
    pub(crate) fn follow_up(&self, then: News) {
        // Nobody listens only when the process ends.
        let _ = self.news.send(then);
    }

    /// Receives nobody any more.
    pub(crate) fn close(&self) {
        if let Some(socket) = self.socket.get() {
            socket.remove();
        }
    }
}
