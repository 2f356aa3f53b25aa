//! NVMe admin commands that ask a controller what it is and how its namespaces can be reached, through the driver's `ioctl`.
//!
//! Numbers of sections are those of the NVM Express base specification 2.0.

use std::fs::File;
use std::io;
use std::time::Duration;

use super::sys;
use crate::path::AccessState;

const IDENTIFY: u8 = 0x06;
const GET_LOG_PAGE: u8 = 0x02;
const EVERY_NAMESPACE: u32 = u32::MAX;
/// Bytes of an identify data structure.
const IDENTIFY_SIZE: usize = 4096;
/// Most bytes of a log page that are asked for.
const MOST_LOG: u64 = 1 << 16;

/// What an identify controller data structure (figure 275) says of interest here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Controller {
    /// Whether any command, not only a keep alive, puts off the keep alive timeout (TBKAS).
    pub(super) is_traffic_based: bool,
    /// How long after the loss of a host it may still carry out its commands (CQT); zero if it does not say.
    pub(super) quiesce: Duration,
    /// Bytes of its asymmetric namespace access log; zero if it has none.
    log_size: u64,
}

/// Asks the controller of a namespace what it is.
pub(super) fn controller(namespace: &File) -> io::Result<Controller> {
    let mut data = vec![0; IDENTIFY_SIZE];
    // The structure is number 1.
    sys::nvme_admin(namespace, (IDENTIFY, 0), [1, 0, 0, 0, 0, 0], &mut data)?;
    controller_of(&data).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The access state of a namespace, by the controller's log (figure 209). `None` if it keeps none or does not list the namespace.
pub(super) fn access(namespace: &File, nsid: u32) -> io::Result<Option<AccessState>> {
    let size = controller(namespace)?.log_size.min(MOST_LOG);
    if size == 0 {
        return Ok(None);
    }
    let mut data = vec![0; usize::try_from(size).unwrap_or(0)];
    // The log is 0x0c, and the event that tells of its changes is left to whoever waits for it (RAE, bit 15); its length is given in words less one, the lower half of that in the upper half of word 10.
    let count = u32::try_from(size / 4).unwrap_or(u32::MAX).saturating_sub(1);
    let words = [(count & 0xffff) << 16 | 1 << 15 | 0x0c, count >> 16, 0, 0, 0, 0];
    sys::nvme_admin(namespace, (GET_LOG_PAGE, EVERY_NAMESPACE), words, &mut data)?;
    Ok(access_of_namespace(&data, nsid))
}

fn controller_of(data: &[u8]) -> Option<Controller> {
    let word = |at: usize| data.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let quiesce = u16::from_le_bytes(data.get(386..388)?.try_into().ok()?);
    // CMIC bit 3: it reports asymmetric namespace access. The log has a descriptor for each group, and a number for each namespace.
    let log_size = if data.get(76)? & 1 << 3 == 0 {
        0
    } else {
        16 + u64::from(word(348)?) * 32 + u64::from(word(540)?) * 4
    };
    Some(Controller {
        is_traffic_based: word(96)? & 1 << 6 != 0,
        quiesce: Duration::from_millis(quiesce.into()),
        log_size,
    })
}

/// The access state of a namespace in an asymmetric namespace access log (figure 209, figure 210).
#[allow(unreachable_pub, reason = "reached from outside by the fuzzer alone, behind a feature")]
pub fn access_of_namespace(log: &[u8], nsid: u32) -> Option<AccessState> {
    let (header, mut rest) = log.split_at_checked(16)?;
    let groups = u16::from_le_bytes(header.get(8..10)?.try_into().ok()?);
    for _ in 0..groups {
        let (group, tail) = rest.split_at_checked(32)?;
        let count = u32::from_le_bytes(group.get(4..8)?.try_into().ok()?);
        let (numbers, next) = tail.split_at_checked(usize::try_from(count).ok()?.checked_mul(4)?)?;
        let is_in_it = numbers.chunks_exact(4).any(|number| number == nsid.to_le_bytes());
        if is_in_it {
            return match group.get(16)? & 0x0f {
                1 => Some(AccessState::Optimized),
                2 => Some(AccessState::NonOptimized),
                // Inaccessible, and persistent loss.
                3 | 4 => Some(AccessState::Inaccessible),
                0x0f => Some(AccessState::Transitioning),
                _ => None,
            };
        }
        rest = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of groups: state and namespaces.
    fn log(groups: &[(u8, &[u32])]) -> Vec<u8> {
        let mut log = vec![0; 16];
        log[8..10].copy_from_slice(&u16::try_from(groups.len()).unwrap().to_le_bytes());
        for (state, namespaces) in groups {
            let mut group = [0; 32];
            group[4..8].copy_from_slice(&u32::try_from(namespaces.len()).unwrap().to_le_bytes());
            group[16] = *state;
            log.extend(group);
            log.extend(namespaces.iter().flat_map(|number| number.to_le_bytes()));
        }
        log
    }

    #[test]
    fn each_namespace_has_the_state_of_its_group() {
        let log = log(&[(1, &[1]), (2, &[2, 3]), (3, &[]), (3, &[4]), (4, &[5]), (0x0f, &[6]), (7, &[7])]);
        let states = [
            Some(AccessState::Optimized),
            Some(AccessState::NonOptimized),
            Some(AccessState::NonOptimized),
            Some(AccessState::Inaccessible),
            Some(AccessState::Inaccessible),
            Some(AccessState::Transitioning),
            None,
            None,
        ];
        for (nsid, state) in (1..).zip(states) {
            assert_eq!(access_of_namespace(&log, nsid), state, "{nsid}");
        }
    }

    #[test]
    fn a_log_that_was_cut_off_or_lies_gives_nothing_that_is_not_there() {
        let whole = log(&[(1, &[1]), (3, &[2])]);
        for end in 0..=whole.len() {
            let found = [1, 2].map(|nsid| access_of_namespace(&whole[..end], nsid).is_some());
            assert_eq!(found, [end >= 52, end == whole.len()], "{end}");
        }
        assert_eq!(access_of_namespace(&[0xff; 200], 1), None);
    }

    #[test]
    fn a_controller_says_what_it_is() {
        let mut data = vec![0; IDENTIFY_SIZE];
        let none = Controller { is_traffic_based: false, quiesce: Duration::ZERO, log_size: 0 };
        assert_eq!(controller_of(&data), Some(none));
        data[76] = 0x0b;
        data[96] = 0x41;
        data[348] = 128;
        data[386..388].copy_from_slice(&1500_u16.to_le_bytes());
        data[540..544].copy_from_slice(&1024_u32.to_le_bytes());
        let expected = Controller {
            is_traffic_based: true,
            quiesce: Duration::from_millis(1500),
            log_size: 16 + 128 * 32 + 1024 * 4,
        };
        assert_eq!(controller_of(&data), Some(expected));
        assert_eq!(controller_of(&data[..500]), None);
    }
}
