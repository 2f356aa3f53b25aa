//! A policy for tests that need to know which way an I/O takes.

use mpio::policy::{self, Candidates, IoSummary, MakePolicy, Policy};

/// I/O of `bytes` bytes takes path 0, all other path 1, as long as they can.
pub(crate) fn by_size(bytes: u32) -> impl MakePolicy {
    policy::make("by size", move |_| Box::new(BySize { bytes }))
}

struct BySize {
    bytes: u32,
}

impl Policy for BySize {
    fn select(&mut self, io: &IoSummary, candidates: &Candidates<'_>) -> usize {
        let wanted = u32::from(io.bytes != self.bytes);
        let mut paths = candidates.iter();
        let found = paths.find(|(_, path)| path.id.serial() == wanted);
        found.map(|(index, _)| index).or_else(|| candidates.next_from(0)).unwrap_or(0)
    }
}
