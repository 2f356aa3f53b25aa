//! A volume in the child of a fork.

#![allow(unsafe_code)]

use mpio::Error;
use mpio::policy::LeastQueue;

use crate::rig::Pair;

#[test]
fn the_child_of_a_fork_is_told_at_once_that_the_volume_is_not_its_own() {
    let pair = Pair::new();
    let volume = pair.rig.volume.clone();
    // SAFETY: the child waits for no other thread, and ends without running anything else.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_told = matches!(volume.set_policy(LeastQueue::default()), Err(Error::Forked));
        let says_so = is_told && volume.status().paths.is_empty();
        // SAFETY: ends the process.
        unsafe { libc::_exit(i32::from(!says_so)) };
    }
    let mut status = 1;
    // SAFETY: `status` lives.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    pair.finish();
}
