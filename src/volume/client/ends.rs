//! Which of a client's two ends are gone.

use crate::sync::{AtomicU32, Ordering, fence};

const HERE: u32 = 0;
const GONE: u32 = 1;

#[derive(Debug)]
pub(super) struct Ends {
    /// Whether no client is left to submit anything. The last of them writes it, and publishes what was put on the lane
    /// before; the door reads it.
    clients: AtomicU32,
    /// Whether the door is gone. It writes that as it goes, before it empties the lane; who has put something on the lane
    /// reads it. Publishes nothing: the fences order it against the lane.
    door: AtomicU32,
}

impl Ends {
    pub(super) fn new() -> Self {
        Self { clients: AtomicU32::new(HERE), door: AtomicU32::new(HERE) }
    }

    /// The last client goes.
    pub(super) fn leave(&self) {
        // Pairs with the load in `are_clients_gone`.
        self.clients.store(GONE, Ordering::Release);
    }

    /// Whether nothing comes any more: what is then found on the lane is all.
    pub(super) fn are_clients_gone(&self) -> bool {
        // Pairs with the store in `leave`.
        self.clients.load(Ordering::Acquire) == GONE
    }

    /// The door goes: it is to empty the lane after this.
    pub(super) fn shut(&self) {
        self.door.store(GONE, Ordering::Relaxed);
        // Pairs with the fence of the bell: whoever puts something on the lane and then rings, either finds the door
        // gone after that, or what he put there is found by whoever empties the lane after this.
        fence(Ordering::SeqCst);
    }

    /// Whether the door is gone. To be asked after something was put on the lane and the door's bell was rung, which is a
    /// fence: if so, the lane is to be emptied.
    pub(super) fn is_shut(&self) -> bool {
        self.door.load(Ordering::Relaxed) == GONE
    }
}
