//! Under any sequence of events: every accepted request completes once, policies see eligible paths only, buffers are
//! left alone once returned, nothing older lands after a completed write, flushes cover what was completed before.

use std::time::Duration;

use mpio::path::{CacheScope, FenceSupport};
use mpio::sim::{LinkFault, LinkProfile, Options};
use mpio::{Durability, Operation, Unmap};
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
    prop_oneof![Just(LinkFault::Dead), Just(LinkFault::Silent), Just(LinkFault::Stuck)]
}

fn step() -> impl Strategy<Value = Step> {
    let deadline = prop_oneof![
        3 => Just(None),
        1 => (1u64..60).prop_map(|millis| Some(Duration::from_millis(millis))),
    ];
    let submit = (0usize..2, operation(), 0..BLOCKS, 1u32..8, deadline).prop_map(
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
        1 => Just(Step::Add),
        1 => (0usize..6).prop_map(Step::Remove),
        2 => (0usize..20).prop_map(Step::Cancel),
        1 => (0usize..4).prop_map(Step::Policy),
    ]
}

fn profile() -> impl Strategy<Value = LinkProfile> {
    let fence = prop_oneof![
        4 => Just(FenceSupport::Proven),
        2 => Just(FenceSupport::Assumed(Duration::from_millis(50))),
        1 => Just(FenceSupport::None),
    ];
    let cache = prop_oneof![Just(None), Just(Some(CacheScope("cache".to_owned())))];
    (fence, cache, 1u32..40).prop_map(|(fence, cache, depth)| {
        let mut profile = LinkProfile::default();
        (profile.fence, profile.cache, profile.depth) = (fence, cache, depth);
        profile
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(256), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_doubled_or_overwritten_whatever_happens(
        profile in profile(),
        links in 1usize..5,
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut options = Options::new(vec![profile; links]);
        options.seed = seed;
        let mut harness = Harness::new(options);
        for step in &steps {
            harness.carry_out(step);
        }
        harness.finish();
    }

    #[test]
    fn a_dropped_queue_leaves_nothing_that_lands_later(
        profile in profile(),
        seed in any::<u64>(),
        before in prop::collection::vec(step(), 1..80),
        after in prop::collection::vec(step(), 1..80),
    ) {
        let mut options = Options::new(vec![profile; 3]);
        options.seed = seed;
        let mut harness = Harness::new(options);
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
