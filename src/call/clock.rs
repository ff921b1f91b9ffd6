//! The call's two clocks. They do not mix: a moment of the monotonic clock and a place in a track are different types.

use std::ops::{Add, Sub};
use std::time::Duration;

use crate::audio::Rate;

/// A moment on a call's monotonic clock: the time since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct CallTime(Duration);

impl CallTime {
    /// The call's start.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// `elapsed` after the call's start.
    #[must_use]
    pub const fn after(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// The time since the call's start.
    #[must_use]
    pub const fn elapsed(self) -> Duration {
        self.0
    }

    /// Milliseconds since the call's start.
    #[must_use]
    pub fn millis(self) -> f64 {
        (self.0.as_secs_f64() * 1_000_000.0).round() / 1000.0
    }

    /// The time since `earlier`, zero when that lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The place in a track of `rate` that plays at this moment.
    #[must_use]
    pub const fn in_track(self, rate: Rate) -> SampleIndex {
        SampleIndex(rate.samples_in(self.0))
    }
}

impl Add<Duration> for CallTime {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0 + by)
    }
}

/// A place in a track, in samples of the track's own rate since the call's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct SampleIndex(u64);

impl SampleIndex {
    /// The track's `index`-th sample.
    #[must_use]
    pub const fn new(index: u64) -> Self {
        Self(index)
    }

    /// Samples since the call's start.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// When this place of a track of `rate` plays.
    #[must_use]
    pub const fn at(self, rate: Rate) -> CallTime {
        CallTime(rate.duration_of(self.0))
    }
}

impl Add<u64> for SampleIndex {
    type Output = Self;

    fn add(self, samples: u64) -> Self {
        Self(self.0 + samples)
    }
}

impl Sub for SampleIndex {
    type Output = u64;

    /// Samples from `earlier` to here, zero when that lies ahead.
    fn sub(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
