//! Values of flags that several commands have.

use crate::audio::Rate;

/// A rate as a flag.
pub(super) fn parse_rate(text: &str) -> Result<Rate, String> {
    let hz: u32 = text.parse().map_err(|_| format!("{text:?} is no rate in Hz"))?;
    Rate::try_from(hz).map_err(|error| error.to_string())
}

/// A share as a flag.
pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    let share: Option<f64> = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("{text:?} is no share between 0 and 1"))
}
