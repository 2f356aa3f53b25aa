//! Numbers as people read them.

use std::time::Duration;

/// `1 234 567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// `950`, `41.3k`, `1.2M`.
pub(crate) fn short(number: u64) -> String {
    match number {
        0..=999 => number.to_string(),
        1000..=999_949 => format!("{}.{}k", number / 1000, number % 1000 / 100),
        _ => format!("{}.{}M", number / 1_000_000, number % 1_000_000 / 100_000),
    }
}

/// `850 MiB`, `1.2 GiB`.
pub(crate) fn bytes(number: u64) -> String {
    let (mib, tenths) = (number >> 20, (number % (1 << 30) * 10) >> 30);
    if mib < 1000 { format!("{mib} MiB") } else { format!("{}.{tenths} GiB", number >> 30) }
}

/// `85 us`, `1.2 ms`, `21 ms`, `1.1 s`.
pub(crate) fn time(span: Duration) -> String {
    let micros = span.as_micros();
    match micros {
        0..=999 => format!("{micros} us"),
        1000..=9_999 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        10_000..=999_999 => format!("{} ms", micros / 1000),
        _ => format!("{}.{} s", micros / 1_000_000, micros % 1_000_000 / 100_000),
    }
}
