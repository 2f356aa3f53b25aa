//! What every path must stand, for the crate's paths and for yours: see [`path_suite!`](crate::path_suite!).
//!
//! Each test takes the ways to the device under test: a function from a number, counted from 0, to a new path that goes
//! that way, `None` beyond the last. Where there is not even a first way, for instance for want of a privilege, nothing is
//! tested; it is for the function to say so. What is on the device is lost.

#![allow(clippy::missing_panics_doc, reason = "each function is a test: it panics if the path fails it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod clearing;
mod connecting;
mod endings;
mod queues;
mod rig;
mod transfers;
mod watched;

pub use clearing::{clears_what_it_was_asked_to_and_no_more, flushes};
pub use connecting::{
    answers_a_probe, goes_on_over_a_new_connection, says_the_same_when_it_connects_again,
    says_what_can_be_used,
};
pub use endings::{
    can_be_dropped_with_attempts_out, can_be_removed_and_added_again, two_ways_lead_to_one_device,
};
pub use queues::{hands_back_each_attempt_once, serves_several_queues, takes_as_many_attempts_as_it_says};
pub use transfers::{reads_back_what_was_written, writes_only_where_it_was_asked_to, writes_through};

/// Makes a module of tests that a path must pass: its name, and an expression for the ways to the device under test, a
/// function from the number of the way to the path. The expression is evaluated once for each test, so the tests may run
/// at the same time if each has a device of its own.
///
/// ```
/// use mpio::path::BlockDevice;
///
/// /// One way to a file of its own.
/// fn file() -> impl Fn(usize) -> Option<BlockDevice> {
///     // In earnest, one that is removed afterwards.
///     let file = std::env::temp_dir().join("mine");
///     std::fs::File::create(&file).unwrap().set_len(1 << 20).unwrap();
///     move |way| (way == 0).then(|| BlockDevice::new(&file))
/// }
///
/// mpio::path_suite!(mine, file());
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! path_suite {
    (@tests $ways:expr; $($test:ident)*) => {
        $(
            #[test]
            fn $test() {
                $crate::path_suite::$test(&$ways);
            }
        )*
    };
    ($name:ident, $ways:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $crate::path_suite!(@tests $ways;
                says_what_can_be_used
                says_the_same_when_it_connects_again
                answers_a_probe
                goes_on_over_a_new_connection
                reads_back_what_was_written
                writes_only_where_it_was_asked_to
                writes_through
                flushes
                clears_what_it_was_asked_to_and_no_more
                hands_back_each_attempt_once
                takes_as_many_attempts_as_it_says
                serves_several_queues
                can_be_dropped_with_attempts_out
                can_be_removed_and_added_again
                two_ways_lead_to_one_device
            );
        }
    };
}
