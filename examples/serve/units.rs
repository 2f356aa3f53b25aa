//! Durations, rates and rules, as people write them.

use std::time::Duration;

use mpio::NoPath;

const UNITS: [(&str, u64); 6] = [
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Longest duration that is taken: longer ones are typing errors.
const LONGEST: Duration = Duration::from_hours(365 * 24);

/// A whole number with its unit, such as `20ms`, `5s`, `1m`.
///
/// # Errors
/// What is wrong and what would not be.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = UNITS.iter().find(|(name, _)| *name == unit);
    let (Ok(number), Some((_, nanos))) = (number.parse::<u64>(), unit) else {
        return Err(format!(
            "{text:?} is no duration; write a whole number and us, ms, s, m, h or d, such as 20ms or 5s"
        ));
    };
    match number.checked_mul(*nanos).map(Duration::from_nanos) {
        Some(span) if span <= LONGEST => Ok(span),
        _ => Err(format!("{text} is longer than a year; give a shorter duration")),
    }
}

/// A duration, or `none`.
///
/// # Errors
/// As [`duration`].
pub(crate) fn duration_or_none(text: &str) -> Result<Option<Duration>, String> {
    if text == "none" { Ok(None) } else { duration(text).map(Some) }
}

/// The other way round: in the largest unit that leaves a whole number.
pub(crate) fn written(span: Duration) -> String {
    let nanos = span.as_nanos();
    let fits = UNITS.iter().rev().find(|(_, unit)| nanos > 0 && nanos.is_multiple_of(u128::from(*unit)));
    match fits {
        Some((name, unit)) => format!("{}{name}", nanos / u128::from(*unit)),
        None => format!("{}us", span.as_micros()),
    }
}

/// A share, in parts per million: `0.01`, `1%` and `10000ppm` are the same.
///
/// # Errors
/// What is wrong and what would not be.
pub(crate) fn per_million(text: &str) -> Result<u32, String> {
    let wrong =
        || format!("{text:?} is no rate; write 0 to 1, 0% to 100% or 0ppm to 1000000ppm, such as 0.01 or 1%");
    let (number, scale) = if let Some(number) = text.strip_suffix("ppm") {
        (number, 0)
    } else if let Some(number) = text.strip_suffix('%') {
        (number, 4)
    } else {
        (text, 6)
    };
    let parts = shifted(number, scale).ok_or_else(wrong)?;
    if parts.is_multiple_of(10) && parts <= 10_000_000 {
        u32::try_from(parts / 10).map_err(|_| wrong())
    } else if parts > 10_000_000 {
        Err(wrong())
    } else {
        Err(format!("{text} is finer than 1ppm; round it"))
    }
}

/// The other way round: in percent where that is a whole number.
pub(crate) fn written_rate(parts: u32) -> String {
    if parts.is_multiple_of(10_000) { format!("{}%", parts / 10_000) } else { format!("{parts}ppm") }
}

/// Ten times `number` with its point moved `scale` places to the right. What lies beyond counts as the tenth, so that it
/// can be told from nothing.
fn shifted(number: &str, scale: usize) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
    if whole.is_empty() || whole.len() > 9 || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    if number.contains('.') && fraction.is_empty() {
        return None;
    }
    let moved: String = fraction.chars().chain(std::iter::repeat('0')).take(scale).collect();
    let beyond = fraction.bytes().skip(scale).any(|digit| digit != b'0');
    let parts: u64 = format!("{whole}{moved}").parse().ok()?;
    Some(parts * 10 + u64::from(beyond))
}

/// What happens to requests while no path is left: `fail`, or `hold:` and for how long.
///
/// # Errors
/// What is wrong and what would not be.
pub(crate) fn no_path(text: &str) -> Result<NoPath, String> {
    match text.split_once(':') {
        None if text == "fail" => Ok(NoPath::Fail),
        Some(("hold", span)) => duration(span).map(NoPath::hold),
        _ => Err(format!("{text:?} is no rule; write fail, or hold: and for how long, such as hold:30s")),
    }
}

/// The other way round.
pub(crate) fn written_rule(rule: NoPath) -> String {
    match rule {
        NoPath::Fail => "fail".to_owned(),
        NoPath::Hold { time, .. } => format!("hold:{}", written(time)),
        #[allow(unreachable_patterns, reason = "the library may come to know more")]
        _ => format!("{rule:?}"),
    }
}
