//! Aligned, pooled buffers that travel with their request.
//!
//! A [`Pool`] is one mapping cut into equal pieces. A [`Buffer`] is one piece with one owner. While a path works
//! on it, the engine keeps the buffer as [`Lent`] and the path holds a [`Lease`]; the buffer comes back only when
//! every lease was handed back, so code that loses a lease leaks memory and never corrupts it.

#![allow(unsafe_code)]

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use crossbeam::queue::{ArrayQueue, SegQueue};

use crate::error::Error;
use crate::sync::{AtomicU32, Ordering};

/// Address alignment of every buffer, in bytes.
pub const ALIGNMENT: u32 = 4096;

/// A fixed number of equal buffers in one mapping, aligned to 4096 bytes.
///
/// Cloning gives another handle to the same pool. Part of it is a reserve that [`take`](Self::take) does not
/// touch: a read whose path went silent is retried into memory of the reserve, since the silent path may still
/// write to the first buffer. When the reserve is out such a read gets a mapping of its own, which the pool then has in
/// place of the first buffer until that is back: there are never more of them than attempts that silent paths hold.
///
/// ```
/// use mpio::Pool;
///
/// let pool = Pool::new(65_536, 8)?;
/// let mut buffer = pool.take(4096).expect("eight are free");
/// buffer.fill(0x5a);
/// assert_eq!(buffer.len(), 4096);
/// # Ok::<(), mpio::Error>(())
/// ```
#[derive(Clone)]
pub struct Pool {
    region: Arc<Region>,
}

impl Pool {
    /// `count` buffers of `size` bytes each, and a quarter as many again (at least four) in reserve.
    ///
    /// # Errors
    /// [`Error::Setting`] for sizes of zero or beyond what the machine can address, [`Error::Os`] if the memory
    /// cannot be had.
    pub fn new(size: u32, count: u32) -> Result<Self, Error> {
        Self::with_reserve(size, count, (count / 4).max(4))
    }

    /// `count` buffers of `size` bytes each, and `reserve` more for retries of reads.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_reserve(size: u32, count: u32, reserve: u32) -> Result<Self, Error> {
        Ok(Self { region: Arc::new(Region::new(size, count, reserve)?) })
    }

    /// A buffer of `len` bytes with undefined (but initialised) content, `None` if all are out or `len` is zero or
    /// more than the pool's [`size`](Self::size).
    pub fn take(&self, len: u32) -> Option<Buffer> {
        let region = &self.region;
        region.take(&region.free, len).or_else(|| {
            let fits = len > 0 && len <= region.size;
            (fits && !region.stand_ins.is_empty()).then(|| region.stand_in(len)).flatten()
        })
    }

    /// Most bytes in a buffer.
    pub fn size(&self) -> u32 {
        self.region.size
    }

    /// Buffers that [`take`](Self::take) could give at this moment (the reserve is filled first).
    pub fn available(&self) -> usize {
        self.region.free.len() + self.region.stand_ins.len()
    }

    /// First byte and length of the whole mapping, for registration with the kernel.
    pub(crate) fn span(&self) -> (NonNull<u8>, usize) {
        (self.region.base, self.region.bytes)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("size", &self.size()).field("available", &self.available()).finish()
    }
}

/// The mapping behind a pool: it lives for as long as a pool handle or a buffer does.
pub(crate) struct Region {
    base: NonNull<u8>,
    bytes: usize,
    /// Length of a buffer, and distance between the beginnings of two.
    size: u32,
    stride: usize,
    free: ArrayQueue<u32>,
    /// `None` for a pool that has none.
    reserve: Option<ArrayQueue<u32>>,
    /// Of a mapping that stands in for a piece of another: that one.
    home: Option<Weak<Region>>,
    /// Those that stand in for pieces of this one and are free.
    stand_ins: SegQueue<Arc<Region>>,
    /// Of those that are in use, how many are one too many: what they stood in for is back.
    surplus: AtomicU32,
}

// SAFETY: the mapping belongs to no thread, and `Region` itself never touches its bytes; each piece is reached only
// through the one `Buffer` that holds its index, taken from a queue that gives each index to one taker.
unsafe impl Send for Region {}
// SAFETY: as above; all shared state is in the two queues.
unsafe impl Sync for Region {}

impl Region {
    fn new(size: u32, count: u32, reserve: u32) -> Result<Self, Error> {
        if size == 0 || count == 0 {
            return Err(Error::setting("pool", "needs at least one buffer of at least one byte"));
        }
        let stride = (size as usize).next_multiple_of(ALIGNMENT as usize);
        let pieces = count.checked_add(reserve);
        let bytes = pieces.and_then(|pieces| stride.checked_mul(pieces as usize));
        let (Some(pieces), Some(bytes)) = (pieces, bytes) else {
            return Err(Error::setting(
                "pool",
                format!("{count} buffers of {size} bytes are beyond this machine"),
            ));
        };
        let base = map(bytes)?;
        let free = ArrayQueue::new(count as usize);
        let kept = (reserve > 0).then(|| ArrayQueue::new(reserve as usize));
        for index in 0..count {
            let _ = free.push(index);
        }
        for index in count..pieces {
            let _ = kept.as_ref().map(|kept| kept.push(index));
        }
        Ok(Self {
            base,
            bytes,
            size,
            stride,
            free,
            reserve: kept,
            home: None,
            stand_ins: SegQueue::new(),
            surplus: AtomicU32::new(0),
        })
    }

    fn take(self: &Arc<Self>, from: &ArrayQueue<u32>, len: u32) -> Option<Buffer> {
        if len == 0 || len > self.size {
            return None;
        }
        let index = from.pop()?;
        Some(Buffer { region: Arc::clone(self), index, len, has_stand_in: false })
    }

    /// Whether a mapping that stood in for a piece is one too many.
    fn takes_off_surplus(&self) -> bool {
        // Relaxed: a count, of which nothing else depends.
        let less = |surplus: u32| surplus.checked_sub(1);
        self.surplus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// A buffer of a mapping that stands in for a piece of this one: one that is free, or a new one.
    #[cold]
    fn stand_in(self: &Arc<Self>, len: u32) -> Option<Buffer> {
        let region = self.stand_ins.pop().or_else(|| {
            let mut region = Self::new(self.size, 1, 0).ok()?;
            region.home = Some(Arc::downgrade(self));
            Some(Arc::new(region))
        })?;
        // Its one piece is this buffer's for as long as it is in no list.
        Some(Buffer { region, index: 0, len, has_stand_in: false })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: `base` and `bytes` are those that `map` gave, and no `Buffer` is left (each holds an `Arc` of this).
        let status = unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
        debug_assert_eq!(status, 0, "unmapping what was mapped succeeds");
    }
}

fn map(bytes: usize) -> Result<NonNull<u8>, Error> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: an anonymous private mapping at an address of the kernel's choice touches nothing that exists.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(Error::os(format!("mapping {bytes} bytes for buffers"), std::io::Error::last_os_error()));
    }
    NonNull::new(base.cast()).ok_or_else(|| Error::setting("pool", "the kernel mapped address zero"))
}

/// A piece of a [`Pool`], given back to it on drop. Dereferences to its bytes.
pub struct Buffer {
    region: Arc<Region>,
    index: u32,
    len: u32,
    has_stand_in: bool,
}

impl Buffer {
    /// Makes it `len` bytes long; `false` if that is zero or more than the pool's size.
    pub(crate) fn resize(&mut self, len: u32) -> bool {
        let fits = len > 0 && len <= self.region.size;
        if fits {
            self.len = len;
        }
        fits
    }

    /// Keeps the first `len` bytes, all of them if there are fewer. A buffer does not become empty: zero keeps one byte.
    pub fn truncate(&mut self, len: u32) {
        self.len = self.len.min(len.max(1));
    }

    /// Another buffer of the same length, which goes back to the same pool: from its reserve, or, when that is out, from a
    /// mapping of its own that stands in for this one until it is back.
    pub(crate) fn spare(&mut self) -> Option<Self> {
        let home = self.region.home.as_ref().map_or_else(|| Some(Arc::clone(&self.region)), Weak::upgrade)?;
        let reserved = home.reserve.as_ref().and_then(|reserve| home.take(reserve, self.len));
        let spare = reserved.or_else(|| home.stand_in(self.len))?;
        self.has_stand_in = true;
        Some(spare)
    }

    #[inline]
    fn start(&self) -> NonNull<u8> {
        let offset = self.index as usize * self.region.stride;
        // SAFETY: an index in the queues is below the number of pieces, so the piece lies within the mapping.
        unsafe { self.region.base.add(offset) }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the piece is mapped, initialised (anonymous pages are zero) and `len` is at most its size; whoever
        // holds the `Buffer` is its only user, since `Lent` gives it back only when no lease is out.
        unsafe { std::slice::from_raw_parts(self.start().as_ptr(), self.len as usize) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start().as_ptr(), self.len as usize) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = &self.region.home {
            if let Some(home) = home.upgrade()
                && !self.has_stand_in
                && !home.takes_off_surplus()
            {
                home.stand_ins.push(Arc::clone(&self.region));
            }
            return;
        }
        // What stood in for it is the caller's by now: so this one goes where that came from.
        let back = match &self.region.reserve {
            Some(reserve) if self.has_stand_in => reserve.push(self.index),
            _ => Err(self.index),
        };
        let Err(index) = back else { return };
        if self.has_stand_in && self.region.stand_ins.pop().is_none() {
            // That is in use: it goes when it is free. Relaxed: a count, of which nothing else depends.
            self.region.surplus.fetch_add(1, Ordering::Relaxed);
        }
        let left = self.region.free.push(index);
        if let (Err(index), Some(reserve)) = (left, &self.region.reserve) {
            let _ = reserve.push(index);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("index", &self.index).field("len", &self.len).finish_non_exhaustive()
    }
}

/// Which way data moves under a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Direction {
    /// The path reads the memory (a write request).
    Source,
    /// The path writes the memory (a read request).
    Sink,
}

/// A buffer of which paths hold leases.
#[derive(Debug)]
pub(crate) struct Lent {
    /// `None` from `reclaim` on.
    buffer: Option<Buffer>,
    direction: Direction,
    leases: u32,
}

impl Lent {
    #[inline]
    pub(crate) fn new(buffer: Buffer, direction: Direction) -> Self {
        Self { buffer: Some(buffer), direction, leases: 0 }
    }

    #[inline]
    pub(crate) fn is_out(&self) -> bool {
        self.leases > 0
    }

    /// A lease of the bytes from `skip` on, `None` if there are none. A sink is leased to one path at a time.
    #[inline]
    pub(crate) fn lend(&mut self, skip: u32) -> Option<Lease> {
        let buffer = self.buffer.as_ref()?;
        let exclusive = self.direction == Direction::Sink;
        if skip >= buffer.len || (exclusive && self.leases > 0) {
            return None;
        }
        self.leases += 1;
        // SAFETY: `skip` is below the length of the buffer.
        let start = unsafe { buffer.start().add(skip as usize) };
        Some(Lease { start, len: buffer.len - skip, direction: self.direction })
    }

    /// Takes a lease back; gives it back if it is not of this memory.
    #[inline]
    pub(crate) fn give_back(&mut self, lease: Lease) -> Result<(), Lease> {
        let Some(buffer) = self.buffer.as_ref() else { return Err(lease) };
        let skip = (lease.start.as_ptr() as usize).wrapping_sub(buffer.start().as_ptr() as usize);
        if skip >= buffer.len as usize || self.leases == 0 {
            return Err(lease);
        }
        self.leases -= 1;
        Ok(())
    }

    /// The buffer, once, if no lease is out.
    #[inline]
    pub(crate) fn reclaim(&mut self) -> Option<Buffer> {
        if self.leases > 0 { None } else { self.buffer.take() }
    }

    /// Memory of the same length from the reserve, for a retry while this is out.
    pub(crate) fn spare(&mut self) -> Option<Self> {
        let spare = self.buffer.as_mut()?.spare()?;
        Some(Self::new(spare, self.direction))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.leases > 0 {
            // A path can still touch the memory: it must never be used for anything else.
            std::mem::forget(self.buffer.take());
        }
    }
}

/// A path's right to the memory of one attempt, until it is handed back.
///
/// For a write the path reads [`bytes`](Self::bytes); for a read it fills [`bytes_mut`](Self::bytes_mut).
pub struct Lease {
    start: NonNull<u8>,
    len: u32,
    direction: Direction,
}

// SAFETY: a lease is a right to memory that belongs to no thread.
unsafe impl Send for Lease {}

impl Lease {
    /// Number of bytes.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Never: a lease has at least one byte.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The data.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is mapped and initialised for as long as the lease exists (`Lent` keeps or leaks the
        // buffer). A sink has this one lease; under a source nobody writes.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len()) }
    }

    /// The memory that a read fills, `None` under a write.
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        if self.direction == Direction::Source {
            return None;
        }
        // SAFETY: as in `bytes`; a sink has one lease, held exclusively here.
        Some(unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len as usize) })
    }

    /// The address, for the kernel.
    pub(crate) fn address(&self) -> NonNull<u8> {
        self.start
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("len", &self.len)
            .field("direction", &self.direction)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Pool {
        Pool::with_reserve(8192, 2, 1).unwrap()
    }

    #[test]
    fn buffers_are_aligned_distinct_and_come_back() {
        let pool = pool();
        let mut a = pool.take(4096).unwrap();
        let mut b = pool.take(8192).unwrap();
        assert!(pool.take(512).is_none());
        a.fill(1);
        b.fill(2);
        assert!(a.iter().all(|&byte| byte == 1) && b.iter().all(|&byte| byte == 2));
        assert_eq!(a.as_ptr() as usize % ALIGNMENT as usize, 0);
        drop(a);
        assert_eq!(pool.available(), 1);
    }

    #[test]
    fn lengths_that_no_buffer_has_are_refused() {
        let pool = pool();
        assert!(pool.take(0).is_none() && pool.take(8193).is_none());
        assert!(Pool::new(0, 1).is_err() && Pool::new(1, 0).is_err());
        assert!(Pool::with_reserve(u32::MAX, u32::MAX, 1).is_err());
    }

    #[test]
    fn a_buffer_can_be_as_long_as_its_piece() {
        let mut buffer = pool().take(512).unwrap();
        assert!(buffer.resize(8192) && !buffer.resize(8193) && !buffer.resize(0));
        assert_eq!(buffer.len(), 8192);
    }

    #[test]
    fn a_truncated_buffer_is_whole_when_it_is_taken_again() {
        let pool = Pool::with_reserve(8192, 1, 0).unwrap();
        let mut buffer = pool.take(8192).unwrap();
        for (len, left) in [(9000, 8192), (512, 512), (4096, 512), (0, 1)] {
            buffer.truncate(len);
            assert_eq!(buffer.len(), left);
        }
        drop(buffer);
        assert_eq!(pool.take(8192).unwrap().len(), 8192);
    }

    #[test]
    fn a_pool_is_whole_while_silent_paths_hold_its_buffers_and_no_larger_when_they_are_back() {
        let pool = pool();
        let mut held = [pool.take(4096).unwrap(), pool.take(4096).unwrap()];
        let mut spares: Vec<Buffer> = held.iter_mut().map(|held| held.spare().unwrap()).collect();
        for spare in &mut spares {
            spare.fill(7);
        }
        drop(spares);
        let others: Vec<Buffer> = std::iter::from_fn(|| pool.take(8192)).collect();
        assert_eq!(others.len(), 2, "what stands in is the caller's");
        assert!(pool.take(8193).is_none() && pool.take(0).is_none());
        drop(others);
        drop(held);
        assert_eq!(pool.available(), 2);
    }

    #[test]
    fn a_pool_is_no_larger_than_it_was_when_what_stood_in_comes_back_last() {
        let pool = Pool::with_reserve(8192, 1, 0).unwrap();
        for _ in 0..3 {
            let mut held = pool.take(4096).unwrap();
            let spare = held.spare().unwrap();
            drop(held);
            drop(spare);
            assert_eq!(pool.available(), 1);
        }
    }

    #[test]
    fn a_buffer_outlives_its_pool() {
        let mut buffer = pool().take(4096).unwrap();
        buffer.fill(7);
        assert_eq!(buffer[4095], 7);
    }

    #[test]
    fn a_lent_buffer_comes_back_only_after_its_lease() {
        let pool = pool();
        let mut lent = Lent::new(pool.take(4096).unwrap(), Direction::Sink);
        let lease = lent.lend(0).unwrap();
        assert!(lent.lend(0).is_none(), "a sink has one user");
        assert!(lent.reclaim().is_none(), "the path has it");
        lent.give_back(lease).unwrap();
        assert_eq!(lent.reclaim().unwrap().len(), 4096);
    }

    #[test]
    fn memory_of_a_lost_lease_is_never_used_again() {
        let pool = pool();
        let mut lent = Lent::new(pool.take(4096).unwrap(), Direction::Source);
        let lease = lent.lend(512).unwrap();
        drop(lent);
        assert_eq!(pool.available(), 1);
        assert_eq!(lease.bytes().len(), 3584);
    }

    #[test]
    fn a_foreign_lease_is_not_taken() {
        let pool = pool();
        let mut a = Lent::new(pool.take(4096).unwrap(), Direction::Source);
        let mut b = Lent::new(pool.take(4096).unwrap(), Direction::Source);
        let (of_a, of_b) = (a.lend(0).unwrap(), b.lend(0).unwrap());
        let of_b = a.give_back(of_b).unwrap_err();
        b.give_back(of_b).unwrap();
        a.give_back(of_a).unwrap();
    }
}
