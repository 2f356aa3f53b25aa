//! Time limits of the kernel's that would end the connection while the volume waits for a path.

use std::time::Duration;

use crate::error::Error;

use super::sysctl;

/// In seconds; zero is none. Kernels before 6.15 have neither.
const NAMES: [&str; 2] = ["default_request_timeout", "max_request_timeout"];

/// Refuses a volume that may hold a request for longer than the kernel waits.
pub(super) fn check(hold: Duration) -> Result<(), Error> {
    check_against(sysctl::read, hold)
}

fn check_against(setting: impl Fn(&str) -> Option<u64>, hold: Duration) -> Result<(), Error> {
    for name in NAMES {
        let limit = setting(name).unwrap_or(0);
        if limit > 0 && Duration::from_secs(limit) <= hold {
            let problem = format!(
                "the volume holds requests for up to {hold:?} while it has no path, and the kernel ends the \
                 connection after {limit} s (fs.fuse.{name}): set that to 0 or to more, or hold for less"
            );
            return Err(Error::setting("hold", problem));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing_support::TempDir;

    #[test]
    fn a_hold_that_the_kernel_would_cut_short_is_refused_by_the_name_of_its_setting() {
        let hold = Duration::from_secs(30);
        for (default, most, named) in [
            ("0", "0", None),
            ("31", "40", None),
            ("30", "0", Some("fs.fuse.default_request_timeout")),
            ("0", "10\n", Some("fs.fuse.max_request_timeout")),
        ] {
            let dir = TempDir::new();
            dir.write(NAMES[0], default);
            dir.write(NAMES[1], most);
            let refusal = check_against(|name| sysctl::read_in(dir.path(), name), hold)
                .err()
                .map(|error| error.to_string());
            assert_eq!(refusal.is_some(), named.is_some(), "{refusal:?}");
            assert!(refusal.is_none_or(|text| text.contains(named.unwrap()) && text.contains("30s")));
        }
        assert!(check_against(|_| None, hold).is_ok());
    }
}
