//! A deterministic simulator (cargo feature `sim`): the crate's own queues and supervisor over simulated links to a
//! simulated array, in virtual time, with faults.
//!
//! Only threads and the waking of threads lie outside: everything else is the code that runs in earnest, driven through
//! `trait Path`. A run depends on its seed and on what is called, and on nothing else.
//!
//! ```
//! use mpio::sim::{LinkFault, LinkProfile, Options, Simulation};
//! use mpio::{BlockCount, Cookie, Durability, Extent, Lba, Request};
//! use std::time::Duration;
//!
//! let options = Options::new(vec![LinkProfile::default(), LinkProfile::default()]);
//! let mut simulation = Simulation::new(&options)?;
//! simulation.break_link(0, LinkFault::Dead);
//!
//! let extent = Extent::new(Lba::new(3), BlockCount::new(1))?;
//! let buffer = simulation.stamped(1, 42).expect("a buffer is free");
//! simulation.submit(0, Request::write(extent, buffer, Durability::Cached, Cookie(7)))?;
//! assert!(simulation.run_until_idle(Duration::from_secs(1)));
//! assert!(simulation.take_completions()[0].1.result.is_ok());
//! assert_eq!(simulation.content()[3], 42);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod array;
mod fabric;
mod history;
mod link;
mod simulation;
mod witness;

pub use array::Stamp;
pub use fabric::{FenceFault, LinkFault, LinkIndex, LinkProfile};
pub use history::History;
pub use link::STAMP_BYTES;
pub use simulation::{Options, Simulation};
