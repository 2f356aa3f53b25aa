//! Requests with buffers of one's own, as futures.

use std::thread::{scope, yield_now};
use std::time::Duration;

use mpio::path::Stall;
use mpio::{Client, Completion, Durability, Error, Fate, Memory, Pool, Response};

use crate::executor::{block_on, poll_once, run_all};
use crate::rig::{BOUND, Chance, Rig, extent};

const BUFFERS: u32 = 64;

fn pool(rig: &Rig) -> Pool {
    Pool::with_reserve(u32::try_from(rig.block()).unwrap(), BUFFERS, 0).unwrap()
}

/// Waits until the pool has all its buffers back: some come when the device lets go of them.
fn wait_for_all(pool: &Pool) {
    while pool.available() < BUFFERS as usize {
        yield_now();
    }
}

fn write(client: &Client, pool: &Pool, block: u64) -> Response {
    let mut buffer = pool.take(pool.size()).unwrap();
    buffer.fill(u8::try_from(block).unwrap());
    client.write(extent(block), buffer, Durability::Cached)
}

fn deadline(completion: &Completion) -> Option<Fate> {
    match completion.result {
        Err(Error::DeadlineExceeded { fate }) => Some(fate),
        _ => None,
    }
}

fn closed(completion: &Completion) -> Option<Fate> {
    match completion.result {
        Err(Error::Closed { fate }) => Some(fate),
        _ => None,
    }
}

#[test]
fn many_tasks_read_what_they_wrote() {
    let rig = Rig::new();
    let (client, pool) = (rig.client(3), pool(&rig));
    let task = |number: u8| {
        let (client, pool, extent) = (client.clone(), pool.clone(), extent(number.into()));
        async move {
            for round in 0..20_u8 {
                let mut buffer = pool.take(pool.size()).unwrap();
                buffer.fill(number ^ round);
                let written = client.write(extent, buffer, Durability::Cached).await;
                written.result.unwrap();
                let mut buffer = written.memory.into_buffer().unwrap();
                buffer.fill(0);
                let read = client.read(extent, buffer).await;
                read.result.unwrap();
                let buffer = read.memory.into_buffer().unwrap();
                assert!(buffer.iter().all(|&byte| byte == number ^ round));
                client.flush().await.result.unwrap();
            }
        }
    };
    run_all((0..u8::try_from(BUFFERS).unwrap()).map(|number| Box::pin(task(number)) as _));
    wait_for_all(&pool);
    rig.close();
}

#[test]
fn responses_dropped_at_any_point_lose_no_memory() {
    let rig = Rig::new();
    let (client, pool) = (rig.client(4), pool(&rig));
    scope(|scope| {
        for seed in 0..4 {
            let (client, pool) = (&client, &pool);
            scope.spawn(move || {
                let mut chance = Chance(seed);
                let mut held = Vec::new();
                for _ in 0..2_000 {
                    let Some(buffer) = pool.take(pool.size()) else {
                        held.clear();
                        continue;
                    };
                    let mut response = client.read(extent(chance.below(64) as u64), buffer);
                    let is_over = (0..chance.below(3)).any(|_| poll_once(&mut response).is_some());
                    match chance.below(4) {
                        0 if !is_over => assert!(block_on(response).result.is_ok()),
                        1 if !is_over => assert!(response.wait().result.is_ok()),
                        2 => held.push(response),
                        _ => drop(response),
                    }
                    if held.len() == 10 {
                        drop(held.swap_remove(chance.below(10)));
                    }
                }
            });
        }
    });
    wait_for_all(&pool);
    rig.close();
}

#[test]
fn a_deadline_ends_what_waits_for_its_turn() {
    let rig = Rig::new();
    let (client, pool) = (rig.client(2), pool(&rig));
    let hasty = client.with_timeout(Duration::from_millis(5));
    rig.faults.stall(Stall::Late);
    let patient: Vec<_> = (0..2).map(|block| write(&client, &pool, block)).collect();
    let late: Vec<_> = (2..12).map(|block| write(&hasty, &pool, block)).collect();
    for response in late {
        let completion = block_on(response);
        assert_eq!(deadline(&completion), Some(Fate::NotSent));
        assert!(completion.memory.into_buffer().is_some());
    }
    let error = hasty.write_at(&vec![1; rig.block()], 0, Durability::Fua).unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded { fate: Fate::NotSent }), "{error}");
    rig.faults.restore();
    for response in patient {
        block_on(response).result.unwrap();
    }
    wait_for_all(&pool);
    rig.close();
}

#[test]
fn a_deadline_ends_what_is_under_way_and_what_waits_for_a_buffer() {
    let rig = Rig::new();
    let pool = pool(&rig);
    let one = Pool::with_reserve(pool.size(), 1, 0).unwrap();
    let client = rig.served.client_with_pool(1, &one).unwrap();
    let hasty = client.with_timeout(Duration::from_millis(5));
    rig.faults.stall(Stall::Late);
    for _ in 0..2 {
        let completion = write(&hasty, &pool, 1).wait();
        assert!(deadline(&completion).is_some(), "{completion:?}");
        let error = hasty.read_at(&mut vec![0; rig.block()], 0).unwrap_err();
        assert!(matches!(error, Error::DeadlineExceeded { .. }), "{error}");
    }
    rig.faults.restore();
    wait_for_all(&pool);
    client.read_at(&mut vec![0; rig.block()], 0).unwrap();
    rig.close();
}

#[test]
fn to_close_ends_what_is_under_way_and_what_waits_for_its_turn() {
    let rig = Rig::new();
    let (client, pool) = (rig.client(2), pool(&rig));
    rig.faults.stall(Stall::Late);
    let responses: Vec<_> = (0..10).map(|block| write(&client, &pool, block)).collect();
    let settled = rig.volume.close(Duration::ZERO);
    let mut quarantined = 0;
    for completion in responses.into_iter().map(block_on) {
        assert!(closed(&completion).is_some(), "{completion:?}");
        quarantined += usize::from(matches!(completion.memory, Memory::Quarantined));
    }
    assert!(quarantined <= 2);
    assert_eq!(closed(&block_on(client.flush())), Some(Fate::NotSent));
    assert!(client.read_at(&mut vec![0; rig.block()], 0).is_err());
    rig.faults.restore();
    assert!(settled.wait(BOUND));
    assert_eq!(closed(&write(&client, &pool, 1).wait()), Some(Fate::NotSent));
    wait_for_all(&pool);
}

#[test]
fn a_response_outlives_everything_else_in_any_order() {
    for order in 0..24_usize {
        let rig = Rig::new();
        let (client, pool) = (rig.client(1), pool(&rig));
        let (first, second) = (write(&client, &pool, 1), write(&client, &pool, 2));
        let Rig { volume, faults, served, file: _file } = rig;
        faults.slow(Duration::from_millis(1));
        let (mut volume, mut faults, mut served, mut client) =
            (Some(volume), Some(faults), Some(served), Some(client));
        let mut left = vec![0, 1, 2, 3];
        for step in [order / 6, order / 2 % 3, order % 2, 0] {
            match left.remove(step) {
                0 => drop(volume.take()),
                1 => drop(faults.take()),
                2 => drop(served.take()),
                _ => drop(client.take()),
            }
        }
        if order % 2 == 0 {
            drop(first);
        } else {
            block_on(first).result.unwrap();
        }
        block_on(second).result.unwrap();
        wait_for_all(&pool);
    }
}
