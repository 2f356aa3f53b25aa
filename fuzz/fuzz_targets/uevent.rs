//! What is said to be a uevent, from whoever sends it: no panic, and no word that was not there.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| {
    if let Some(uevent) = mpio::fuzzing::uevent(message) {
        assert!(uevent.place.starts_with(b"/"));
        for word in [uevent.action, uevent.place, uevent.subsystem, uevent.kind] {
            assert!(word.is_empty() || message.windows(word.len()).any(|part| part == word));
        }
    }
});
