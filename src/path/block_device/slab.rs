//! Attempts that are out, by token.

/// A fixed number of places. A token names a place and how often it was used, so that a cancel that comes too late
/// does not hit the place's next user.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u16>,
}

#[derive(Debug)]
struct Place<T> {
    used: u16,
    item: Option<T>,
}

impl<T> Slab<T> {
    /// `count` places, 65,536 at most.
    pub(super) fn new(count: u32) -> Self {
        let free: Vec<u16> = (0..=u16::MAX).take(count as usize).rev().collect();
        let places = free.iter().map(|_| Place { used: 0, item: None }).collect();
        Self { places, free }
    }

    /// The token that the next item gets, `None` if there is no place left.
    pub(super) fn vacancy(&self) -> Option<u32> {
        let &index = self.free.last()?;
        Some(u32::from(self.places.get(usize::from(index))?.used) << 16 | u32::from(index))
    }

    /// Puts an item into the place that `vacancy` named.
    pub(super) fn insert(&mut self, item: T) {
        let Some(index) = self.free.pop() else { return };
        if let Some(place) = self.places.get_mut(usize::from(index)) {
            place.item = Some(item);
        }
    }

    /// Takes the item with this token out.
    pub(super) fn remove(&mut self, token: u32) -> Option<T> {
        let [used, index] = halves(token);
        let place = self.places.get_mut(usize::from(index)).filter(|place| place.used == used)?;
        let item = place.item.take()?;
        place.used = place.used.wrapping_add(1);
        self.free.push(index);
        Some(item)
    }

    /// The token of the item that `wanted` picks.
    pub(super) fn find(&self, wanted: impl Fn(&T) -> bool) -> Option<u32> {
        let index = self.places.iter().position(|place| place.item.as_ref().is_some_and(&wanted))?;
        let used = self.places.get(index)?.used;
        Some(u32::from(used) << 16 | u32::try_from(index).ok()?)
    }

    /// Number of items.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

fn halves(token: u32) -> [u16; 2] {
    let [a, b, c, d] = token.to_be_bytes();
    [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_one_use_of_a_place() {
        let mut slab = Slab::new(1);
        let first = slab.vacancy().unwrap();
        slab.insert('a');
        assert_eq!((slab.vacancy(), slab.len()), (None, 1));
        assert_eq!(slab.find(|&item| item == 'a'), Some(first));
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.vacancy().unwrap();
        slab.insert('b');
        assert_ne!(first, second);
        assert_eq!(slab.remove(first), None, "an old token names nothing");
        assert_eq!(slab.remove(second), Some('b'));
        assert_eq!(slab.len(), 0);
    }

    #[test]
    fn every_place_can_be_used_at_once() {
        let mut slab = Slab::new(1 << 16);
        for item in 0..1_u32 << 16 {
            assert!(slab.vacancy().is_some());
            slab.insert(item);
        }
        assert_eq!(slab.vacancy(), None);
    }
}
