//! Calls on borrowed slices.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{current, scope, yield_now};

use mpio::{Class, Durability, Error, Pool, Unmap};

use crate::rig::{BYTES, Chance, Rig, extent};

#[test]
fn what_many_threads_write_reads_back() {
    const THREADS: u64 = 16;
    let rig = Rig::new();
    let client = rig.client(4);
    let share = BYTES / THREADS;
    scope(|scope| {
        for number in 0..THREADS {
            let (client, block) = (client.clone(), rig.block());
            scope.spawn(move || {
                let mut chance = Chance(number);
                let mut expected = vec![0; usize::try_from(share).unwrap()];
                let mut read = vec![0; expected.len()];
                let blocks = expected.len() / block;
                for _ in 0..40 {
                    let first = chance.below(blocks);
                    let range = first * block..(first + 1 + chance.below(blocks - first)) * block;
                    let at = number * share + range.start as u64;
                    if chance.below(2) == 0 {
                        chance.fill(&mut expected[range.clone()]);
                        client.write_at(&expected[range], at, Durability::Cached).unwrap();
                    } else {
                        client.read_at(&mut read[range.clone()], at).unwrap();
                        assert!(read[range.clone()] == expected[range], "thread {number}");
                    }
                }
                client.flush().wait().result.unwrap();
                client.read_at(&mut read, number * share).unwrap();
                assert!(read == expected, "thread {number}");
            });
        }
    });
    rig.close();
}

#[test]
fn a_call_longer_than_a_buffer_of_the_client_goes_in_pieces() {
    let rig = Rig::new();
    let pool = Pool::new(u32::try_from(rig.block()).unwrap() + 100, 3).unwrap();
    let client = rig.served.client_with_pool(2, &pool).unwrap();
    assert_eq!(pool.available(), 0);
    let mut written = vec![0; rig.block() * 37];
    Chance(1).fill(&mut written);
    client.write_at(&written, rig.block() as u64, Durability::Fua).unwrap();
    let mut read = vec![0; written.len()];
    client.read_at(&mut read, rig.block() as u64).unwrap();
    assert!(read == written);
    rig.close();
    drop(client);
    // The dispatcher lets go of them after the volume says that it is closed.
    while pool.available() < 3 {
        yield_now();
    }
}

#[test]
fn what_is_not_of_whole_blocks_is_refused() {
    let rig = Rig::new();
    let client = rig.client(1);
    let mut data = vec![0; rig.block()];
    for (len, offset) in [(rig.block(), 1), (rig.block() - 1, 0), (rig.block() / 2, 7)] {
        let error = client.read_at(&mut data[..len], offset).unwrap_err();
        assert!(matches!(error, Error::Misaligned { .. }) && error.class() == Class::Request, "{error}");
        let error = client.write_at(&data[..len], offset, Durability::Cached).unwrap_err();
        assert!(error.to_string().contains("multiples of the block size"), "{error}");
        assert_eq!(std::io::Error::from(error).raw_os_error(), Some(libc::EINVAL));
    }
}

#[test]
fn what_lies_past_the_end_is_refused_whole() {
    let rig = Rig::new();
    let client = rig.client(1);
    let mut data = vec![1; rig.block() * 2];
    let last = BYTES - rig.block() as u64;
    let far = u64::MAX / rig.block() as u64 * rig.block() as u64;
    for offset in [last, BYTES, far] {
        let error = client.read_at(&mut data, offset).unwrap_err();
        assert!(matches!(error, Error::OutOfRange { .. } | Error::InvalidExtent { .. }), "{error}");
        assert!(client.write_at(&data, offset, Durability::Cached).is_err());
    }
    client.read_at(&mut data[..rig.block()], last).unwrap();
    assert!(data[..rig.block()].iter().all(|&byte| byte == 0), "nothing was written");
    client.read_at(&mut [], BYTES).unwrap();
}

#[test]
fn zeroed_and_discarded_blocks_can_be_used_again() {
    let rig = Rig::new();
    let client = rig.client(2);
    let (mut data, extent) = (vec![7; rig.block()], extent(0));
    client.write_at(&data, 0, Durability::Cached).unwrap();
    client.write_zeroes(extent, Unmap::Allowed).wait().result.unwrap();
    client.read_at(&mut data, 0).unwrap();
    assert!(data.iter().all(|&byte| byte == 0));
    client.discard(extent).wait().result.unwrap();
    client.write_at(&data, 0, Durability::Cached).unwrap();
}

#[test]
fn unparks_by_others_do_not_end_a_call() {
    let rig = Rig::new();
    let client = rig.client(1);
    let waiting = current();
    let is_over = AtomicBool::new(false);
    rig.faults.slow(std::time::Duration::from_millis(2));
    scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                waiting.unpark();
            }
        });
        let mut data = vec![0; rig.block()];
        for round in 0..50_u8 {
            client.write_at(&vec![round; rig.block()], 0, Durability::Cached).unwrap();
            client.read_at(&mut data, 0).unwrap();
            assert!(data.iter().all(|&byte| byte == round));
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn depths_and_pools_that_are_of_no_use_are_refused() {
    let rig = Rig::new();
    for depth in [0, 65_537, u32::MAX] {
        let error = rig.served.client(depth).unwrap_err();
        assert!(error.to_string().contains("between 1 and 65536"), "{error}");
    }
    let small = Pool::new(u32::try_from(rig.block()).unwrap() - 1, 4).unwrap();
    let error = rig.served.client_with_pool(4, &small).unwrap_err();
    assert!(error.to_string().contains("hold no block"), "{error}");
    let pool = Pool::new(u32::try_from(rig.block()).unwrap(), 4).unwrap();
    let _has_all = rig.served.client_with_pool(4, &pool).unwrap();
    let error = rig.served.client_with_pool(4, &pool).unwrap_err();
    assert!(error.to_string().contains("needs at least one"), "{error}");
}
