//! Which public types cross threads. To lose `Send` or `Sync` is a breaking change: this file then no longer
//! compiles.

use mpio::path::{
    AccessState, Attempt, AttemptId, Attempts, Cache, CacheScope, ControlSink, Description, Fault,
    FenceGrade, FenceSupport, Identifier, IdentifierKind, Identity, Incarnation, OpenQueue, Outcome,
    Outcomes, PathQueue, QueueIndex,
};
use mpio::policy::{
    AdaptiveLatency, Candidate, Candidates, Failover, IoSummary, LeastQueue, MakePolicy, Observation, Policy,
    RoundRobin,
};
use mpio::{
    BlockCount, Buffer, Cause, Class, Completion, Cookie, DeviceError, Durability, Error, Extent, Fate,
    Geometry, Lba, Lease, Limits, Memory, Operation, PathId, Pool, Port, ReactorEvent, Rejected, Request,
    Tick, Unmap, Waker,
};

/// Asserts at compile time that each type is `Send` and `Sync`.
macro_rules! assert_send_and_sync {
    ($($type:ty),+ $(,)?) => {
        const _: () = {
            const fn check<T: Send + Sync + ?Sized>() {}
            $(check::<$type>();)+
        };
    };
}

/// Asserts at compile time that each type is `Send`.
macro_rules! assert_send {
    ($($type:ty),+ $(,)?) => {
        const _: () = {
            const fn check<T: Send + ?Sized>() {}
            $(check::<$type>();)+
        };
    };
}

// The vocabulary.
assert_send_and_sync!(BlockCount, Extent, Geometry, Lba, Limits, Tick);
assert_send_and_sync!(Completion, Cookie, Durability, Memory, Operation, PathId, Rejected, Request, Unmap);
assert_send_and_sync!(Cause, Class, DeviceError, Error, Fate);
assert_send_and_sync!(Buffer, Pool);

// Paths.
assert_send_and_sync!(AccessState, Cache, CacheScope, Description, FenceSupport);
assert_send_and_sync!(Identifier, IdentifierKind, Identity, Incarnation, QueueIndex);
assert_send_and_sync!(AttemptId, ControlSink, Fault, FenceGrade);

// Policies.
assert_send_and_sync!(AdaptiveLatency, Failover, LeastQueue, RoundRobin, dyn MakePolicy);
assert_send_and_sync!(Candidate, Candidates<'static>, IoSummary, Observation);

// The reactor.
assert_send_and_sync!(Port, ReactorEvent, Waker);

// One thread at a time.
assert_send!(Attempt, Attempts<'static>, Lease, Outcome, Outcomes<'static>);
assert_send!(dyn OpenQueue, dyn PathQueue, dyn Policy);
