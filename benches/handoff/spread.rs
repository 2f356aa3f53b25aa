//! Figures of many rounds.

/// Median, and from the tenth to the ninetieth percentile.
pub(crate) fn spread(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let at = |percent: usize| sorted[(sorted.len() - 1) * percent / 100];
    format!("{:.digits$} ({:.digits$}..{:.digits$})", at(50), at(10), at(90))
}

/// The same of ratios, round by round.
pub(crate) fn ratios(here: &[f64], there: &[f64]) -> String {
    spread(here.iter().zip(there).map(|(a, b)| a / b), 2)
}
