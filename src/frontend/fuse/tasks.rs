//! What a worker has under way for the kernel.

use crate::block::{BlockCount, Extent, Lba};
use crate::io::Cookie;

/// One request of the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    /// The number to answer to.
    pub(super) unique: u64,
    pub(super) work: Work,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    Read,
    /// Of so many bytes.
    Write(u32),
    Sync,
    Zero(Zeroing),
}

/// A run of blocks that becomes zeroes, one part after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Zeroing {
    next: u64,
    end: u64,
    /// Blocks of the part that is under way.
    part: u32,
    pub(super) unmap: bool,
    /// By writes, since the volume has no write zeroes.
    pub(super) plain: bool,
}

impl Zeroing {
    pub(super) fn new(start: u64, end: u64, unmap: bool, plain: bool) -> Self {
        Self { next: start, end, part: 0, unmap, plain }
    }

    /// The next part, of at most `most` blocks.
    pub(super) fn part(&mut self, most: u32) -> Option<Extent> {
        let left = u32::try_from(self.end - self.next).unwrap_or(u32::MAX);
        self.part = left.min(most);
        Extent::new(Lba::new(self.next), BlockCount::new(self.part)).ok()
    }

    /// The part is done; whether that was all.
    pub(super) fn advance(&mut self) -> bool {
        self.next += u64::from(self.part);
        self.next >= self.end
    }
}

/// A fixed number of places for tasks, each named by a cookie.
#[derive(Debug)]
pub(super) struct Tasks {
    places: Box<[Option<Task>]>,
    free: Vec<u32>,
}

impl Tasks {
    pub(super) fn new(most: u32) -> Self {
        Self { places: vec![None; most as usize].into(), free: (0..most).rev().collect() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Takes a task in, `None` if there is no place.
    pub(super) fn insert(&mut self, task: Task) -> Option<Cookie> {
        let index = self.free.pop()?;
        *self.places.get_mut(index as usize)? = Some(task);
        Some(Cookie(index.into()))
    }

    pub(super) fn get_mut(&mut self, cookie: Cookie) -> Option<&mut Task> {
        self.places.get_mut(usize::try_from(cookie.0).ok()?)?.as_mut()
    }

    pub(super) fn remove(&mut self, cookie: Cookie) -> Option<Task> {
        let index = u32::try_from(cookie.0).ok()?;
        let task = self.places.get_mut(index as usize)?.take()?;
        self.free.push(index);
        Some(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again_and_a_cookie_without_a_task_means_nothing() {
        let task = Task { unique: 7, work: Work::Sync };
        let mut tasks = Tasks::new(1);
        let cookie = tasks.insert(task).unwrap();
        assert!(tasks.is_full() && tasks.insert(task).is_none());
        assert_eq!(tasks.remove(cookie).unwrap().unique, 7);
        assert!(tasks.remove(cookie).is_none() && tasks.remove(Cookie(u64::MAX)).is_none());
        assert_eq!(tasks.insert(task), Some(cookie));
    }

    #[test]
    fn a_run_is_zeroed_in_parts_without_a_gap() {
        let mut zeroing = Zeroing::new(10, 10 + (1 << 33), true, false);
        let (mut next, mut parts) = (10, 0);
        loop {
            let extent = zeroing.part(1 << 31).unwrap();
            assert_eq!(extent.start().get(), next);
            (next, parts) = (extent.end().get(), parts + 1);
            if zeroing.advance() {
                break;
            }
        }
        assert_eq!((next, parts), (10 + (1 << 33), 4));
    }
}
