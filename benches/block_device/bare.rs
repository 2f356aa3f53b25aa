//! The least that one thread can do: one ring, a registered file, registered buffers, one call that submits and waits.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Instant;

use io_uring::{IoUring, opcode, types};

use crate::{BLOCK, Blocks, Score, Task, cpu};

pub(crate) fn run(device: &str, task: Task) -> Score {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(device).unwrap();
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_defer_taskrun()
        .build(task.depth.max(8))
        .unwrap();
    let layout = std::alloc::Layout::from_size_align(task.depth as usize * BLOCK as usize, 4096).unwrap();
    // SAFETY: the layout has a size.
    let memory = unsafe { std::alloc::alloc_zeroed(layout) };
    let vector = libc::iovec { iov_base: memory.cast(), iov_len: layout.size() };
    // SAFETY: the memory outlives the ring's use of it: freed below, after everything was answered.
    unsafe { ring.submitter().register_buffers(&[vector]) }.unwrap();
    ring.submitter().register_files(&[file.as_raw_fd()]).unwrap();
    let mut blocks = Blocks::new();
    let mut push = |ring: &mut IoUring, slot: u64| {
        let at = blocks.next() * u64::from(BLOCK);
        // SAFETY: the slot is below the depth.
        let address = unsafe { memory.add(slot as usize * BLOCK as usize) };
        let entry = if task.write {
            opcode::WriteFixed::new(types::Fixed(0), address, BLOCK, 0).offset(at).build()
        } else {
            opcode::ReadFixed::new(types::Fixed(0), address, BLOCK, 0).offset(at).build()
        };
        // SAFETY: the piece of memory is this slot's alone until its completion is seen.
        unsafe { ring.submission().push(&entry.user_data(slot)) }.unwrap();
    };
    for slot in 0..u64::from(task.depth) {
        push(&mut ring, slot);
    }
    let (began, before) = (Instant::now(), cpu());
    let (mut ios, mut out, mut stop) = (0, task.depth, false);
    while out > 0 {
        ring.submit_and_wait(1).unwrap();
        stop = stop || began.elapsed() >= task.span;
        while let Some(entry) = { ring.completion().next() } {
            assert_eq!(entry.result(), i32::try_from(BLOCK).unwrap());
            ios += 1;
            if stop {
                out -= 1;
            } else {
                push(&mut ring, entry.user_data());
            }
        }
    }
    let (wall, after) = (began.elapsed(), cpu());
    // SAFETY: allocated above with this layout; nothing is out.
    unsafe { std::alloc::dealloc(memory, layout) };
    Score::new(ios, wall, before, after)
}
