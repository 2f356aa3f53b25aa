//! System calls on block devices and files that the standard library does not have.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::io::Durability;
use crate::reactor::Span;

// From `linux/fs.h` and `linux/loop.h`, for the architectures whose `_IO` has no direction bits.
const BLKROGET: libc::Ioctl = libc::_IO(0x12, 94);
const BLKSSZGET: libc::Ioctl = libc::_IO(0x12, 104);
const BLKGETSIZE64: libc::Ioctl = libc::_IOR::<libc::size_t>(0x12, 114);
const BLKDISCARD: libc::Ioctl = libc::_IO(0x12, 119);
const BLKZEROOUT: libc::Ioctl = libc::_IO(0x12, 127);
const LOOP_GET_STATUS64: libc::Ioctl = 0x4c05;
const LOOP_SET_DIRECT_IO: libc::Ioctl = 0x4c08;
// From `linux/nvme_ioctl.h`: `_IOWR('N', 0x41, struct nvme_admin_cmd)`.
const NVME_IOCTL_ADMIN_CMD: libc::Ioctl = libc::_IOWR::<NvmeAdminCommand>(b'N' as u32, 0x41);
/// Milliseconds that an NVMe admin command may take.
const NVME_TIMEOUT: u32 = 5_000;
// From `scsi/sg.h`.
const SG_IO: libc::Ioctl = 0x2285;
const SG_DXFER_NONE: libc::c_int = -1;
const SG_DXFER_FROM_DEV: libc::c_int = -3;
/// Milliseconds that a SCSI command may take.
const SCSI_TIMEOUT: libc::c_uint = 5_000;

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

/// How a SCSI command ended that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScsiEnd {
    /// Well, with so many bytes.
    Good(usize),
    /// Otherwise: the device has something to say.
    Status,
}

/// `struct sg_io_hdr` of `scsi/sg.h`.
#[repr(C)]
struct SgIoHdr {
    interface_id: libc::c_int,
    dxfer_direction: libc::c_int,
    cmd_len: libc::c_uchar,
    mx_sb_len: libc::c_uchar,
    iovec_count: libc::c_ushort,
    dxfer_len: libc::c_uint,
    dxferp: *mut libc::c_void,
    cmdp: *const libc::c_uchar,
    sbp: *mut libc::c_uchar,
    timeout: libc::c_uint,
    flags: libc::c_uint,
    pack_id: libc::c_int,
    usr_ptr: *mut libc::c_void,
    status: libc::c_uchar,
    masked_status: libc::c_uchar,
    msg_status: libc::c_uchar,
    sb_len_wr: libc::c_uchar,
    host_status: libc::c_ushort,
    driver_status: libc::c_ushort,
    resid: libc::c_int,
    duration: libc::c_uint,
    info: libc::c_uint,
}

/// Sends a SCSI command that changes nothing and fills `data`, blocking. Fails where the device is no SCSI disk, or where the
/// command had no answer.
pub(super) fn scsi(file: &File, command: &[u8], data: &mut [u8]) -> io::Result<ScsiEnd> {
    let mut sense = [0_u8; 32];
    let len = |bytes: usize| u8::try_from(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL));
    let size = u32::try_from(data.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let mut header = SgIoHdr {
        interface_id: libc::c_int::from(b'S'),
        dxfer_direction: if data.is_empty() { SG_DXFER_NONE } else { SG_DXFER_FROM_DEV },
        cmd_len: len(command.len())?,
        mx_sb_len: len(sense.len())?,
        iovec_count: 0,
        dxfer_len: size,
        dxferp: data.as_mut_ptr().cast(),
        cmdp: command.as_ptr(),
        sbp: sense.as_mut_ptr(),
        timeout: SCSI_TIMEOUT,
        flags: 0,
        pack_id: 0,
        usr_ptr: std::ptr::null_mut(),
        status: 0,
        masked_status: 0,
        msg_status: 0,
        sb_len_wr: 0,
        host_status: 0,
        driver_status: 0,
        resid: 0,
        duration: 0,
        info: 0,
    };
    // SAFETY: the kernel reads the command and fills data and sense, each within the length that is given with its address, before
    // the call returns; all of them live longer than that.
    check(unsafe { libc::ioctl(file.as_raw_fd(), SG_IO, &raw mut header) })?;
    match (header.host_status, header.status) {
        (0, 0) => {
            let rest = usize::try_from(header.resid).unwrap_or(0);
            Ok(ScsiEnd::Good(data.len().saturating_sub(rest)))
        }
        (0, _) => Ok(ScsiEnd::Status),
        _ => Err(io::Error::from_raw_os_error(libc::EIO)),
    }
}

/// `struct nvme_passthru_cmd` of `linux/nvme_ioctl.h`.
#[repr(C)]
struct NvmeAdminCommand {
    opcode: u8,
    flags: u8,
    rsvd1: u16,
    nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    addr: u64,
    metadata_len: u32,
    data_len: u32,
    /// Words 10 to 15.
    words: [u32; 6],
    timeout_ms: u32,
    result: u32,
}

/// Sends an NVMe admin command that changes nothing and fills `data`, blocking: opcode and namespace, then words 10 to 15.
pub(super) fn nvme_admin(
    file: &File,
    (opcode, nsid): (u8, u32),
    words: [u32; 6],
    data: &mut [u8],
) -> io::Result<()> {
    let data_len = u32::try_from(data.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let mut command = NvmeAdminCommand {
        opcode,
        flags: 0,
        rsvd1: 0,
        nsid,
        cdw2: 0,
        cdw3: 0,
        metadata: 0,
        addr: data.as_mut_ptr() as u64,
        metadata_len: 0,
        data_len,
        words,
        timeout_ms: NVME_TIMEOUT,
        result: 0,
    };
    // SAFETY: the kernel fills `data`, no more of it than the length that is given with its address, before the call returns.
    let status = unsafe { libc::ioctl(file.as_raw_fd(), NVME_IOCTL_ADMIN_CMD, &raw mut command) };
    match status {
        0 => Ok(()),
        ..0 => Err(io::Error::last_os_error()),
        // A status of the controller's.
        _ => Err(io::Error::from_raw_os_error(libc::EREMOTEIO)),
    }
}

/// Has a loop device do direct I/O on its file.
pub(super) fn make_direct(file: &File) -> io::Result<()> {
    let on: libc::c_ulong = 1;
    // SAFETY: the call takes a plain number.
    check(unsafe { libc::ioctl(file.as_raw_fd(), LOOP_SET_DIRECT_IO, on) })
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

/// A socket on which the kernel says what happens to devices, never blocking.
#[derive(Debug)]
pub(super) struct Netlink(OwnedFd);

/// What came over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// So many bytes of the kernel's.
    Message(usize),
    /// Something of another process's, which nobody asked for.
    Foreign,
}

impl Netlink {
    /// The group of the kernel's own messages (`uevent_net_broadcast` in `lib/kobject_uevent.c`).
    const KERNEL: u32 = 1;

    pub(super) fn uevents() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: the call takes plain numbers.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_KOBJECT_UEVENT) };
        check(fd)?;
        // SAFETY: `fd` was just made, and nothing else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut address = no_address();
        address.nl_groups = Self::KERNEL;
        let len = address_len();
        // SAFETY: the kernel reads an address of that length, and keeps none of it.
        check(unsafe { libc::bind(fd, (&raw const address).cast(), len) })?;
        Ok(Self(socket))
    }

    /// The next message. `WouldBlock` if there is none; `ENOBUFS` if some were lost.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let (mut from, mut len) = (no_address(), address_len());
        // SAFETY: the kernel fills the buffer and the address, each within the length that is given with it.
        let count = unsafe {
            libc::recvfrom(
                self.0.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                0,
                (&raw mut from).cast(),
                &raw mut len,
            )
        };
        let bytes = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        Ok(if from.nl_pid == 0 { Received::Message(bytes) } else { Received::Foreign })
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn no_address() -> libc::sockaddr_nl {
    // SAFETY: zeroes are a valid address.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).unwrap_or_default();
    address
}

fn address_len() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<libc::sockaddr_nl>()).unwrap_or_default()
}

fn check(status: libc::c_int) -> io::Result<()> {
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
