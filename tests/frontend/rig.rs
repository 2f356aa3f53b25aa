//! A device in memory, served.

use std::path::Path;

use mpio::frontend::fuse::{Buffers, Options, Server};
use mpio::{BlockCount, Error, Limits, NoPath, Queue, QueueIndex, Volume};

use crate::medium::Medium;
use crate::testing_support::skip;

/// Blocks of the device.
pub(crate) const CAPACITY: u64 = 16 << 20 >> 9;

/// How a rig is made.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) block_size: u32,
    pub(crate) limits: Limits,
    pub(crate) queues: u16,
    pub(crate) depth: u32,
    pub(crate) buffers: u32,
}

impl Default for Plan {
    fn default() -> Self {
        let most = BlockCount::new(1 << 16);
        let limits = Limits::new(1 << 20).with_write_zeroes(most).with_discard(most);
        Self { block_size: 512, limits, queues: 2, depth: 64, buffers: 32 }
    }
}

/// A served device.
pub(crate) struct Rig {
    pub(crate) medium: Medium,
    pub(crate) volume: Volume,
    pub(crate) server: Server,
}

impl Rig {
    /// `None` where this machine cannot have it.
    pub(crate) fn required(plan: Plan) -> Option<Self> {
        if !can_serve() {
            return None;
        }
        Some(Self::try_new(plan, &Options::new()).unwrap())
    }

    pub(crate) fn try_new(plan: Plan, options: &Options) -> Result<Self, Error> {
        let capacity = CAPACITY * 512 / u64::from(plan.block_size);
        let medium = Medium::new(plan.block_size, capacity, plan.limits);
        let buffers = Buffers::new(plan.queues, plan.buffers)?;
        let builder = buffers.register(Volume::builder()).queues(plan.queues).queue_depth(plan.depth);
        let builder = builder.late_after(std::time::Duration::from_mins(10));
        let volume = builder.no_path(NoPath::Fail).path(medium.clone()).build()?;
        let server = Server::start(queues(&volume), buffers, options)?;
        Ok(Self { medium, volume, server })
    }

    pub(crate) fn device(&self) -> &Path {
        self.server.device()
    }

    /// Its name.
    pub(crate) fn node(&self) -> String {
        self.device().display().to_string()
    }
}

/// All queues of a volume.
pub(crate) fn queues(volume: &Volume) -> Vec<Queue> {
    (0..volume.queues()).filter_map(|index| volume.take_queue(QueueIndex(index))).collect()
}

/// Whether this machine can serve; says so if not.
pub(crate) fn can_serve() -> bool {
    // Who is not root cannot open this one.
    let lacking = ["/dev/loop-control", "/dev/fuse"]
        .into_iter()
        .find(|node| std::fs::File::options().read(true).write(true).open(node).is_err());
    if let Some(node) = lacking {
        skip(&format!("{node} cannot be opened (needs root, FUSE and loop devices)"));
    }
    lacking.is_none()
}
