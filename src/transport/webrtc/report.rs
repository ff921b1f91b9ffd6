//! RTCP sender reports (RFC 3550 section 6.4.1) and the clock that those of one room share.

use std::time::{Duration, SystemTime};

use super::RtpTime;
use crate::audio::opus::OPUS_CLOCK;

/// Seconds from 1900, where NTP's time begins, to 1970 (RFC 868).
const UNTIL_1970: Duration = Duration::from_secs(2_208_988_800);

/// A moment of the wall clock that sender reports tell: seconds since 1900, with 32 bits of fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NtpTime(u64);

impl NtpTime {
    /// From the 64 bits of a report.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// From seconds since 1900 and nanoseconds.
    #[must_use]
    pub const fn new(seconds: u32, nanos: u32) -> Self {
        Self(((seconds as u64) << 32) | (((nanos as u64) << 32) / 1_000_000_000))
    }

    /// From the system's time. Its seconds begin anew in 2036 (RFC 5905 section 6).
    pub(super) fn of_system(time: SystemTime) -> Self {
        let since_1900 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + UNTIL_1970;
        Self::new(since_1900.as_secs() as u32, since_1900.subsec_nanos())
    }

    /// Ticks of [`OPUS_CLOCK`] from `earlier` to here; negative when that lies ahead.
    fn ticks_since(self, earlier: Self) -> i64 {
        let apart = i128::from(self.0.wrapping_sub(earlier.0) as i64);
        // Rounded to the nearest tick.
        ((apart * i128::from(OPUS_CLOCK) + (1 << 31)) >> 32) as i64
    }
}

/// What a sender report says of its track: at `ntp` of the reporter's wall clock its media clock was at `rtp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// The stream's source.
    pub ssrc: u32,
    /// The wall clock.
    pub ntp: NtpTime,
    /// The media clock's low 32 bits, as they are in the report.
    pub rtp: u32,
}

impl SenderReport {
    /// The media clock, extended to the round that is nearest to `near`.
    pub(super) fn time(&self, near: RtpTime) -> RtpTime {
        near.plus(i64::from(self.rtp.wrapping_sub(near.ticks() as u32) as i32))
    }
}

/// The wall clock of the sender reports of one room, on the recording's clock.
///
/// The reports of all tracks that come through one server, or from one participant, tell one wall clock: tracks that share
/// this are aligned to the sample. It is set by the first report of the first track that was placed by arrival, such that
/// this track stays where it is; the others move to it.
#[derive(Debug, Clone, Default)]
pub struct RoomClock(Option<(NtpTime, i64)>);

impl RoomClock {
    /// Where on the recording's clock a moment of the wall clock lies, in ticks; none before the clock is set.
    pub(super) fn place(&self, ntp: NtpTime) -> Option<i64> {
        self.0.map(|(anchor, at)| at.saturating_add(ntp.ticks_since(anchor)))
    }

    /// Sets the clock, once.
    pub(super) fn set(&mut self, ntp: NtpTime, at: i64) {
        self.0.get_or_insert((ntp, at));
    }
}
