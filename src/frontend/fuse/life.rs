//! How a server's threads are told to end.

use std::sync::{Arc, Mutex, PoisonError};

use crate::reactor::Waker;
use crate::sync::{AtomicU32, Ordering};

use super::server::Ended;
use super::standing::Standing;

/// Set in `orders`: every thread closes its channel.
const CLOSE: u32 = 1;
/// Set in `orders`: every thread leaves what its queue has under way.
const ABANDON: u32 = 2;

/// What the threads and the handle share.
#[derive(Debug, Default)]
pub(super) struct Life {
    pub(super) standing: Arc<Standing>,
    /// Written by whoever ends the server, read by each thread once a turn. The bells ring after it is written.
    orders: AtomicU32,
    bells: Mutex<Vec<Waker>>,
}

impl Life {
    /// A thread with a channel is about to start.
    pub(super) fn join(&self, bell: Option<Waker>) {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner).extend(bell);
        self.standing.join();
    }

    /// A thread has closed its channel. If it failed the others close theirs, so that the kernel ends the connection.
    pub(super) fn leave(&self, why: Ended) {
        let failed = matches!(why, Ended::Failed(_));
        // The first to say why is believed: the others will say that they were told to.
        self.standing.leave(why);
        if failed {
            self.order(CLOSE);
        }
    }

    /// Ends everything now.
    pub(super) fn abort(&self) {
        self.order(CLOSE | ABANDON);
    }

    fn order(&self, orders: u32) {
        // Pairs with the load in `ordered`.
        self.orders.fetch_or(orders, Ordering::Release);
        let bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        bells.iter().for_each(Waker::wake);
    }

    fn ordered(&self, orders: u32) -> bool {
        // Pairs with `fetch_or` in `order`.
        self.orders.load(Ordering::Acquire) & orders != 0
    }

    /// Whether channels are to be closed.
    pub(super) fn is_closing(&self) -> bool {
        self.ordered(CLOSE)
    }

    /// Whether what is under way is to be left.
    pub(super) fn is_abandoned(&self) -> bool {
        self.ordered(ABANDON)
    }
}
