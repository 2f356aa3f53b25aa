//! What the process has for itself: files for their owner alone, memory that is not swapped out.

#![allow(unsafe_code)]

use std::io;

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

/// More than the process maps, buffers and threads' stacks included.
const ROOM: usize = 1 << 30;

/// Keeps the memory that the process uses from being swapped out, perhaps to the very device that it serves. All of it or
/// none: under a small `RLIMIT_MEMLOCK` the lock would succeed, and later no thread could be started for want of a stack.
///
/// # Errors
/// What the system says, for instance that `RLIMIT_MEMLOCK` is too small.
pub(crate) fn lock_memory() -> io::Result<()> {
    // SAFETY: the call takes plain numbers and changes nothing but where pages may be.
    let status = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    try_to_map(ROOM).inspect_err(|_| {
        // SAFETY: the call takes nothing and changes nothing but where pages may be.
        unsafe { libc::munlockall() };
    })
}

/// Whether so many bytes more could be mapped.
fn try_to_map(bytes: usize) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a private mapping at an address of the kernel's choice touches nothing that exists.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just mapped, and nobody knows of it.
    unsafe { libc::munmap(address, bytes) };
    Ok(())
}
