//! SCSI device identification pages from a device that sends what it likes: no panic, and nothing but what was in the
//! page.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|page: &[u8]| {
    for identifier in mpio::fuzzing::vpd83(page) {
        assert!(!identifier.value.is_empty());
        assert!(identifier.value.len() <= 2 * page.len());
        assert!(!identifier.value.chars().any(char::is_control), "{identifier:?}");
    }
});
