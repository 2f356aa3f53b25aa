//! What a SCSI disk says of its target port groups, from a device that sends what it likes: no panic, and no state of a group
//! that was not named.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (group, bytes) = input;
    if mpio::fuzzing::target_port_groups(bytes, group).is_some() {
        assert!(bytes.windows(2).any(|pair| pair == group.to_be_bytes()));
    }
    if let Some(group) = mpio::fuzzing::target_port_group(bytes) {
        assert!(bytes.windows(2).any(|pair| pair == group.to_be_bytes()));
    }
});
