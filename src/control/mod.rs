//! What the queues of a volume must agree on: one state machine per volume, without clock, thread or system call.
//!
//! Evidence from queues and reports from paths come in with `now`; snapshots, actions for the paths' helpers, events
//! and the next deadline come out.
//!
//! ```text
//!            failed, silent                 probe failed or late
//!     Up ───────────────────────► Suspect ───────────────────────► Down ◄──┐ probe or
//!      ▲                             │                              │      │ connect failed,
//!      └────────── probe is good ────┴──── (connected and) probed ──┘──────┘ pause doubles
//! ```
//!
//! Queues may exclude a path at once by themselves, but only an admission by the supervisor ends that.

mod admission;
mod event;
mod fence;
mod health;
mod member;
mod membership;
mod supervisor;
#[cfg(test)]
mod tests;

pub(crate) use admission::{Promise, Voucher};
pub use event::{Event, EventKind};
pub(crate) use member::Terms;
pub(crate) use membership::Standing;
pub(crate) use supervisor::{Action, Config, Supervisor};
