//! `examples/verify`: that it is content with what a storage may do, and finds what it must not do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod command_line;
mod history;
mod liar;
mod lies;
mod model;
mod processes;
mod saved;
mod stamps;

#[path = "../../examples/verify/block.rs"]
mod block;
#[path = "../../examples/verify/content.rs"]
mod content;
#[path = "../../examples/verify/ledger.rs"]
mod ledger;
#[allow(dead_code, reason = "what goes on with an earlier run is tested with the program")]
#[path = "../../examples/verify/load.rs"]
mod load;
#[path = "../../examples/verify/measure.rs"]
mod measure;
#[path = "../../examples/verify/options.rs"]
mod options;
#[path = "../../examples/verify/outage.rs"]
mod outage;
#[allow(dead_code, reason = "the set-up is tested with the program")]
#[path = "../../examples/verify/portion.rs"]
mod portion;
#[path = "../../examples/verify/rig.rs"]
mod rig;
#[path = "../../examples/verify/stamp.rs"]
mod stamp;
#[path = "../../examples/verify/state.rs"]
mod state;
#[path = "../../examples/verify/storage.rs"]
mod storage;
#[allow(dead_code, reason = "the devices of these tests are no files")]
#[path = "../../examples/verify/system.rs"]
mod system;
#[allow(dead_code, reason = "the report is tested with the program")]
#[path = "../../examples/verify/tally.rs"]
mod tally;
#[allow(dead_code, reason = "each crate that takes it in uses part of it")]
#[path = "../../src/testing_support.rs"]
mod testing_support;
