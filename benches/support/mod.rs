//! What benches and the tests of cost share. Not everyone uses everything.

#![allow(dead_code)]
#![allow(clippy::expect_used, reason = "what fails here fails the bench or the test")]

pub(crate) mod closed_loop;
pub(crate) mod ledger;
pub(crate) mod line;
pub(crate) mod null_path;
pub(crate) mod shuffle;
