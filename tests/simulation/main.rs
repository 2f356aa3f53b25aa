//! The crate's queues and supervisor under an adversary, against a naive model of what may be read.

mod guarantees;
mod harness;
mod stories;
