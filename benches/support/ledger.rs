//! Keeps count of what is allocated.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};

/// The system's allocator with a ledger: `#[global_allocator] static LEDGER: Ledger = Ledger::new();`
pub(crate) struct Ledger {
    live: AtomicI64,
}

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

impl Ledger {
    pub(crate) const fn new() -> Self {
        Self { live: AtomicI64::new(0) }
    }

    /// Bytes that are allocated at this moment, by all threads.
    pub(crate) fn live(&self) -> i64 {
        self.live.load(Ordering::Relaxed)
    }

    /// How often this thread has allocated or grown something so far.
    pub(crate) fn allocations() -> u64 {
        ALLOCATIONS.get()
    }

    fn enter(&self, bytes: usize) {
        // A thread that is at its end has no counter any more.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        self.live.fetch_add(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    fn strike(&self, bytes: usize) {
        self.live.fetch_sub(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

// SAFETY: everything is left to the system's allocator; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Ledger {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.enter(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        self.strike(layout.size());
        // SAFETY: the caller's promise; `at` came from the system's allocator.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.strike(layout.size());
        self.enter(size);
        // SAFETY: the caller's promise; `at` came from the system's allocator.
        unsafe { System.realloc(at, layout, size) }
    }
}
