//! Signals that end the service.

use std::io;
use std::sync::mpsc::Sender;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::service::News;

/// Tells the main thread of each.
///
/// # Errors
/// Why they cannot be watched.
pub(crate) fn watch(news: Sender<News>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    thread::Builder::new().name("serve-signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            let name = match signal {
                SIGTERM => "SIGTERM",
                SIGINT => "SIGINT",
                _ => "SIGHUP",
            };
            if news.send(News::Signal(name)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}
