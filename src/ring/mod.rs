//! Handing things from thread to thread without locks: [`lane`] carries them, [`doorbell`] wakes who waits for them.
//! Knows nothing of I/O.

pub(crate) mod doorbell;
pub(crate) mod lane;
#[cfg(all(test, loom))]
mod loom_models;
