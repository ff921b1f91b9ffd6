//! Sample rates and the 20 ms frame.

use std::fmt;
use std::time::Duration;

/// The length of the frame in which every voice transport here sends audio: 20 ms (RFC 3551 section 4.2, and the CHIRP page).
pub const FRAME: Duration = Duration::from_millis(20);

/// A sample rate that Trunkline carries: 8, 16, 24 or 48 kHz.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Rate(u32);

/// A rate that Trunkline does not carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} Hz is not a supported rate: use 8000, 16000, 24000 or 48000")]
pub struct UnknownRate(pub u32);

impl Rate {
    /// Narrow band, 8 kHz.
    pub const HZ_8000: Self = Self(8_000);
    /// Wide band, 16 kHz: CHIRP's rate.
    pub const HZ_16000: Self = Self(16_000);
    /// 24 kHz, what many text-to-speech engines give.
    pub const HZ_24000: Self = Self(24_000);
    /// Full band, 48 kHz.
    pub const HZ_48000: Self = Self(48_000);

    /// Samples a second.
    #[must_use]
    pub const fn hz(self) -> u32 {
        self.0
    }

    /// Samples in one 20 ms [`FRAME`].
    #[must_use]
    pub const fn frame_len(self) -> usize {
        (self.0 / 50) as usize
    }

    /// Whole samples in `time`, rounded down.
    #[must_use]
    pub const fn samples_in(self, time: Duration) -> u64 {
        (time.as_nanos() * self.0 as u128 / 1_000_000_000) as u64
    }

    /// How long `samples` last, rounded down to a nanosecond.
    #[must_use]
    pub const fn duration_of(self, samples: u64) -> Duration {
        let seconds = samples / self.0 as u64;
        let rest = samples % self.0 as u64;
        Duration::new(seconds, (rest * 1_000_000_000 / self.0 as u64) as u32)
    }

    /// `samples` in milliseconds.
    #[must_use]
    pub fn millis_of(self, samples: u64) -> f64 {
        samples as f64 * 1000.0 / f64::from(self.0)
    }
}

impl TryFrom<u32> for Rate {
    type Error = UnknownRate;

    fn try_from(hz: u32) -> Result<Self, UnknownRate> {
        match hz {
            8_000 | 16_000 | 24_000 | 48_000 => Ok(Self(hz)),
            other => Err(UnknownRate(other)),
        }
    }
}

impl From<Rate> for u32 {
    fn from(rate: Rate) -> Self {
        rate.0
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Hz", self.0)
    }
}
