//! What a block's bytes say.

use crate::content::{Content, Found};
use crate::stamp::{self, Stamp};

const STAMP: Stamp = Stamp { run: 7, block: 3, generation: 42, writer: 1 };

fn bytes() -> [u8; 4096] {
    let mut bytes = [0; 4096];
    STAMP.put(&mut bytes);
    bytes
}

#[test]
fn a_stamp_is_found_again_in_its_run_and_place_only() {
    let bytes = bytes();
    assert_eq!(stamp::read(&bytes, 7, 3), Found::whole(Content::Stamp(42)));
    assert_eq!(stamp::read(&bytes, 7, 4), Found::whole(Content::Foreign));
    assert_eq!(stamp::read(&bytes, 8, 3), Found::whole(Content::Foreign));
    assert_eq!(stamp::read(&[0; 512], 7, 3), Found::whole(Content::Zero));
    assert_eq!(stamp::describe(&bytes, 8, 4), "generation 42 (writer 1) of block 3 of another run");
}

#[test]
fn every_byte_of_a_block_is_checked() {
    let bytes = bytes();
    for place in 0..bytes.len() {
        let mut damaged = bytes;
        damaged[place] ^= 0x40;
        assert!(stamp::read(&damaged, 7, 3) != Found::whole(Content::Stamp(42)), "byte {place}");
    }
}

#[test]
fn lines_that_changed_places_are_foreign() {
    let mut bytes = bytes();
    let (first, second) = bytes.split_at_mut(stamp::LINE);
    first.swap_with_slice(&mut second[..stamp::LINE]);
    assert!(stamp::read(&bytes, 7, 3).has(Content::Foreign));
}

#[test]
fn a_torn_block_shows_all_parts() {
    let mut bytes = bytes();
    let mut other = bytes;
    Stamp { generation: 43, ..STAMP }.put(&mut other);
    bytes[512..1024].copy_from_slice(&other[512..1024]);
    let found = stamp::read(&bytes, 7, 3);
    assert_eq!(found, Found { first: Content::Stamp(42), others: vec![Content::Stamp(43)] });
    let words = stamp::describe(&bytes, 7, 3);
    assert!(words.contains("generation 43 (writer 1) from byte 512, generation 42"), "{words}");
}

#[test]
fn zeroes_and_stamps_of_any_run_may_be_overwritten_and_nothing_else() {
    let bytes = bytes();
    assert!(stamp::is_scratch(&[0; 4096]));
    assert!(stamp::is_scratch(&bytes) && stamp::is_scratch(&bytes[512..1024]));
    let mut data = bytes;
    data[100] = !data[100];
    assert!(!stamp::is_scratch(&data));
}
