//! Powers of 16-bit samples and decibels.

/// Power of full scale, in dB.
const FULL_SCALE_DB: f64 = 90.308_998_7;

/// Decibels as a ratio of powers.
pub(super) fn ratio(db: f64) -> f32 {
    10f64.powf(db / 10.0) as f32
}

/// The mean square of samples at this level, dBFS (full scale is the square of 32,768).
pub(super) fn power_of(dbfs: f64) -> f32 {
    10f64.powf((dbfs + FULL_SCALE_DB) / 10.0) as f32
}

/// The level of this mean square, dBFS.
pub(super) fn dbfs_of(power: f64) -> f64 {
    10.0 * power.log10() - FULL_SCALE_DB
}
