//! RTP's own numbers (RFC 3550 section 5.1), extended so that they do not wrap.

/// A moment on a sender's media clock, in ticks of 1/48000 s ([`crate::audio::opus::OPUS_CLOCK`]), extended beyond its 32 bits.
/// Two senders' clocks have nothing in common, and one sender's may jump when it starts a stream anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RtpTime(u64);

impl RtpTime {
    /// The moment of this extended time stamp.
    #[must_use]
    pub const fn new(ticks: u64) -> Self {
        Self(ticks)
    }

    /// The extended time stamp.
    #[must_use]
    pub const fn ticks(self) -> u64 {
        self.0
    }

    /// This moment, `ticks` later.
    #[must_use]
    pub const fn plus(self, ticks: i64) -> Self {
        Self(self.0.wrapping_add_signed(ticks))
    }

    /// Ticks from `earlier` to here; negative when that lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.wrapping_sub(earlier.0) as i64
    }
}

/// One RTP packet of an audio track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpAudio {
    /// The stream's source: another one is another stream.
    pub ssrc: u32,
    /// Its sequence number, extended beyond 16 bits.
    pub sequence: u64,
    /// When its first sample was taken.
    pub time: RtpTime,
    /// Its payload: an Opus packet, or nothing (padding alone).
    pub payload: Vec<u8>,
}

/// Extends a number of few bits that wraps: each is taken for the one nearest to the last.
#[derive(Debug, Clone)]
pub struct Extender {
    bits: u32,
    last: Option<u64>,
}

impl Extender {
    /// For sequence numbers, of 16 bits.
    #[must_use]
    pub const fn sequence() -> Self {
        Self { bits: 16, last: None }
    }

    /// For time stamps, of 32 bits.
    #[must_use]
    pub const fn time() -> Self {
        Self { bits: 32, last: None }
    }

    /// The extended number. The first lies in the second round, so that what was sent before it has a place too.
    pub fn extend(&mut self, number: u32) -> u64 {
        let round = 1_u64 << self.bits;
        let number = u64::from(number) % round;
        let extended = match self.last {
            None => round + number,
            Some(last) => {
                let ahead = number.wrapping_sub(last) % round;
                let back = round - ahead;
                if ahead < round / 2 || last < back { last.wrapping_add(ahead) } else { last - back }
            }
        };
        self.last = Some(extended);
        extended
    }
}
