//! SCSI commands that ask a disk what it is and how it is, past what the kernel remembers.

use std::fs::File;
use std::io;

use super::sys::{self, ScsiEnd};
use crate::path::AccessState;

/// Bytes of a vital product data page, or of target port groups, that are asked for.
const MOST_DATA: usize = 4096;

/// The device identification page as the disk has it now (`INQUIRY`, SPC-5 section 6.7).
pub(super) fn identification(disk: &File) -> io::Result<Vec<u8>> {
    let [.., high, low] = MOST_DATA.to_be_bytes();
    data(disk, &[0x12, 1, 0x83, high, low, 0])
}

/// How the group of the port that this way leads to stands (`REPORT TARGET PORT GROUPS`, SPC-5 section 6.37).
pub(super) fn access(disk: &File, group: u16) -> io::Result<Option<AccessState>> {
    let [.., high, low] = MOST_DATA.to_be_bytes();
    let report = data(disk, &[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, high, low, 0, 0])?;
    Ok(access_of_group(&report, group))
}

/// Whether the disk answers at all, and has the kernel hear what it has to say (`TEST UNIT READY`, SPC-5 section 6.48): the
/// kernel's handler for access states leaves a standby path alone until such a command tells it of the change
/// (`alua_check_sense` in `drivers/scsi/device_handler/scsi_dh_alua.c`).
pub(super) fn test_unit_ready(disk: &File) -> io::Result<()> {
    sys::scsi(disk, &[0; 6], &mut []).map(drop)
}

fn data(disk: &File, command: &[u8]) -> io::Result<Vec<u8>> {
    let mut data = vec![0; MOST_DATA];
    match sys::scsi(disk, command, &mut data)? {
        ScsiEnd::Good(bytes) => data.truncate(bytes),
        ScsiEnd::Status => return Err(io::Error::from_raw_os_error(libc::EREMOTEIO)),
    }
    Ok(data)
}

/// The access state of a target port group in the answer to `REPORT TARGET PORT GROUPS` with a header of 4 bytes. `None` if it
/// is not there, or has a state that SPC-5 does not know.
#[allow(unreachable_pub, reason = "reached from outside by the fuzzer alone, behind a feature")]
pub fn access_of_group(report: &[u8], group: u16) -> Option<AccessState> {
    let (len, rest) = report.split_first_chunk()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
    let mut rest = &rest[..len.min(rest.len())];
    while let [state, _, high, low, _, _, _, ports, tail @ ..] = rest {
        if u16::from_be_bytes([*high, *low]) == group {
            return Some(match state & 0x0f {
                0 => AccessState::Optimized,
                // Logical block dependent: some of the blocks are optimized.
                1 | 4 => AccessState::NonOptimized,
                2 => AccessState::Standby,
                3 | 0x0e => AccessState::Inaccessible,
                0x0f => AccessState::Transitioning,
                _ => return None,
            });
        }
        rest = tail.get(usize::from(*ports) * 4..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report of groups: state, number, count of ports.
    fn report(groups: &[(u8, u16, u8)]) -> Vec<u8> {
        let mut body = Vec::new();
        for &(state, group, ports) in groups {
            let [high, low] = group.to_be_bytes();
            body.extend_from_slice(&[state, 0x0f, high, low, 0, 0, 0, ports]);
            body.extend(std::iter::repeat_n(0, usize::from(ports) * 4));
        }
        let mut report = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        report.extend(body);
        report
    }

    #[test]
    fn each_group_has_its_state() {
        let states = [
            (0x80, Some(AccessState::Optimized)),
            (0x01, Some(AccessState::NonOptimized)),
            (0x02, Some(AccessState::Standby)),
            (0x03, Some(AccessState::Inaccessible)),
            (0x04, Some(AccessState::NonOptimized)),
            (0x0e, Some(AccessState::Inaccessible)),
            (0x0f, Some(AccessState::Transitioning)),
            (0x05, None),
        ];
        let groups: Vec<(u8, u16, u8)> =
            (0..).zip(states).map(|(group, (state, _))| (state, group, 2)).collect();
        let report = report(&groups);
        for (group, (_, expected)) in (0..).zip(states) {
            assert_eq!(access_of_group(&report, group), expected, "{group}");
        }
        assert_eq!(access_of_group(&report, 99), None);
    }

    #[test]
    fn a_report_that_was_cut_off_gives_what_is_whole() {
        let whole = report(&[(1, 1, 1), (2, 2, 0)]);
        for end in 0..=whole.len() {
            let found = [access_of_group(&whole[..end], 1), access_of_group(&whole[..end], 2)];
            assert_eq!(found.map(|state| state.is_some()), [end >= 12, end == whole.len()], "{end}");
        }
        assert_eq!(access_of_group(&[0xff; 40], 7), None);
    }
}
