//! What came of the requests.

/// Most notes that are kept.
const NOTES: usize = 8;

/// Counted over all queues.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Requests that a queue took.
    pub(crate) accepted: u64,
    /// Requests that ended well.
    pub(crate) done: u64,
    /// Requests that ended with an error.
    pub(crate) failed: u64,
    /// Requests that never ended, or ended twice.
    pub(crate) lost: u64,
    /// Blocks that were read and held what they should.
    pub(crate) right: u64,
    /// Blocks that were read and did not.
    pub(crate) wrong: u64,
    /// Blocks of those that are right which were read at the end, with nothing in flight.
    pub(crate) audited: u64,
    /// What the first problems were.
    pub(crate) notes: Vec<String>,
}

impl Tally {
    /// Keeps a note of a problem, if there are not too many.
    pub(crate) fn note(&mut self, problem: String) {
        if self.notes.len() < NOTES {
            self.notes.push(problem);
        }
    }

    /// Whether every request ended well and every block was right.
    pub(crate) fn is_clean(&self) -> bool {
        self.failed + self.lost + self.wrong == 0 && self.accepted == self.done
    }
}
