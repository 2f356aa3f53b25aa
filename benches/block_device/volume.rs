//! The same through a volume.

use std::time::{Duration, Instant};

use mpio::path::{BlockDevice, QueueIndex};
use mpio::{BlockCount, Buffer, Cookie, Durability, Extent, Lba, Pool, Queue, Request, Volume};

use crate::{BLOCK, Blocks, Score, Task, cpu};

pub(crate) fn run(device: &str, task: Task) -> Score {
    let pool = Pool::new(BLOCK, task.depth).unwrap();
    let volume =
        Volume::builder().path(BlockDevice::new(device)).queue_depth(task.depth).pool(&pool).build().unwrap();
    let mut queue = volume.take_queue(QueueIndex(0)).unwrap();
    let factor = u64::from(BLOCK / queue.geometry().block_size());
    let mut blocks = Blocks::new();
    let mut push = |queue: &mut Queue, buffer: Buffer| {
        let start = Lba::new(blocks.next() * factor);
        let extent = Extent::new(start, BlockCount::new(u32::try_from(factor).unwrap())).unwrap();
        let request = if task.write {
            Request::write(extent, buffer, Durability::Cached, Cookie(0))
        } else {
            Request::read(extent, buffer, Cookie(0))
        };
        queue.submit(request).unwrap();
    };
    for _ in 0..task.depth {
        push(&mut queue, pool.take(BLOCK).unwrap());
    }
    let mut completions = Vec::with_capacity(task.depth as usize);
    let (began, before) = (Instant::now(), cpu());
    let (mut ios, mut out, mut stop) = (0, task.depth, false);
    while out > 0 {
        queue.wait(None, &mut completions);
        stop = stop || began.elapsed() >= task.span;
        for completion in completions.drain(..) {
            completion.result.unwrap();
            ios += 1;
            if stop {
                out -= 1;
            } else {
                push(&mut queue, completion.memory.into_buffer().unwrap());
            }
        }
    }
    let (wall, after) = (began.elapsed(), cpu());
    drop(queue);
    assert!(volume.close(Duration::ZERO).wait(Duration::from_secs(10)), "the device is free again");
    Score::new(ios, wall, before, after)
}
