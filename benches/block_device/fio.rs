//! The same by `fio`, with registered buffers and files.

use std::process::Command;
use std::time::Duration;

use crate::{Score, Task};

/// `None` where there is no `fio`, or the time is too short for it.
pub(crate) fn run(device: &str, task: Task) -> Option<Score> {
    if task.span < Duration::from_millis(200) {
        return None;
    }
    let mut command = Command::new("fio");
    command.args([
        "--name=peer",
        "--ioengine=io_uring",
        "--direct=1",
        "--bs=4k",
        "--fixedbufs",
        "--registerfiles",
    ]);
    command.args([
        "--thread",
        "--norandommap",
        "--randrepeat=1",
        "--time_based",
        "--output-format=terse",
        "--terse-version=3",
    ]);
    command.arg(format!("--filename={device}"));
    command.arg(format!("--rw={}", if task.write { "randwrite" } else { "randread" }));
    command.arg(format!("--iodepth={}", task.depth));
    // As many in a batch as there are, like the others.
    command.arg(format!("--iodepth_batch_complete_max={}", task.depth));
    command.arg(format!("--runtime={}ms", task.span.as_millis()));
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse(text.lines().find(|line| line.starts_with("3;"))?, task.write)
}

/// The terse format, version 3, fields from 0: IOPS of reads are field 7 and of writes 48, user and system CPU in percent
/// 87 and 88.
fn parse(line: &str, write: bool) -> Option<Score> {
    let fields: Vec<&str> = line.split(';').collect();
    let number = |index: usize| fields.get(index)?.trim_end_matches('%').parse::<f64>().ok();
    let iops = if write { number(48)? } else { number(7)? };
    let each = |percent: f64| percent / 100.0 * 1e9 / iops;
    Some(Score { iops, user: each(number(87)?), system: each(number(88)?) })
}
