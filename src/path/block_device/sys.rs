//! System calls on block devices and files that the standard library does not have.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

use crate::io::Durability;
use crate::reactor::Span;

// From `linux/fs.h` and `linux/loop.h`, for the architectures whose `_IO` has no direction bits.
const BLKROGET: libc::Ioctl = libc::_IO(0x12, 94);
const BLKSSZGET: libc::Ioctl = libc::_IO(0x12, 104);
const BLKGETSIZE64: libc::Ioctl = libc::_IOR::<libc::size_t>(0x12, 114);
const BLKDISCARD: libc::Ioctl = libc::_IO(0x12, 119);
const BLKZEROOUT: libc::Ioctl = libc::_IO(0x12, 127);
const LOOP_GET_STATUS64: libc::Ioctl = 0x4c05;

/// A run of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes {
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// What is behind a loop device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LoopStatus {
    /// Device number of the backing file's file system.
    pub(super) device: u64,
    /// The backing file's inode.
    pub(super) inode: u64,
    /// Where in the file the device begins, in bytes.
    pub(super) offset: u64,
}

/// What direct I/O on a file must be aligned to, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DirectAlignment {
    pub(super) memory: u32,
    pub(super) offset: u32,
}

/// Size of a block device in bytes.
pub(super) fn device_size(file: &File) -> io::Result<u64> {
    let mut bytes: u64 = 0;
    // SAFETY: the request stores one u64 where it is told.
    check(unsafe { libc::ioctl(file.as_raw_fd(), BLKGETSIZE64, &raw mut bytes) })?;
    Ok(bytes)
}

/// Logical block size of a block device in bytes.
pub(super) fn logical_block_size(file: &File) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request stores one int where it is told.
    check(unsafe { libc::ioctl(file.as_raw_fd(), BLKSSZGET, &raw mut bytes) })?;
    Ok(bytes.unsigned_abs())
}

/// Whether a block device is write-protected.
pub(super) fn is_read_only(file: &File) -> io::Result<bool> {
    let mut flag: libc::c_int = 0;
    // SAFETY: the request stores one int where it is told.
    check(unsafe { libc::ioctl(file.as_raw_fd(), BLKROGET, &raw mut flag) })?;
    Ok(flag != 0)
}

/// What is behind a loop device; `None` for any other device.
pub(super) fn loop_status(file: &File) -> Option<LoopStatus> {
    // `struct loop_info64` is 232 bytes long and begins with five u64: device, inode, rdevice, offset, size limit.
    let mut info = [0_u64; 29];
    // SAFETY: the request stores at most 232 bytes where it is told, which is what `info` has.
    check(unsafe { libc::ioctl(file.as_raw_fd(), LOOP_GET_STATUS64, info.as_mut_ptr()) }).ok()?;
    Some(LoopStatus { device: info[0], inode: info[1], offset: info[3] })
}

/// Discards a range of a block device.
pub(super) fn discard_device(file: &File, bytes: Bytes) -> io::Result<()> {
    range_ioctl(file, BLKDISCARD, bytes)
}

/// Zeroes a range of a block device without giving its blocks back; the kernel writes zeroes where the device has no
/// command for it.
pub(super) fn zero_device(file: &File, bytes: Bytes) -> io::Result<()> {
    range_ioctl(file, BLKZEROOUT, bytes)
}

fn range_ioctl(file: &File, request: libc::Ioctl, bytes: Bytes) -> io::Result<()> {
    let range = [bytes.offset, bytes.len];
    // SAFETY: the request reads two u64 where it is told.
    check(unsafe { libc::ioctl(file.as_raw_fd(), request, range.as_ptr()) })
}

/// `fallocate(2)` that keeps the size.
pub(super) fn allocate(file: &File, mode: libc::c_int, bytes: Bytes) -> io::Result<()> {
    let mode = mode | libc::FALLOC_FL_KEEP_SIZE;
    let (offset, len) = (file_offset(bytes.offset)?, file_offset(bytes.len)?);
    // SAFETY: the call takes plain numbers.
    check(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) })
}

/// What direct I/O must be aligned to, where the kernel says it (6.1) and the file system supports it.
pub(super) fn direct_alignment(file: &File) -> Option<DirectAlignment> {
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    let (flags, mask) = (libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN);
    // SAFETY: the path is a terminated empty string, and the call stores one `statx` where it is told.
    check(unsafe { libc::statx(file.as_raw_fd(), c"".as_ptr(), flags, mask, found.as_mut_ptr()) }).ok()?;
    // SAFETY: zeroes are a valid `statx`, and the call only wrote valid fields over them.
    let found = unsafe { found.assume_init() };
    let known = found.stx_mask & mask != 0 && found.stx_dio_offset_align != 0;
    known.then_some(DirectAlignment { memory: found.stx_dio_mem_align, offset: found.stx_dio_offset_align })
}

/// The magic number of the file system that holds `file`.
pub(super) fn file_system(file: &File) -> io::Result<u32> {
    let mut found = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the call stores one `statfs` where it is told.
    check(unsafe { libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) })?;
    // SAFETY: zeroes are a valid `statfs`, and the call only wrote valid fields over them.
    let found = unsafe { found.assume_init() };
    #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "magic numbers have 32 bits")]
    let magic = found.f_type as u32;
    Ok(magic)
}

/// Reads into `memory`, blocking: the number of bytes.
///
/// # Safety
/// `memory` is mapped and touched by nobody else during the call.
pub(super) unsafe fn read(file: &File, memory: Span, offset: u64) -> io::Result<u32> {
    let vector = vector(memory);
    let offset = file_offset(offset)?;
    // SAFETY: one vector, whose memory the caller vouches for.
    let count = unsafe { libc::preadv2(file.as_raw_fd(), &raw const vector, 1, offset, 0) };
    transferred(count)
}

/// Writes from `memory`, blocking: the number of bytes.
///
/// # Safety
/// `memory` is mapped and written by nobody during the call.
pub(super) unsafe fn write(
    file: &File,
    memory: Span,
    offset: u64,
    durability: Durability,
) -> io::Result<u32> {
    let vector = vector(memory);
    let offset = file_offset(offset)?;
    let flags = match durability {
        Durability::Cached => 0,
        Durability::Fua => libc::RWF_DSYNC,
    };
    // SAFETY: one vector, whose memory the caller vouches for.
    let count = unsafe { libc::pwritev2(file.as_raw_fd(), &raw const vector, 1, offset, flags) };
    transferred(count)
}

fn vector(memory: Span) -> libc::iovec {
    libc::iovec { iov_base: memory.start.as_ptr().cast(), iov_len: memory.len as usize }
}

fn transferred(count: isize) -> io::Result<u32> {
    // A count is at most the length asked for, which is a u32.
    u32::try_from(count).map_err(|_| io::Error::last_os_error())
}

fn file_offset(bytes: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

fn check(status: libc::c_int) -> io::Result<()> {
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
