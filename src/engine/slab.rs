//! A table whose places carry a generation, so that an old name never reaches a new tenant.

/// Place and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// The generation beside what the tenant has first.
#[derive(Debug)]
#[repr(C)]
struct Entry<T> {
    /// Odd while the place has a tenant: grows by one when one moves in, and by one when it moves out.
    generation: u32,
    /// The tenant, or what the last one left.
    tenant: T,
}

impl<T> Entry<T> {
    const fn is_let(&self) -> bool {
        self.generation & 1 == 1
    }
}

#[derive(Debug)]
pub(super) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    /// `capacity` places, with what `empty` gives in them.
    pub(super) fn new(capacity: u32, empty: impl Fn() -> T) -> Self {
        let entries = (0..capacity).map(|_| Entry { generation: 0, tenant: empty() }).collect();
        Self { entries, free: (0..capacity).rev().collect() }
    }

    /// Half as many places again, for what paths in trouble hold beyond what is ordinary.
    #[cold]
    pub(super) fn grow(&mut self, empty: impl Fn() -> T) {
        let old = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        let new = old.saturating_add(old / 2 + 1);
        self.entries.extend((old..new).map(|_| Entry { generation: 0, tenant: empty() }));
        self.free.extend((old..new).rev());
    }

    /// All places.
    pub(super) fn indices(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.entries.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// A free place and its name; `None` if the table is full. The new tenant is to be written over what the last one
    /// left: so it is made where it stays, however large it is.
    #[inline]
    pub(super) fn insert(&mut self) -> Option<(Key, &mut T)> {
        let index = self.free.pop()?;
        let entry = self.entries.get_mut(index as usize)?;
        entry.generation = entry.generation.wrapping_add(1);
        Some((Key { index, generation: entry.generation }, &mut entry.tenant))
    }

    #[inline]
    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let entry = self.entries.get(key.index as usize)?;
        (entry.generation == key.generation).then_some(&entry.tenant)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.index as usize)?;
        (entry.generation == key.generation).then_some(&mut entry.tenant)
    }

    /// The tenant of a place, whatever its generation.
    #[inline]
    pub(super) fn at(&self, index: u32) -> Option<&T> {
        let entry = self.entries.get(index as usize)?;
        entry.is_let().then_some(&entry.tenant)
    }

    #[inline]
    pub(super) fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        let entry = self.entries.get_mut(index as usize)?;
        entry.is_let().then_some(&mut entry.tenant)
    }

    /// The present name of a place.
    pub(super) fn key(&self, index: u32) -> Option<Key> {
        let entry = self.entries.get(index as usize)?;
        entry.is_let().then_some(Key { index, generation: entry.generation })
    }

    /// Retires the name of a place. What the tenant owned is to be taken from it: it is dropped only when another
    /// moves in.
    #[inline]
    pub(super) fn remove(&mut self, index: u32) -> Option<&mut T> {
        let entry = self.entries.get_mut(index as usize)?;
        if !entry.is_let() {
            return None;
        }
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(index);
        Some(&mut entry.tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(slab: &mut Slab<char>, tenant: char) -> Key {
        let (key, place) = slab.insert().unwrap();
        *place = tenant;
        key
    }

    #[test]
    fn an_old_name_never_reaches_a_new_tenant() {
        let mut slab = Slab::new(1, || '-');
        let first = insert(&mut slab, 'a');
        assert!(slab.is_full() && slab.insert().is_none());
        assert_eq!(slab.remove(first.index), Some(&mut 'a'));
        assert_eq!(slab.remove(first.index), None);
        assert_eq!((slab.get(first), slab.at(first.index), slab.key(first.index)), (None, None, None));
        let second = insert(&mut slab, 'b');
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut 'b'));
    }

    #[test]
    fn no_name_reaches_an_empty_place() {
        let slab = Slab::new(1, || '-');
        assert_eq!((slab.at(0), slab.key(0), slab.len()), (None, None, 0));
    }
}
