//! Asymmetric namespace access logs from a controller that sends what it likes: no panic, and no state of a namespace that was not
//! named.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u32, &[u8])| {
    let (nsid, log) = input;
    if mpio::fuzzing::namespace_access(log, nsid).is_some() {
        assert!(log.windows(4).any(|number| number == nsid.to_le_bytes()));
    }
});
