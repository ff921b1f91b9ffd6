//! Where a stream may be parted or shortened without anyone hearing it.

/// Samples that are not above this (-50 dBFS) are silence.
const SILENCE: u16 = 104;
/// The background of a line is quiet up to this (-30 dBFS): steadier and louder sound may be meant to be heard.
const LOUDEST_BACKGROUND: u16 = 1_036;

/// How loud a packet's audio is against the rest of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loudness {
    Silence,
    /// No more than the line's background.
    Background,
    Sound,
}

/// Follows the background of a line: the least peak of its packets, which rises by half in two seconds unless it is met again.
#[derive(Debug)]
pub(super) struct Background(u16);

impl Background {
    pub(super) fn new() -> Self {
        Self(0)
    }

    /// What a packet's samples are.
    pub(super) fn hear(&mut self, samples: &[i16]) -> Loudness {
        let peak = samples.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0);
        self.0 = self.0.saturating_add(self.0 / 256 + 1).min(peak);
        if peak <= SILENCE {
            Loudness::Silence
        } else if peak <= self.0.saturating_mul(2).min(LOUDEST_BACKGROUND) {
            Loudness::Background
        } else {
            Loudness::Sound
        }
    }
}
