//! Which of the packets that come belong to the stream, are new to it, or begin another.

use std::time::{Duration, Instant};

use super::delay::Delay;
use crate::audio::opus::OPUS_CLOCK;
use crate::transport::webrtc::RtpAudio;

/// A packet that comes so much earlier or later than the others is of another time base.
const OTHER_BASE: u64 = 2 * OPUS_CLOCK as u64;
/// A jump in sequence numbers beyond these is a stream begun anew if a second packet bears it out (RFC 3550 appendix A.1).
const MOST_AHEAD: i64 = 3_000;
const MOST_BEHIND: i64 = 100;
/// Packets of the stream before are let go for so long after a change.
const STRAGGLERS: Duration = Duration::from_secs(1);

/// What a packet is to what came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admitted {
    /// One of the stream that has not come before.
    Fresh,
    /// The first of another stream, or of the same with another time base.
    Restart,
    Duplicate,
    /// Of a stream that ended, or of none.
    Stray,
}

/// The packets of one track, as they come. Streams of the track are numbered: their `epoch`.
#[derive(Debug)]
pub(super) struct Reception {
    stream: Option<Stream>,
    epoch: u64,
    /// The stream before, and when it ended.
    before: Option<(u32, Instant)>,
    pub(super) delay: Delay,
}

#[derive(Debug)]
struct Stream {
    ssrc: u32,
    highest: u64,
    /// Which of the last 128 up to the highest have come.
    seen: u128,
    /// The number that bears out a jump.
    suspect: Option<u64>,
}

impl Reception {
    pub(super) fn new() -> Self {
        Self { stream: None, epoch: 0, before: None, delay: Delay::new() }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn ssrc(&self) -> Option<u32> {
        self.stream.as_ref().map(|stream| stream.ssrc)
    }

    /// Takes note of a packet that came at `arrival`, which is `moment` on the clock of the delays. A packet without `sound`
    /// says nothing of delays.
    pub(super) fn admit(&mut self, arrival: Instant, moment: i64, packet: &RtpAudio, sound: bool) -> Admitted {
        let transit = Delay::transit(moment, packet.time);
        let admitted = self.judge(arrival, packet, transit, sound);
        if admitted == Admitted::Restart {
            self.epoch += 1;
            self.delay.restart();
            self.stream = Some(Stream::new(packet));
        }
        if sound && matches!(admitted, Admitted::Fresh | Admitted::Restart) {
            self.delay.note(transit);
        }
        admitted
    }

    fn judge(&mut self, arrival: Instant, packet: &RtpAudio, transit: i64, sound: bool) -> Admitted {
        let stream = self.stream.get_or_insert_with(|| Stream { seen: 0, ..Stream::new(packet) });
        if packet.ssrc != stream.ssrc {
            let straggler = |(ssrc, since)| ssrc == packet.ssrc && arrival.saturating_duration_since(since) < STRAGGLERS;
            if self.before.is_some_and(straggler) {
                return Admitted::Stray;
            }
            self.before = Some((stream.ssrc, arrival));
            return Admitted::Restart;
        }
        let ahead = packet.sequence.wrapping_sub(stream.highest) as i64;
        if !(-MOST_BEHIND..=MOST_AHEAD).contains(&ahead) {
            let borne_out = stream.suspect == Some(packet.sequence);
            stream.suspect = Some(packet.sequence.wrapping_add(1));
            return if borne_out { Admitted::Restart } else { Admitted::Stray };
        }
        stream.suspect = None;
        if stream.seen_before(packet.sequence, ahead) {
            return Admitted::Duplicate;
        }
        let other_base = |deviation: i64| deviation.unsigned_abs() > OTHER_BASE;
        if sound && self.delay.deviation(transit).is_some_and(other_base) { Admitted::Restart } else { Admitted::Fresh }
    }
}

impl Stream {
    fn new(packet: &RtpAudio) -> Self {
        Self { ssrc: packet.ssrc, highest: packet.sequence, seen: 1, suspect: None }
    }

    /// Notes a number that is `ahead` of the highest, and says whether it came before.
    fn seen_before(&mut self, sequence: u64, ahead: i64) -> bool {
        if ahead > 0 {
            self.seen = self.seen.checked_shl(ahead.min(128) as u32).unwrap_or(0) | 1;
            self.highest = sequence;
            return false;
        }
        // MOST_BEHIND keeps it within the 128.
        let bit = 1_u128 << ahead.unsigned_abs().min(127);
        let before = self.seen & bit != 0;
        self.seen |= bit;
        before
    }
}
