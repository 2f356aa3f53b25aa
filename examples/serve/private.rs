//! Files for their owner alone.

#![allow(unsafe_code)]

/// Permissions that are withheld: all of group and others, and to execute.
const MASK: libc::mode_t = 0o177;

/// What `make` makes is readable and writable by its owner alone, from its first moment. The mask is the whole
/// process's: no other thread may make files meanwhile.
pub(crate) fn make<T>(make: impl FnOnce() -> T) -> T {
    let before = mask(MASK);
    let result = make();
    mask(before);
    result
}

fn mask(mask: libc::mode_t) -> libc::mode_t {
    // SAFETY: the call takes a plain number, gives one back, and cannot fail.
    unsafe { libc::umask(mask) }
}
