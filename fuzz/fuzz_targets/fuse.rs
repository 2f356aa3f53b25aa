//! Requests of a FUSE connection: any bytes decode to a request or to none, and never do harm.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = mpio::fuzzing::fuse(bytes);
});
