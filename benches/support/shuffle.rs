//! Whatever is out on a path.

/// Most that can be out at once.
pub(crate) const PLACES: usize = 64;

/// What is out on a path that answers out of order, as soon as more than a few wait for it. All in one piece, so that
/// little of what is measured is the time to reach it.
pub(crate) struct Shuffle<T> {
    len: usize,
    /// How many stay out.
    window: usize,
    chance: u64,
    out: [Option<T>; PLACES],
}

impl<T> Shuffle<T> {
    pub(crate) fn new(window: usize) -> Self {
        Self { len: 0, window, chance: 1, out: [const { None }; PLACES] }
    }

    pub(crate) fn put(&mut self, item: T) {
        self.out[self.len] = Some(item);
        self.len += 1;
    }

    /// How many have ended.
    pub(crate) fn ended(&self) -> usize {
        self.len.saturating_sub(self.window)
    }

    /// One of those that are out, any.
    pub(crate) fn take(&mut self) -> Option<T> {
        // Knuth's generator; its upper half, scaled to the length.
        self.chance =
            self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let place = usize::try_from(((self.chance >> 32) * self.len as u64) >> 32).unwrap_or(0);
        let item = self.out.get_mut(place)?.take();
        self.len -= 1;
        if place != self.len {
            self.out[place] = self.out[self.len].take();
        }
        item
    }
}
