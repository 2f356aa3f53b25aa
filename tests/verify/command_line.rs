//! The command line of `verify`.

use std::time::Duration;

use crate::measure;
use crate::options::{HELP, Options, Wish};

fn read(line: &str) -> Result<Options, String> {
    match Options::read(line.split_whitespace().map(str::to_owned))? {
        Wish::Run(options) => Ok(options),
        Wish::Help => panic!("{HELP}"),
    }
}

#[test]
fn values_stand_behind_a_space_or_an_equals_sign() {
    let options = read("--seconds 5 --threads=3 /dev/x --patience 500ms --flush-every=none --size 1M --json");
    let options = options.unwrap();
    assert_eq!((options.length, options.threads), (Duration::from_secs(5), 3));
    assert_eq!((options.patience, options.flush_every), (Duration::from_millis(500), None));
    assert_eq!((options.size, options.device.to_str()), (Some(1 << 20), Some("/dev/x")));
    assert!(options.flags.json && !options.flags.destroy);
}

#[test]
fn what_is_wrong_is_said() {
    let wrong = [
        ("", "which device"),
        ("a b", "one device at a time"),
        ("--no-such a", "no option --no-such"),
        ("--json=1 a", "no option --json"),
        ("a --seconds", "--seconds needs a value"),
        ("a --seconds -1", "whole number"),
        ("a --seconds 99999999999", "not between"),
        ("a --threads 0", "not between 1 and 1024"),
        ("a --block-size 1000", "power of two"),
        ("a --max-io 2M", "not between"),
        ("a --zero-percent 101", "not between"),
        ("a --patience 5", "needs a time"),
        ("a --patience soon", "needs a time"),
        ("a --size 5X", "needs bytes"),
        ("a --size 99999999999999T", "needs bytes"),
        ("a --size 1M --blocks 5", "say the same"),
        ("a --resume", "needs --state"),
        ("a --resume --state f --blocks 5", "are in the state file"),
    ];
    for (line, problem) in wrong {
        let error = read(line).unwrap_err();
        assert!(error.contains(problem), "{line}: {error}");
    }
}

#[test]
fn times_and_sizes_have_units() {
    let seconds = |number| Some(Duration::from_secs(number));
    let times = [
        ("0", seconds(0)),
        ("2m", seconds(120)),
        ("1h", seconds(3600)),
        ("60", None),
        ("s", None),
        ("-1s", None),
    ];
    for (text, time) in times {
        assert_eq!(measure::duration(text), time, "{text}");
    }
    let sizes = [("512", Some(512)), ("4k", Some(4096)), ("1MiB", Some(1 << 20)), ("1MB", None), ("", None)];
    for (text, size) in sizes {
        assert_eq!(measure::size(text), size, "{text}");
    }
}
