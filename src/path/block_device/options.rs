//! What the user may set.

use std::time::Duration;

use crate::block::Geometry;
use crate::error::Error;
use crate::path::FenceSupport;

/// Settings of a block device path.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) claim_timeout: Duration,
    /// `None`: what its link allows.
    pub(super) fence: Option<FenceSupport>,
    /// Most attempts at once.
    pub(super) depth: u32,
    /// Of a regular file.
    pub(super) block_size: Option<u32>,
}

/// Most attempts at once unless told otherwise.
const DEPTH: u32 = 128;

/// A token has this much room for the number of an attempt.
const MOST_DEPTH: u32 = 1 << 16;

impl Options {
    pub(super) const fn new() -> Self {
        Self { claim_timeout: Duration::from_secs(10), fence: None, depth: DEPTH, block_size: None }
    }

    /// Whether they make sense.
    pub(super) fn check(&self) -> Result<(), Error> {
        if !(1..=MOST_DEPTH).contains(&self.depth) {
            return Err(Error::setting("depth", format!("{} is not within 1 to {MOST_DEPTH}", self.depth)));
        }
        if self.fence == Some(FenceSupport::Proven) {
            let problem =
                "the kernel cannot prove that a write is over; choose answered, assumed, resend or none";
            return Err(Error::setting("fence", problem));
        }
        match self.block_size {
            Some(size) => Geometry::new(size, 1).map(drop),
            None => Ok(()),
        }
    }
}
