//! The ceiling for a volume served over FUSE: one file that is memory, by the crate `fuser` as it comes. It finds nothing
//! out, asks no device and waits for nothing; what it cannot do, no server that reads and writes `/dev/fuse` with the same
//! system calls can.
//!
//! `ceiling FILE MEBIBYTES THREADS` covers the existing FILE until that is unmounted.

mod memory;

use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, INodeNo, InitFlags, KernelConfig,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyOpen, ReplyWrite, Request,
    Session, WriteFlags,
};

use memory::{BLOCK, Memory};

/// Enough for a loop device, which has 128 requests at most in flight.
const MAX_BACKGROUND: u16 = 256;
const MAX_WRITE: u32 = 1 << 20;
/// The kernel may remember the attributes for ever: they never change.
const FOR_EVER: Duration = Duration::from_secs(1 << 30);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at)?.parse().ok().filter(|number| (1..=65_536).contains(number));
    let (3, Some(mebibytes), Some(threads)) = (arguments.len(), number(1), number(2)) else {
        eprintln!("usage: ceiling FILE MEBIBYTES THREADS");
        return ExitCode::from(2);
    };
    match serve(&arguments[0], mebibytes, threads) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot serve {}: {error}", arguments[0]);
            ExitCode::FAILURE
        }
    }
}

fn serve(file: &str, mebibytes: usize, threads: usize) -> std::io::Result<()> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("ceiling".into()), MountOption::RW];
    config.n_threads = Some(threads);
    config.clone_fd = true;
    Session::new(Ceiling { memory: Memory::new(mebibytes << 20) }, file, &config)?.run()
}

struct Ceiling {
    memory: Memory,
}

impl Ceiling {
    fn attributes(&self) -> FileAttr {
        let bytes = self.memory.len();
        FileAttr {
            ino: INodeNo::ROOT,
            size: bytes,
            blocks: bytes / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: FileType::RegularFile,
            perm: 0o600,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: BLOCK as u32,
            flags: 0,
        }
    }
}

impl Filesystem for Ceiling {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let refused = |what: &str| std::io::Error::other(format!("the kernel refuses {what}"));
        config.add_capabilities(InitFlags::FUSE_ASYNC_DIO).map_err(|_| refused("FUSE_ASYNC_DIO"))?;
        config.set_max_background(MAX_BACKGROUND).map_err(|_| refused("max_background"))?;
        config.set_max_write(MAX_WRITE).map_err(|_| refused("max_write"))?;
        Ok(())
    }

    fn getattr(&self, _request: &Request, _inode: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOR_EVER, &self.attributes());
    }

    fn open(&self, _request: &Request, _inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.memory.read(offset, size as usize, |data| reply.data(data));
    }

    fn write(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if self.memory.write(offset, data) {
            reply.written(data.len() as u32);
        } else {
            reply.error(Errno::ENOSPC);
        }
    }

    fn fsync(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _data: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }
}
