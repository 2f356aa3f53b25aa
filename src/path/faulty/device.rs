//! What the device is said to be.

use crate::block::Geometry;
use crate::error::Error;
use crate::path::{AccessState, ControlSink, Description};

/// Capacity and access state: the real ones, and what the supervisor was told instead.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) access: AccessState,
    capacity: u64,
    /// What it is said to be instead.
    claimed: Option<u64>,
    news: News,
}

/// What the supervisor has yet to be told at the next probe.
#[derive(Clone, Copy, Debug, Default)]
struct News {
    access: bool,
    capacity: bool,
}

impl Default for Device {
    fn default() -> Self {
        Self { access: AccessState::Optimized, capacity: 0, claimed: None, news: News::default() }
    }
}

impl Device {
    /// The geometry to tell of a device of this real `description`.
    pub(super) fn described(&mut self, description: &Description) -> Result<Geometry, Error> {
        self.access = description.access;
        self.capacity = description.geometry.capacity();
        self.news = News::default();
        Geometry::new(description.geometry.block_size(), self.claimed.unwrap_or(self.capacity))
    }

    pub(super) const fn set_capacity(&mut self, blocks: u64) {
        self.claimed = Some(blocks);
        self.news.capacity = true;
    }

    pub(super) const fn restore(&mut self) {
        if self.claimed.take().is_some() {
            self.news.capacity = true;
        }
    }

    /// An attempt was refused for an access state that the device is not in.
    pub(super) const fn refused(&mut self) {
        self.news.access = true;
    }

    /// The wrapped path found that the device has `blocks` blocks.
    pub(super) fn tell_capacity(&mut self, blocks: u64, onward: &ControlSink) {
        self.capacity = blocks;
        if self.claimed.is_none() {
            onward.capacity(blocks);
        }
    }

    /// Tells what is news.
    pub(super) fn tell(&mut self, onward: &ControlSink) {
        let news = std::mem::take(&mut self.news);
        if news.access {
            onward.access_state(self.access);
        }
        if news.capacity {
            onward.capacity(self.claimed.unwrap_or(self.capacity));
        }
    }
}
