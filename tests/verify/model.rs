//! The model of one block, one rule at a time.

use crate::block::{Block, End, Verdict, Writing};
use crate::content::{Content, Found};

const OLD: u64 = 1;
const NEW: u64 = 2;

/// A block that holds generation 1, durably.
fn block() -> Block {
    let mut block = Block::untouched();
    write(&mut block, End::Acknowledged);
    flush(&mut block);
    block
}

fn begin(block: &mut Block) -> u64 {
    block.begin_write(Writing::Stamp).0
}

fn write(block: &mut Block, end: End) -> u64 {
    let generation = begin(block);
    block.end_write(generation, end);
    generation
}

fn zero(block: &mut Block) {
    let generation = block.begin_write(Writing::Zero).0;
    block.end_write(generation, End::Acknowledged);
}

fn flush(block: &mut Block) {
    block.mark();
    block.flushed();
}

fn finds(block: &mut Block, found: &Found) -> bool {
    let start = block.begin_read();
    block.end_read(start, Some(found)) == Verdict::Right
}

/// Reads, finds this, and says whether that is right.
fn reads(block: &mut Block, generation: u64) -> bool {
    finds(block, &Found::whole(Content::Stamp(generation)))
}

/// Whether this may be found, without finding it.
fn may_hold(block: &Block, generation: u64) -> bool {
    reads(&mut block.clone(), generation)
}

#[test]
fn an_acknowledged_write_replaces_what_was_there() {
    let mut block = block();
    assert!(may_hold(&block, OLD));
    write(&mut block, End::Acknowledged);
    assert!(may_hold(&block, NEW));
    assert!(!may_hold(&block, OLD));
}

#[test]
fn while_a_write_is_in_flight_both_may_be_there() {
    let mut block = block();
    begin(&mut block);
    assert!(may_hold(&block, OLD) && may_hold(&block, NEW));
    assert!(!may_hold(&block, NEW + 1));
}

#[test]
fn what_a_read_found_is_not_followed_by_something_older() {
    let mut block = block();
    begin(&mut block);
    assert!(reads(&mut block, NEW));
    assert!(!may_hold(&block, OLD));
}

#[test]
fn a_read_that_finds_the_old_leaves_a_write_in_flight_possible() {
    let mut block = block();
    begin(&mut block);
    assert!(reads(&mut block, OLD));
    assert!(may_hold(&block, OLD) && may_hold(&block, NEW));
}

#[test]
fn of_writes_in_flight_together_any_may_remain_until_a_read_decides() {
    let mut block = block();
    let (first, second) = (begin(&mut block), begin(&mut block));
    block.end_write(second, End::Acknowledged);
    assert!(!may_hold(&block, OLD));
    block.end_write(first, End::Acknowledged);
    assert!(may_hold(&block, first) && may_hold(&block, second));
    assert!(reads(&mut block, first));
    assert!(!may_hold(&block, second));
}

#[test]
fn a_write_in_flight_may_take_effect_again_over_one_that_came_and_went_meanwhile() {
    let mut block = block();
    let long = begin(&mut block);
    assert!(reads(&mut block, long));
    let short = write(&mut block, End::Acknowledged);
    assert!(reads(&mut block, short));
    assert!(reads(&mut block, long));
    assert!(!may_hold(&block, short));
}

#[test]
fn a_failed_write_may_be_there_or_not_or_come_later() {
    let mut block = block();
    let failed = write(&mut block, End::Failed);
    assert!(may_hold(&block, OLD) && may_hold(&block, failed));
    assert!(reads(&mut block, OLD));
    assert!(reads(&mut block, failed));
    assert!(!may_hold(&block, OLD));
}

#[test]
fn a_failed_write_does_not_come_back_over_a_later_one() {
    let mut block = block();
    let failed = write(&mut block, End::Failed);
    let later = write(&mut block, End::Acknowledged);
    assert!(may_hold(&block, later));
    assert!(!may_hold(&block, failed));
}

#[test]
fn a_failed_write_that_overlapped_the_later_one_may_remain() {
    let mut block = block();
    let failed = begin(&mut block);
    let later = begin(&mut block);
    block.end_write(failed, End::Failed);
    block.end_write(later, End::Acknowledged);
    assert!(may_hold(&block, failed) && may_hold(&block, later));
}

#[test]
fn a_read_may_find_what_was_replaced_while_it_was_in_flight() {
    let mut block = block();
    let start = block.begin_read();
    let new = write(&mut block, End::Acknowledged);
    let newest = write(&mut block, End::Acknowledged);
    for generation in [OLD, new, newest] {
        let found = Found::whole(Content::Stamp(generation));
        assert_eq!(block.clone().end_read(start, Some(&found)), Verdict::Right, "{generation}");
    }
    assert!(!may_hold(&block, new));
}

#[test]
fn a_slow_read_that_finds_the_old_does_not_bring_it_back() {
    let mut block = block();
    let start = block.begin_read();
    write(&mut block, End::Acknowledged);
    assert_eq!(block.end_read(start, Some(&Found::whole(Content::Stamp(OLD)))), Verdict::Right);
    assert!(may_hold(&block, NEW));
    assert!(!may_hold(&block, OLD));
}

#[test]
fn two_reads_at_once_that_exclude_each_other_are_found() {
    let mut block = block();
    let (first, second) = (begin(&mut block), begin(&mut block));
    block.end_write(first, End::Acknowledged);
    block.end_write(second, End::Acknowledged);
    let (one, other) = (block.begin_read(), block.begin_read());
    assert_eq!(block.end_read(one, Some(&Found::whole(Content::Stamp(first)))), Verdict::Right);
    let verdict = block.end_read(other, Some(&Found::whole(Content::Stamp(second))));
    assert!(matches!(verdict, Verdict::Wrong(_)));
}

#[test]
fn a_failed_read_says_nothing() {
    let mut block = block();
    begin(&mut block);
    let start = block.begin_read();
    assert_eq!(block.end_read(start, None), Verdict::Right);
    assert!(may_hold(&block, OLD) && may_hold(&block, NEW));
}

#[test]
fn a_torn_block_is_mixed_only_of_what_may_be_there() {
    let torn = Found { first: Content::Stamp(NEW), others: vec![Content::Stamp(OLD)] };
    let verdict = |block: &mut Block| {
        let start = block.begin_read();
        block.end_read(start, Some(&torn))
    };
    let mut block = block();
    let new = begin(&mut block);
    assert_eq!(verdict(&mut block), Verdict::Mixed);
    assert!(may_hold(&block, OLD));
    block.end_write(new, End::Acknowledged);
    assert!(matches!(verdict(&mut block), Verdict::Wrong(_)));
}

#[test]
fn zeroes_are_there_only_where_they_were_written_last() {
    let zeroes = Found::whole(Content::Zero);
    let mut block = block();
    assert!(!finds(&mut block.clone(), &zeroes));
    zero(&mut block);
    assert!(finds(&mut block.clone(), &zeroes));
    assert!(!may_hold(&block, OLD));
    write(&mut block, End::Acknowledged);
    assert!(!finds(&mut block, &zeroes));
}

#[test]
fn after_an_outage_anything_from_the_durable_to_the_last_may_be_there_and_a_read_decides() {
    let mut block = block();
    let durable = write(&mut block, End::Acknowledged);
    flush(&mut block);
    let unflushed = write(&mut block, End::Acknowledged);
    let last = begin(&mut block);
    block.end_write(last, End::Failed);
    block.outage();
    assert!(!may_hold(&block, OLD));
    assert!([durable, unflushed, last].iter().all(|&one| may_hold(&block, one)));
    assert!(!may_hold(&block, last + 1));
    assert!(!finds(&mut block.clone(), &Found::whole(Content::Zero)));
    assert!(reads(&mut block, unflushed));
    assert!(!may_hold(&block, last) && !may_hold(&block, durable));
}

#[test]
fn a_flush_covers_what_was_acknowledged_before_it_began_and_nothing_else() {
    let mut block = block();
    block.mark();
    write(&mut block, End::Acknowledged);
    block.flushed();
    block.outage();
    assert!(may_hold(&block, OLD) && may_hold(&block, NEW));
}

#[test]
fn a_flush_does_not_cover_a_write_in_flight_that_a_read_has_found() {
    let mut block = block();
    begin(&mut block);
    assert!(reads(&mut block, NEW));
    flush(&mut block);
    block.end_write(NEW, End::Failed);
    block.outage();
    assert!(may_hold(&block, OLD));
}

#[test]
fn a_flush_that_failed_covers_nothing() {
    let mut block = block();
    write(&mut block, End::Acknowledged);
    block.mark();
    block.outage();
    block.flushed();
    block.outage();
    assert!(may_hold(&block, OLD));
}

#[test]
fn an_older_write_that_was_in_flight_beside_a_flushed_one_may_remain() {
    let mut block = block();
    let (older, newer) = (begin(&mut block), begin(&mut block));
    block.end_write(newer, End::Acknowledged);
    flush(&mut block);
    block.end_write(older, End::Failed);
    block.outage();
    assert!(may_hold(&block, older) && may_hold(&block, newer));
    assert!(!may_hold(&block, OLD));
}

#[test]
fn zeroes_may_be_there_after_an_outage_if_they_are_not_older_than_the_durable() {
    let zeroes = Found::whole(Content::Zero);
    let mut block = block();
    zero(&mut block);
    block.outage();
    assert!(finds(&mut block, &zeroes));
    flush(&mut block);
    block.outage();
    assert!(finds(&mut block.clone(), &zeroes));
    assert!(!may_hold(&block, OLD), "the zeroes were found and flushed");
    write(&mut block, End::Acknowledged);
    flush(&mut block);
    block.outage();
    assert!(!finds(&mut block, &zeroes));
}

#[test]
fn what_was_there_before_the_run_is_gone_once_a_write_is_durable() {
    let foreign = Found::whole(Content::Foreign);
    let mut block = Block::untouched();
    block.outage();
    assert!(finds(&mut block, &foreign));
    write(&mut block, End::Acknowledged);
    assert!(!finds(&mut block.clone(), &foreign));
    flush(&mut block);
    block.outage();
    assert!(!finds(&mut block, &foreign));
}

#[test]
fn a_mismatch_is_reported_once_and_says_what_was_expected() {
    let mut block = block();
    write(&mut block, End::Acknowledged);
    assert!(may_hold(&block, NEW));
    let start = block.begin_read();
    let Verdict::Wrong(wrong) = block.end_read(start, Some(&Found::whole(Content::Stamp(OLD)))) else {
        panic!("the old is legal");
    };
    assert_eq!(wrong.expected, "generation 2");
    assert!(reads(&mut block.clone(), OLD));
    assert!(reads(&mut block, NEW));
}
