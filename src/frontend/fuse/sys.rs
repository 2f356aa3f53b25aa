//! The system calls of this front-end, made safe: mounts without a place, loop devices, sleeping on two descriptors.
//!
//! Numbers and layouts are those of `linux/mount.h`, `linux/fuse.h` and `linux/loop.h` (Linux 6.1).

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
/// `MOUNT_ATTR_NOSUID`, `_NODEV`, `_NOEXEC` and `_NOATIME`.
const MOUNT_ATTRIBUTES: libc::c_uint = 0x2 | 0x4 | 0x8 | 0x10;

/// `_IOR(229, 0, uint32_t)`.
const FUSE_DEV_IOC_CLONE: libc::c_ulong = 0x8004_e500;
const LOOP_GET_STATUS64: libc::c_ulong = 0x4c05;
const LOOP_SET_CAPACITY: libc::c_ulong = 0x4c07;
const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
/// From `linux/fs.h`.
const BLKROSET: libc::c_ulong = 0x125d;
const BLKSSZGET: libc::c_ulong = 0x1268;
const LOOP_CTL_ADD: libc::c_ulong = 0x4c80;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;

/// `sizeof(struct loop_info64)`.
pub(super) const LOOP_INFO_SIZE: usize = 232;
/// `sizeof(struct loop_config)`.
pub(super) const LOOP_CONFIG_SIZE: usize = 304;

/// A file system that is being put together: `fsopen(2)`.
pub(super) fn open_file_system(name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: `name` is a string that ends in a zero; the call keeps no reference to it.
    owned(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC) })
}

/// Sets an option that is a word of its own.
pub(super) fn set_flag(file_system: BorrowedFd<'_>, key: &CStr) -> io::Result<()> {
    configure(file_system, FSCONFIG_SET_FLAG, Some(key), None)
}

/// Sets an option that has a value.
pub(super) fn set_option(file_system: BorrowedFd<'_>, key: &CStr, value: &CStr) -> io::Result<()> {
    configure(file_system, FSCONFIG_SET_STRING, Some(key), Some(value))
}

/// Makes the file system.
pub(super) fn create(file_system: BorrowedFd<'_>) -> io::Result<()> {
    configure(file_system, FSCONFIG_CMD_CREATE, None, None)
}

fn configure(
    file_system: BorrowedFd<'_>,
    command: libc::c_uint,
    key: Option<&CStr>,
    value: Option<&CStr>,
) -> io::Result<()> {
    let key = key.map_or(std::ptr::null(), CStr::as_ptr);
    let value = value.map_or(std::ptr::null(), CStr::as_ptr);
    let fd = file_system.as_raw_fd();
    // SAFETY: both strings end in a zero, or are null where the command takes none; the call keeps neither.
    let status = unsafe { libc::syscall(libc::SYS_fsconfig, fd, command, key, value, 0 as libc::c_int) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A mount of the file system in no place: it ends when nobody has a descriptor of it or of a file in it.
pub(super) fn mount_detached(file_system: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let fd = file_system.as_raw_fd();
    // SAFETY: the call takes plain numbers.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, fd, FSMOUNT_CLOEXEC, MOUNT_ATTRIBUTES) })
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(result) {
        // SAFETY: the kernel just made the descriptor, and nothing else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes `fresh`, a new opening of `/dev/fuse`, another channel of the connection that `old` belongs to.
pub(super) fn clone_channel(fresh: BorrowedFd<'_>, old: BorrowedFd<'_>) -> io::Result<()> {
    let number = old.as_raw_fd();
    // SAFETY: the kernel reads the number that the pointer leads to, and keeps no reference.
    let status = unsafe { libc::ioctl(fresh.as_raw_fd(), FUSE_DEV_IOC_CLONE, &raw const number) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The number of a loop device that was free a moment ago; one is made if there is none.
pub(super) fn free_loop_device(control: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: the call takes no argument.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
    u32::try_from(number).map_err(|_| io::Error::last_os_error())
}

/// Makes a loop device; `EEXIST` if there is one of that number.
pub(super) fn add_loop_device(control: BorrowedFd<'_>, number: u32) -> io::Result<()> {
    // SAFETY: the call takes a plain number.
    let status = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_ADD, libc::c_ulong::from(number)) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Attaches a file to a loop device, with all settings at once (kernel 5.8).
pub(super) fn configure_loop(device: BorrowedFd<'_>, config: &[u8; LOOP_CONFIG_SIZE]) -> io::Result<()> {
    // SAFETY: the kernel copies as many bytes as the array has.
    let status = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, config.as_ptr()) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What a loop device says of itself; `ENXIO` if nothing is attached to it.
pub(super) fn loop_info(device: BorrowedFd<'_>) -> io::Result<[u8; LOOP_INFO_SIZE]> {
    let mut info = [0; LOOP_INFO_SIZE];
    // SAFETY: the kernel writes as many bytes as the array has.
    let status = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64, info.as_mut_ptr()) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(info) }
}

/// Has a loop device take over the size that its file has by now.
pub(super) fn resize_loop(device: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the call takes no argument.
    let status = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_SET_CAPACITY, 0) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Logical block size of a block device in bytes.
pub(super) fn logical_block_size(device: BorrowedFd<'_>) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel stores one int where it is told.
    let status = unsafe { libc::ioctl(device.as_raw_fd(), BLKSSZGET, &raw mut bytes) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(bytes.unsigned_abs()) }
}

/// Takes back what an earlier user of a block device may have set: that nobody may write to it.
pub(super) fn make_writable(device: BorrowedFd<'_>) -> io::Result<()> {
    let read_only: libc::c_int = 0;
    // SAFETY: the kernel reads the number that the pointer leads to, and keeps no reference.
    let status = unsafe { libc::ioctl(device.as_raw_fd(), BLKROSET, &raw const read_only) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives the calling thread a table of descriptors of its own, with nothing in it but a copy of `kept` (kernel 5.9). Nothing
/// else that the thread does from then on may need a descriptor of the process.
pub(super) fn isolate(kept: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let number = kept.as_raw_fd();
    let [below, above] = [number.unsigned_abs().checked_sub(1), number.unsigned_abs().checked_add(1)];
    // With this flag the table is copied first, and what is closed is closed in the copy.
    let unshare = libc::CLOSE_RANGE_UNSHARE;
    if let Some(above) = above {
        // SAFETY: descriptors are closed in a copy of the table that no other thread uses; this one was just started, and
        // owns none in its own variables.
        let status = unsafe { libc::syscall(libc::SYS_close_range, above, libc::c_uint::MAX, unshare) };
        if status < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    if let Some(below) = below {
        let first: libc::c_uint = 0;
        // SAFETY: as above, in the same copy.
        let status = unsafe { libc::syscall(libc::SYS_close_range, first, below, unshare) };
        if status < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: `kept` is borrowed, so it was open when the table was copied; nobody else knows of the copy.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Opens a directory, to which nothing can be written, as those of the descriptors 0 to 2 that are free: what is opened next would
/// get them otherwise.
pub(super) fn occupy_standard_descriptors() -> io::Result<Vec<File>> {
    let mut opened = Vec::new();
    loop {
        let root = File::open("/")?;
        if root.as_raw_fd() > 2 {
            return Ok(opened);
        }
        opened.push(root);
    }
}

/// Size of a page of memory.
pub(super) fn page_size() -> u32 {
    // SAFETY: the call takes a plain number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u32::try_from(size).unwrap_or(4096)
}
