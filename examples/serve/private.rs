//! What the process has for itself: files for their owner alone, memory that is not swapped out.

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

/// Keeps the memory that the process uses from being swapped out, perhaps to the very device that it serves.
///
/// # Errors
/// What the system says, for instance that `RLIMIT_MEMLOCK` is too small.
pub(crate) fn lock_memory() -> std::io::Result<()> {
    // SAFETY: the call takes plain numbers and changes nothing but where pages may be.
    let status = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) };
    if status == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
