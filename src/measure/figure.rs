//! A number that says how it was found and how far it may be off.

use serde::{Deserialize, Serialize};

/// A number with its unit, its method and its error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The number; none when there was nothing to measure.
    pub value: Option<f64>,
    /// `ms`, `count`, `ratio`, `dBFS`.
    pub unit: String,
    /// How it was found.
    pub method: String,
    /// How far it may be off.
    pub error: String,
}

impl Figure {
    pub(super) fn new(value: Option<f64>, unit: &str, method: &str, error: &str) -> Self {
        let value = value.map(tidy);
        Self { value, unit: unit.to_owned(), method: method.to_owned(), error: error.to_owned() }
    }

    /// What was not measured yet when the numbers were written.
    pub(super) fn unknown() -> Self {
        Self::new(None, "ratio", "not measured", "unknown")
    }

    pub(super) fn exact(value: f64, unit: &str, method: &str) -> Self {
        Self::new(Some(value), unit, method, "none: counted")
    }
}

/// A thousandth is finer than anything that is measured here.
pub(super) fn tidy(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The `percent` percentile of sorted values, 0 to 100, by nearest rank: the smallest value that so many of a hundred do not
/// exceed. None without values.
#[must_use]
pub fn nearest_rank(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).clamp(1, sorted.len().max(1));
    sorted.get(rank - 1).copied()
}

/// The `share` percentile of sorted values, linear between the two nearest ranks; none without values.
#[must_use]
pub fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let rank = share * last as f64;
    let below = rank.floor() as usize;
    let above = rank.ceil() as usize;
    Some(sorted[below] + (sorted[above] - sorted[below]) * (rank - below as f64))
}
