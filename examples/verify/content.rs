//! What a block holds, as far as its bytes tell.

/// One write's worth of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Content {
    /// The write of this generation. Generations count from 1 on each block, in the order in which its writes begin.
    Stamp(u64),
    /// Nothing but zeroes: all writes of zeroes look alike.
    Zero,
    /// What no write of this run puts on this block.
    Foreign,
}

/// What one read of a block found: in a torn block more than one content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) first: Content,
    /// The others, each once. Empty unless the block is torn.
    pub(crate) others: Vec<Content>,
}

impl Found {
    pub(crate) fn whole(content: Content) -> Self {
        Self { first: content, others: Vec::new() }
    }

    pub(crate) fn is_torn(&self) -> bool {
        !self.others.is_empty()
    }

    pub(crate) fn contents(&self) -> impl Iterator<Item = Content> {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }

    pub(crate) fn has(&self, content: Content) -> bool {
        self.contents().any(|one| one == content)
    }

    /// Adds the content of a further part of the block.
    pub(crate) fn add(&mut self, content: Content) {
        if !self.has(content) {
            self.others.push(content);
        }
    }
}
