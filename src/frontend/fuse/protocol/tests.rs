//! Requests as the kernel sends them, and as it never would.

use proptest::prelude::*;

use super::decode::Received;
use super::*;

/// A request: the header, and words after it.
fn request(opcode: u32, node: u64, body: &[u64]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[4..8].copy_from_slice(&opcode.to_ne_bytes());
    bytes[8..16].copy_from_slice(&77_u64.to_ne_bytes());
    bytes[16..24].copy_from_slice(&node.to_ne_bytes());
    bytes.extend(body.iter().flat_map(|word| word.to_ne_bytes()));
    sized(bytes)
}

fn sized(mut bytes: Vec<u8>) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).unwrap();
    bytes[..4].copy_from_slice(&len.to_ne_bytes());
    bytes
}

/// Two halves of a word, the lower first.
fn pair(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn decoded(bytes: &[u8]) -> Option<Call> {
    let mut head = [0xaa; WRITE_HEAD];
    let split = bytes.len().min(WRITE_HEAD);
    head[..split].copy_from_slice(&bytes[..split]);
    decode(Received::new(&head, &bytes[split..], bytes.len()))
}

fn message(bytes: &[u8]) -> Message {
    let call = decoded(bytes).unwrap();
    assert_eq!(call.unique, 77);
    call.message
}

#[test]
fn each_request_is_what_it_says() {
    let range = Range { offset: 8192, size: 4 };
    let data = |flags| {
        let mut bytes = request(16, 1, &[0, 8192, pair(4, 0), 0, pair(flags, 0)]);
        bytes.extend([1, 2, 3, 4]);
        sized(bytes)
    };
    let zero = |mode| request(43, 1, &[0, 512, 1024, pair(mode, 0)]);
    let setattr = |valid| request(4, 1, &[pair(valid, 0), 0, 4096, 0, 0, 0, 0, 0, 0, 0, 0]);
    let init =
        |flags, more| request(26, 0, &[pair(7, 45), pair(131_072, flags), pair(more, 0), 0, 0, 0, 0, 0]);
    let agreed = |flags| Message::Init(Init { major: 7, minor: 45, max_readahead: 131_072, flags });
    for (bytes, expected) in [
        (request(15, 1, &[0, 8192, pair(4, 0), 0, 0]), Message::Read(range)),
        (data(0o40_002), Message::Write { range, forced: false }),
        (data(0o10_000), Message::Write { range, forced: true }),
        (data(0o4_010_000), Message::Write { range, forced: true }),
        (request(20, 1, &[0, 0]), Message::Sync),
        (zero(3), Message::Zero { offset: 512, length: 1024, unmap: true }),
        (zero(16), Message::Zero { offset: 512, length: 1024, unmap: false }),
        (zero(17), Message::Zero { offset: 512, length: 1024, unmap: false }),
        (zero(0), Message::Refused(libc::EOPNOTSUPP)),
        (zero(8), Message::Refused(libc::EOPNOTSUPP)),
        (zero(2 | 16), Message::Refused(libc::EOPNOTSUPP)),
        (request(3, 1, &[0, 0]), Message::Attributes),
        (setattr(1 << 4), Message::Attributes),
        (setattr(1 << 3 | 1), Message::Resize(4096)),
        (request(14, 1, &[0]), Message::Open),
        (request(17, 1, &[]), Message::Statistics),
        (request(18, 1, &[0, 0, 0]), Message::Nothing),
        (request(25, 1, &[0, 0, 0]), Message::Nothing),
        (request(34, 1, &[0]), Message::Nothing),
        (request(38, 0, &[]), Message::Nothing),
        (request(2, 1, &[1]), Message::Silent),
        (request(42, 0, &[1, 1, 1]), Message::Silent),
        (request(36, 0, &[76]), Message::Silent),
        (request(22, 1, &[0]), Message::Refused(libc::ENOSYS)),
        (request(9999, 1, &[]), Message::Refused(libc::ENOSYS)),
        (request(1, 1, &[]), Message::Refused(libc::ENOTDIR)),
        (request(15, 2, &[0, 8192, pair(4, 0), 0, 0]), Message::Refused(libc::ENOENT)),
        (init(1 << 15, 9), agreed(1 << 15)),
        (init(1 << 30, 9), agreed(9 << 32 | 1 << 30)),
    ] {
        assert_eq!(message(&bytes), expected, "{bytes:?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_and_what_has_no_number_is_no_request() {
    let refused = Message::Refused(libc::EINVAL);
    let write = request(16, 1, &[0, 0, pair(512, 0), 0, 0]);
    let before_init_ext = request(26, 0, &[pair(7, 31), pair(0, 1 << 30)]);
    for bytes in [
        // Shorter than their bodies, or than the data that they promise.
        request(15, 1, &[0, 0, 0, 0]),
        request(16, 1, &[0, 0]),
        write,
        request(43, 1, &[0, 0, 0]),
        request(4, 1, &[]),
        request(26, 0, &[1]),
        before_init_ext,
        // Beyond all addresses.
        request(15, 1, &[0, u64::MAX, pair(1, 0), 0, 0]),
        request(43, 1, &[0, u64::MAX, 1, pair(16, 0)]),
    ] {
        assert_eq!(message(&bytes), refused, "{bytes:?}");
    }
    assert!(decoded(&[]).is_none() && decoded(&[0; HEADER - 1]).is_none());
    let mut lies = request(20, 1, &[0, 0]);
    lies[0] += 1;
    assert!(decoded(&lies).is_none());
}

fn word(answer: &Answer, at: usize) -> u32 {
    u32::from_ne_bytes(answer.bytes()[at..at + 4].try_into().unwrap())
}

const TERMS: Terms = Terms { transfer: 1 << 20, pages: 256, background: 256 };

#[test]
fn the_first_answer_agrees_to_what_both_have() {
    let init = Init { major: 7, minor: 45, max_readahead: 4096, flags: u64::MAX };
    let (answer, negotiated) = Answer::init(5, &init, TERMS);
    assert_eq!(negotiated, Negotiated::Yes);
    assert_eq!((word(&answer, 0), word(&answer, 4), word(&answer, 8)), (80, 0, 5));
    let body = [16, 20, 24, 28, 32, 36, 40, 44].map(|at| word(&answer, at));
    let flags = 1 | 1 << 5 | 1 << 15 | 1 << 21 | 1 << 22 | 1 << 30;
    assert_eq!(body, [7, 38, 4096, flags, 256 | 192 << 16, 1 << 20, 1, 256]);
    assert!(answer.bytes()[48..].iter().all(|&byte| byte == 0));
}

#[test]
fn a_kernel_that_is_too_new_is_asked_again_and_one_that_is_too_old_is_refused() {
    let init = Init { major: 7, minor: 31, max_readahead: 4096, flags: 1 << 15 | 1 << 22 };
    assert_eq!(Answer::init(5, &init, TERMS).1, Negotiated::Yes);
    let (answer, negotiated) = Answer::init(5, &Init { major: 8, ..init }, TERMS);
    assert_eq!((negotiated, word(&answer, 16), word(&answer, 4)), (Negotiated::Again, 7, 0));
    for old in [
        Init { minor: 30, ..init },
        Init { major: 6, ..init },
        Init { flags: 1 << 22, ..init },
        Init { flags: 0, ..init },
    ] {
        let (answer, negotiated) = Answer::init(5, &old, TERMS);
        assert!(matches!(negotiated, Negotiated::No(_)) && word(&answer, 4) != 0, "{old:?}");
    }
}

#[test]
fn answers_have_the_lengths_that_the_kernel_checks() {
    let file = Attributes { bytes: 1 << 30, block_size: 4096 };
    for (answer, body, follows) in [
        (Answer::success(9), 0, 0),
        (Answer::failure(9, libc::EIO), 0, 0),
        (Answer::written(9, 4096), 8, 0),
        (Answer::opened(9), 16, 0),
        (Answer::attributes(9, file), 104, 0),
        (Answer::statistics(9, file), 80, 0),
        (Answer::read(9, 4096), 0, 4096),
    ] {
        assert_eq!(answer.bytes().len(), 16 + body);
        assert_eq!((word(&answer, 0) as usize, word(&answer, 8)), (16 + body + follows, 9));
    }
    let attributes = Answer::attributes(9, file);
    assert_eq!([word(&attributes, 40), word(&attributes, 92)], [1 << 30, 0o100_600]);
    assert_eq!(word(&Answer::opened(9), 24), 1 | 1 << 6);
    for errno in [-5, 0, 512, i32::MIN, i32::MAX] {
        assert_eq!(word(&Answer::failure(9, errno), 4).cast_signed(), -libc::EIO);
    }
}

proptest! {
    #[test]
    fn nothing_that_is_read_does_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200), opcode in 0_u32..60) {
        let _ = decoded(&bytes);
        if bytes.len() >= HEADER {
            let mut bytes = sized(bytes);
            bytes[4..8].copy_from_slice(&opcode.to_ne_bytes());
            bytes[16..24].copy_from_slice(&1_u64.to_ne_bytes());
            let call = decoded(&bytes).unwrap();
            if let Message::Write { range, .. } = call.message {
                prop_assert_eq!(range.size as usize, bytes.len() - WRITE_HEAD);
            }
        }
    }
}
