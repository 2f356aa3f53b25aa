//! SCSI device identification: VPD page 0x83 (SPC-5 section 7.7.6).

use crate::path::{Identifier, IdentifierKind};

/// The identifiers of the logical unit (association 0) in a page, those that are unique in the world. Reads what is
/// whole of a page that was cut off; gives none for anything that is not such a page.
#[allow(unreachable_pub, reason = "reached from outside by the fuzzer alone, behind a feature")]
pub fn identifiers(page: &[u8]) -> Vec<Identifier> {
    let mut found = Vec::new();
    for Designator { code_set, kind, value } in designators(page) {
        found.extend(identifier(code_set, kind, value).filter(|one| !found.contains(one)));
    }
    found
}

/// The group of the port that the page came through (association 1, designator type 5).
#[allow(unreachable_pub, reason = "as above")]
pub fn target_port_group(page: &[u8]) -> Option<u16> {
    designators(page).find_map(|Designator { kind, value, .. }| match (kind & 0x3f, value) {
        (0x15, [_, _, high, low]) => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    })
}

/// One of a page's designators.
struct Designator<'a> {
    code_set: u8,
    /// With its association in bits 4 and 5.
    kind: u8,
    value: &'a [u8],
}

fn designators(page: &[u8]) -> impl Iterator<Item = Designator<'_>> {
    let mut rest: &[u8] = match page {
        [_, 0x83, high, low, rest @ ..] => {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            &rest[..len.min(rest.len())]
        }
        _ => &[],
    };
    std::iter::from_fn(move || {
        let [code_set, kind, _, len, tail @ ..] = rest else { return None };
        let (value, next) = tail.split_at_checked(usize::from(*len))?;
        rest = next;
        Some(Designator { code_set: code_set & 0x0f, kind: *kind, value })
    })
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
        assert_eq!(target_port_group(&page), None);
    }

    #[test]
    fn the_port_s_group_is_told_from_groups_of_logical_units() {
        let page = page(&[(1, 0x06, &[0, 0, 0, 9]), (1, 0x15, &[0, 0, 1, 2]), (1, 0x14, &[0, 0, 0, 3])]);
        assert_eq!(target_port_group(&page), Some(0x0102));
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
