//! What benches and the tests of cost share. Not everyone uses everything.

#![allow(dead_code)]

pub(crate) mod closed_loop;
pub(crate) mod ledger;
pub(crate) mod line;
pub(crate) mod null_path;
pub(crate) mod shuffle;
