//! The progress line: what has been going over each path since it was last looked at.

use std::collections::BTreeMap;
use std::fmt::Write;

use mpio::{Health, PathId, PathStatus, Status, Tick};

use crate::tally::Tally;
use crate::units::{bytes, short};

pub(crate) struct Gauge {
    at: Tick,
    /// What each path had done then: I/Os and bytes.
    seen: BTreeMap<PathId, (u64, u64)>,
}

impl Gauge {
    pub(crate) fn new(at: Tick) -> Self {
        Self { at, seen: BTreeMap::new() }
    }

    pub(crate) fn read(&mut self, now: Tick, status: &Status, tally: &Tally) -> String {
        let millis = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX).max(1);
        self.at = now;
        let (mut all_ios, mut all_bytes, mut paths) = (0, 0, String::new());
        for path in &status.paths {
            let (ios, bytes) = self.since_last(path);
            all_ios += ios;
            all_bytes += bytes;
            let letter = path.name.chars().last().unwrap_or('?');
            let how = match path.health {
                _ if path.leaving => "leaving".to_owned(),
                Health::Up => short(ios * 1000 / millis),
                Health::Suspect => "suspect".to_owned(),
                Health::Down => "down".to_owned(),
            };
            let _ = write!(paths, "{letter} {how:<8}");
        }
        let rate = bytes(all_bytes * 1000 / millis);
        format!("{:>6}/s {rate:>8}/s  {paths}{} wrong", short(all_ios * 1000 / millis), tally.wrong)
    }

    fn since_last(&mut self, path: &PathStatus) -> (u64, u64) {
        let now = (path.completed(), path.bytes());
        let before = self.seen.insert(path.id, now).unwrap_or_default();
        (now.0 - before.0, now.1 - before.1)
    }
}
