//! The state file.

use crate::block::{Block, End, Writing};
use crate::ledger::Ledger;
use crate::portion::Portion;
use crate::state::{Saved, State};
use crate::testing_support::TempDir;

const PORTION: Portion = Portion { offset: 4096, block_size: 512, blocks: 3 };

fn saved() -> Saved {
    Saved { run: 7, processes: 1, portion: PORTION, ceiling: 0, durable: vec![0; 3] }
}

fn ledger() -> Ledger {
    Ledger::new((0..3).map(|_| Block::untouched()))
}

#[test]
fn a_generation_is_covered_by_the_file_before_it_is_used_and_bounds_rise_with_flushes() {
    let dir = TempDir::new();
    let path = dir.path().join("state");
    let (ledger, state) = (ledger(), State::new(path.clone(), &saved()));
    let mut generations = Vec::new();
    ledger.begin_write(0..2, Writing::Stamp, &mut generations);
    state.cover(1, &ledger).unwrap();
    let file = Saved::read(&path).unwrap();
    assert!(file.ceiling >= 1);
    assert_eq!(Saved { ceiling: 0, ..file.clone() }, saved());
    ledger.end_write(0..2, &generations, End::Acknowledged);
    ledger.mark();
    ledger.flushed();
    state.save(0, &ledger).unwrap();
    assert_eq!(Saved::read(&path), Ok(Saved { durable: vec![1, 1, 0], ..file.clone() }));
    state.cover(file.ceiling, &ledger).unwrap();
    assert_eq!(Saved::read(&path).unwrap().ceiling, file.ceiling);
    state.cover(file.ceiling + 1, &ledger).unwrap();
    assert!(Saved::read(&path).unwrap().ceiling > file.ceiling);
}

#[test]
fn a_damaged_file_is_refused() {
    let dir = TempDir::new();
    let path = dir.path().join("state");
    State::new(path.clone(), &saved()).save(0, &ledger()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for length in 0..bytes.len() {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(Saved::read(&path).is_err(), "{length} bytes");
    }
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        assert!(Saved::read(&path).is_err(), "byte {place}");
    }
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(Saved::read(&path), Ok(saved()));
}

#[test]
fn a_file_in_no_directory_is_an_error() {
    let state = State::new("/nowhere/at/all".into(), &saved());
    assert!(state.cover(1, &ledger()).unwrap_err().contains("/nowhere/at/all"));
}
