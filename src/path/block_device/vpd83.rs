//! SCSI device identification: VPD page 0x83 (SPC-5 section 7.7.6).

use crate::path::{Identifier, IdentifierKind};

/// The identifiers of the logical unit (association 0) in a page, those that are unique in the world. Reads what is
/// whole of a page that was cut off; gives none for anything that is not such a page.
#[allow(unreachable_pub, reason = "reached from outside by the fuzzer alone, behind a feature")]
pub fn identifiers(page: &[u8]) -> Vec<Identifier> {
    let [_, 0x83, high, low, rest @ ..] = page else { return Vec::new() };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    let mut rest = &rest[..len.min(rest.len())];
    let mut found = Vec::new();
    while let [code_set, kind, _, len, tail @ ..] = rest {
        let Some((value, next)) = tail.split_at_checked(usize::from(*len)) else { break };
        found.extend(identifier(code_set & 0x0f, *kind, value).filter(|one| !found.contains(one)));
        rest = next;
    }
    found
}

fn identifier(code_set: u8, kind: u8, value: &[u8]) -> Option<Identifier> {
    let association = kind >> 4 & 0b11;
    if association != 0 || value.iter().all(|&byte| byte == 0) {
        return None;
    }
    let (kind, value) = match (kind & 0x0f, code_set) {
        (1, 2 | 3) => (IdentifierKind::ScsiT10, text(value)?),
        (1, _) => (IdentifierKind::ScsiT10, hex(value)),
        (2, 1) => (IdentifierKind::ScsiEui64, hex(value)),
        // NAA 3 is assigned locally: unique nowhere else.
        (3, 1) if value[0] >> 4 != 3 => (IdentifierKind::ScsiNaa, hex(value)),
        (8, 3) => (IdentifierKind::ScsiName, text(value)?),
        _ => return None,
    };
    Some(Identifier { kind, value })
}

fn hex(value: &[u8]) -> String {
    use std::fmt::Write;
    value.iter().fold(String::with_capacity(value.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The text up to its padding, without control characters.
fn text(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim_matches(|c: char| c == '\0' || c == ' ');
    (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(designators: &[(u8, u8, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (code_set, kind, value) in designators {
            body.extend_from_slice(&[*code_set, *kind, 0, u8::try_from(value.len()).unwrap()]);
            body.extend_from_slice(value);
        }
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&[0, 0x83, len[0], len[1]], body.as_slice()].concat()
    }

    fn values(page: &[u8]) -> Vec<(IdentifierKind, String)> {
        identifiers(page).into_iter().map(|one| (one.kind, one.value)).collect()
    }

    #[test]
    fn identifiers_of_the_logical_unit_are_read() {
        let naa = [0x60, 0x01, 0x40, 0x5a, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        let page = page(&[
            (2, 1, b"LIO-ORG disk0:1234 "),
            (1, 3, &naa),
            (1, 2, &[0, 0x25, 0x90, 1, 2, 3, 4, 5]),
            (3, 8, b"iqn.2026-01.example:disk0\0\0\0"),
            (1, 3, &naa),
        ]);
        assert_eq!(
            values(&page),
            [
                (IdentifierKind::ScsiT10, "LIO-ORG disk0:1234".to_owned()),
                (IdentifierKind::ScsiNaa, "6001405a0102030405060708090a0b0c".to_owned()),
                (IdentifierKind::ScsiEui64, "0025900102030405".to_owned()),
                (IdentifierKind::ScsiName, "iqn.2026-01.example:disk0".to_owned()),
            ]
        );
    }

    #[test]
    fn identifiers_of_ports_and_targets_and_local_ones_are_left_out() {
        let page = page(&[
            (1, 0x13, &[0x50, 1, 2, 3, 4, 5, 6, 7]),
            (1, 0x23, &[0x50, 1, 2, 3, 4, 5, 6, 8]),
            (1, 4, &[0, 0, 0, 1]),
            (1, 3, &[0x30, 1, 2, 3, 4, 5, 6, 7]),
            (1, 3, &[0; 8]),
        ]);
        assert!(values(&page).is_empty());
    }

    #[test]
    fn a_page_that_was_cut_off_gives_what_is_whole() {
        let whole = page(&[(1, 3, &[0x50, 1, 2, 3, 4, 5, 6, 7]), (1, 2, &[1; 8])]);
        for end in 0..whole.len() {
            assert_eq!(identifiers(&whole[..end]).len(), usize::from(end >= 16), "{end}");
        }
        assert!(identifiers(&[0, 0x80, 0, 4, 1, 2, 3, 4]).is_empty());
    }
}
