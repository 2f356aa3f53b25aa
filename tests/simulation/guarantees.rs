//! Under any sequence of events: every accepted request completes once, policies see eligible paths only, buffers are
//! left alone once returned, nothing older lands after a completed write, flushes cover what was completed before.

use std::time::Duration;

use mpio::path::{AccessState, CacheScope, FenceSupport};
use mpio::sim::{FenceFault, LinkFault, LinkProfile, Options};
use mpio::{Durability, NoPath, Operation, Sharing, Unmap};
use proptest::prelude::*;

use crate::harness::{BLOCKS, Harness, Step};

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => Just(Operation::Read),
        6 => Just(Operation::Write(Durability::Cached)),
        1 => Just(Operation::Write(Durability::Fua)),
        2 => Just(Operation::Flush),
        1 => Just(Operation::Discard),
        1 => Just(Operation::WriteZeroes(Unmap::Allowed)),
    ]
}

fn fault() -> impl Strategy<Value = LinkFault> {
    prop_oneof![
        4 => Just(LinkFault::Dead),
        4 => Just(LinkFault::Silent),
        4 => Just(LinkFault::Stuck),
        2 => Just(LinkFault::HalfDead),
        2 => Just(LinkFault::Short),
        2 => Just(LinkFault::Denied),
        1 => Just(LinkFault::Crash),
    ]
}

fn fence_fault() -> impl Strategy<Value = Option<FenceFault>> {
    prop::sample::select(vec![None, Some(FenceFault::Fails), Some(FenceFault::Silent)])
}

/// Who writes, and for how long requests wait for a path.
fn rules() -> impl Strategy<Value = (Sharing, NoPath)> {
    let sharing = prop::sample::select(vec![Sharing::Shared, Sharing::Exclusive]);
    let hold = |millis| NoPath::hold(Duration::from_millis(millis));
    (sharing, prop::sample::select(vec![hold(10_000), hold(10_000), hold(50), NoPath::Fail]))
}

fn access() -> impl Strategy<Value = AccessState> {
    use AccessState::{Inaccessible, NonOptimized, Optimized, Standby, Transitioning};
    prop::sample::select(vec![Optimized, Optimized, NonOptimized, Transitioning, Standby, Inaccessible])
}

fn step() -> impl Strategy<Value = Step> {
    let deadline = prop_oneof![
        3 => Just(None),
        1 => (1u64..60).prop_map(|millis| Some(Duration::from_millis(millis))),
    ];
    // Mostly where they overlap.
    let start = prop_oneof![3 => 0u64..8, 1 => 0..BLOCKS];
    let submit = (0usize..2, operation(), start, 1u32..8, deadline).prop_map(
        |(queue, operation, start, blocks, deadline)| Step::Submit {
            queue,
            operation,
            start,
            blocks,
            deadline,
        },
    );
    prop_oneof![
        40 => submit,
        14 => (0u64..2000).prop_map(|micros| Step::Run(Duration::from_micros(micros))),
        4 => (0u64..100).prop_map(|millis| Step::Run(Duration::from_millis(millis))),
        4 => (0usize..6, fault()).prop_map(|(path, fault)| Step::Break(path, fault)),
        5 => (0usize..6).prop_map(Step::Restore),
        2 => (0usize..6, 0u32..300_000).prop_map(|(path, rate)| Step::Mishaps(path, rate)),
        2 => (0usize..6, 1u32..4).prop_map(|(path, count)| Step::Lose(path, count)),
        2 => (0usize..6, 0u64..60).prop_map(|(path, millis)| Step::Slow(path, Duration::from_millis(millis))),
        1 => (0usize..6, fence_fault()).prop_map(|(path, fault)| Step::FenceFault(path, fault)),
        1 => Just(Step::Add),
        1 => (0usize..6).prop_map(Step::Remove),
        2 => (0usize..20).prop_map(Step::Cancel),
        1 => (0usize..4).prop_map(Step::Policy),
        2 => (0usize..2).prop_map(Step::Pause),
        2 => (0usize..6, access()).prop_map(|(path, state)| Step::Access(path, state)),
        3 => (0usize..2).prop_map(Step::Resume),
    ]
}

/// Links of one volume: one kind of fence, since what waits where there is none hides what should not wait, or all kinds;
/// no volatile cache, one behind all, one each, or any of a few.
fn profiles() -> impl Strategy<Value = Vec<LinkProfile>> {
    let fence = prop_oneof![
        4 => Just(FenceSupport::Proven),
        2 => Just(FenceSupport::Assumed(Duration::from_millis(50))),
        2 => Just(FenceSupport::Answered),
        1 => Just(FenceSupport::None),
    ];
    let caches =
        prop_oneof![Just(vec![None]), Just(some_caches(1)), Just(some_caches(4)), Just(mixed_caches())];
    let link = (1u32..40, any::<prop::sample::Index>());
    let mixed = prop_oneof![4 => Just(false), 1 => Just(true)];
    (fence, mixed, caches, prop::collection::vec(link, 1..5)).prop_map(|(fence, mixed, caches, links)| {
        let kinds = [FenceSupport::Proven, FenceSupport::Assumed(Duration::from_millis(50))];
        let profile = |(number, (depth, index)): (usize, (u32, prop::sample::Index))| {
            let mut profile = LinkProfile::default();
            profile.fence = if mixed { kinds[number % 2] } else { fence };
            let cache = if caches.len() == 4 { number } else { index.index(caches.len()) };
            (profile.cache, profile.depth) = (caches[cache].clone(), depth);
            profile
        };
        links.into_iter().enumerate().map(profile).collect()
    })
}

fn some_caches(count: usize) -> Vec<Option<CacheScope>> {
    (0..count).map(|number| Some(CacheScope(format!("cache {number}")))).collect()
}

fn mixed_caches() -> Vec<Option<CacheScope>> {
    std::iter::once(None).chain(some_caches(2)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(256), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_doubled_or_overwritten_whatever_happens(
        links in profiles(),
        (sharing, no_path) in rules(),
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut options = Options::new(links);
        (options.seed, options.sharing, options.no_path) = (seed, sharing, no_path);
        let mut harness = Harness::new(&options);
        for step in &steps {
            harness.carry_out(step);
        }
        harness.finish();
    }

    #[test]
    fn a_dropped_queue_leaves_nothing_that_lands_later(
        links in profiles(),
        (sharing, no_path) in rules(),
        seed in any::<u64>(),
        before in prop::collection::vec(step(), 1..80),
        after in prop::collection::vec(step(), 1..80),
    ) {
        let mut options = Options::new(links);
        (options.seed, options.sharing, options.no_path) = (seed, sharing, no_path);
        let mut harness = Harness::new(&options);
        for step in &before {
            harness.carry_out(step);
        }
        harness.carry_out(&Step::DropQueue(0));
        for step in &after {
            harness.carry_out(step);
        }
        harness.finish();
    }
}
