//! What is out on one path of a device that serves all its paths in one line.

use std::collections::VecDeque;

/// What is out on one path, with the number that each drew on arrival.
pub(crate) struct Line<T> {
    out: VecDeque<(usize, T)>,
    /// How many have to arrive after one, on any path, before it has ended.
    window: usize,
}

impl<T> Line<T> {
    pub(crate) fn new(window: usize, depth: usize) -> Self {
        Self { out: VecDeque::with_capacity(depth), window }
    }

    pub(crate) fn put(&mut self, number: usize, item: T) {
        self.out.push_back((number, item));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// The next that has ended when `arrivals` have arrived: the second before the first where both have.
    pub(crate) fn take(&mut self, arrivals: usize) -> Option<T> {
        let has_ended = |place: usize| {
            self.out.get(place).is_some_and(|(number, _)| arrivals.wrapping_sub(*number) > self.window)
        };
        let place = usize::from(has_ended(1));
        let (_, item) = if has_ended(place) { self.out.remove(place)? } else { return None };
        Some(item)
    }
}
