//! Which public types cross threads. To lose `Send` or `Sync` is a breaking change: this file then no longer
//! compiles.

use mpio::path::{
    AccessState, Attempt, AttemptId, Attempts, BlockDevice, Cache, CacheScope, ControlSink, Description,
    Fault, FaultHandle, FaultKind, Faulty, FenceGrade, FenceSupport, Identifier, IdentifierKind, Identity,
    Incarnation, Lease, OpenQueue, Outcome, Outcomes, PathQueue, Port, QueueIndex, Reactor, ReactorEvent,
    Stall, Transport, Waker,
};
use mpio::policy::{
    AdaptiveLatency, Candidate, Candidates, Failback, Failover, IoSummary, LeastQueue, MakePolicy,
    Observation, Placement, Policy, RoundRobin,
};
use mpio::{
    BlockCount, Buffer, Cause, Class, Client, Completion, Cookie, DeviceError, Durability, Error, Event,
    EventKind, Events, Extent, Fate, Geometry, Health, Lba, Limits, Memory, NoPath, Operation, PathId,
    PathOptions, PathStatus, Pool, Queue, Rejected, Request, Response, Settled, Status, Tick, Unmap, Volume,
    VolumeBuilder,
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

assert_send_and_sync!(Failback, Placement);

// The reactor.
assert_send_and_sync!(Port, ReactorEvent, Waker);

// Volumes.
assert_send_and_sync!(
    Volume,
    Event,
    EventKind,
    Events,
    Settled,
    Status,
    PathStatus,
    PathOptions,
    Health,
    NoPath
);
assert_send_and_sync!(FaultHandle, FaultKind, Stall, Transport);

// Clients.
assert_send_and_sync!(Client, Response);

// One thread at a time.
assert_send!(Attempt, Attempts<'static>, Lease, Outcome, Outcomes<'static>);
assert_send!(Queue, Reactor, VolumeBuilder, BlockDevice, Faulty<BlockDevice>);
assert_send!(dyn OpenQueue, dyn PathQueue, dyn Policy);

// The front-end.
#[cfg(feature = "fuse")]
assert_send_and_sync!(
    mpio::frontend::fuse::Buffers,
    mpio::frontend::fuse::Ended,
    mpio::frontend::fuse::Options,
    mpio::frontend::fuse::Server,
);
