//! The pools that the kernel has mapped for good: fixed buffers.

use std::ptr::NonNull;

use crate::buffer::Pool;

/// The kernel's limit for one registered buffer.
const PIECE: usize = 1 << 30;

/// One registered buffer: a pool, or a piece of one that is larger than the kernel allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) address: usize,
    pub(super) len: usize,
}

/// Finds the registered buffer that holds a piece of memory, by its address.
///
/// Holds a handle of every pool, so that registered memory stays mapped for as long as this lives.
#[derive(Debug)]
pub(super) struct Buffers {
    pools: Vec<Pool>,
    pieces: Vec<Piece>,
}

impl Buffers {
    pub(super) fn new(pools: Vec<Pool>) -> Self {
        let pieces = pools.iter().flat_map(|pool| cut(pool.span())).collect();
        Self { pools, pieces }
    }

    /// Forgets what is registered: from now on nothing is found.
    pub(super) fn refuse(&mut self) {
        self.pieces.clear();
    }

    /// In the order of their indices.
    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Bytes in all pools.
    pub(super) fn bytes(&self) -> usize {
        self.pools.iter().map(|pool| pool.span().1).sum()
    }

    /// Index of the registered buffer that holds all of the `len` bytes from `start` on.
    pub(super) fn find(&self, start: NonNull<u8>, len: u32) -> Option<u16> {
        let address = start.as_ptr() as usize;
        let index = self.pieces.iter().position(|piece| {
            let skip = address.wrapping_sub(piece.address);
            skip < piece.len && len as usize <= piece.len - skip
        })?;
        u16::try_from(index).ok()
    }
}

fn cut((start, len): (NonNull<u8>, usize)) -> impl Iterator<Item = Piece> {
    let address = start.as_ptr() as usize;
    (0..len).step_by(PIECE).map(move |skip| Piece { address: address + skip, len: (len - skip).min(PIECE) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_found_in_its_pool_only() {
        let (first, second) = (Pool::new(4096, 4).unwrap(), Pool::new(8192, 4).unwrap());
        let buffers = Buffers::new(vec![first.clone(), second.clone()]);
        let inside = |pool: &Pool, skip| NonNull::new(pool.span().0.as_ptr().wrapping_add(skip)).unwrap();
        assert_eq!(buffers.find(inside(&first, 4096), 4096), Some(0));
        assert_eq!(buffers.find(inside(&second, 512), 512), Some(1));
        let (end, stranger) = (second.span().1, Pool::new(4096, 1).unwrap());
        assert_eq!(buffers.find(inside(&second, end - 512), 1024), None, "crosses the end");
        assert_eq!(buffers.find(stranger.span().0, 512), None);
    }

    #[test]
    fn large_pools_are_cut_at_the_limit_of_the_kernel() {
        let pieces: Vec<Piece> = cut((NonNull::dangling(), PIECE + 5)).collect();
        assert_eq!(pieces.iter().map(|piece| piece.len).collect::<Vec<_>>(), [PIECE, 5]);
    }
}
