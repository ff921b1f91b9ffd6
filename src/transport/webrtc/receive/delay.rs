//! How long packets of one stream are under way, against the quickest of them.

use std::time::{Duration, Instant};

use crate::audio::opus::OPUS_CLOCK;
use crate::transport::webrtc::RtpTime;

/// Packets that are looked back on: 10 s of 20 ms.
const WINDOW: usize = 512;
/// The share of them that must come in time.
const IN_TIME: usize = 97;
/// The last of them, 1.3 s, that make the depth grow fast, and their share.
const RECENT: usize = 64;
const RECENT_IN_TIME: usize = 90;
/// The depth is reckoned anew after so many packets.
const EVERY: usize = 8;

/// Ticks of [`OPUS_CLOCK`] in a millisecond.
pub(super) const MILLISECOND: i64 = OPUS_CLOCK as i64 / 1_000;

/// The delays of one stream, in ticks.
#[derive(Debug)]
pub(super) struct Delay {
    transits: Vec<i64>,
    next: usize,
    seen: u64,
    /// The least transit of the window: arrival on our clock less the time on the sender's.
    base: i64,
    /// How much later than the quickest all but a few packets come.
    spread: i64,
    last: Option<i64>,
    /// RFC 3550 section 6.4.1, in ticks.
    jitter: f64,
    scratch: Vec<i64>,
}

impl Delay {
    pub(super) fn new() -> Self {
        let (transits, scratch) = (Vec::with_capacity(WINDOW), Vec::with_capacity(WINDOW));
        Self { transits, next: 0, seen: 0, base: 0, spread: 0, last: None, jitter: 0.0, scratch }
    }

    /// What a packet says that was taken at `time` and came at `arrival` of our clock.
    pub(super) fn transit(arrival: i64, time: RtpTime) -> i64 {
        arrival.wrapping_sub(time.ticks() as i64)
    }

    /// How far a transit is from the quickest; none before the first.
    pub(super) fn deviation(&self, transit: i64) -> Option<i64> {
        (self.seen > 0).then(|| transit.wrapping_sub(self.base))
    }

    /// How long before `at` a packet of `time` came, had it been as quick as the quickest.
    pub(super) fn age(&self, at: i64, time: RtpTime) -> i64 {
        Self::transit(at, time).wrapping_sub(self.base)
    }

    pub(super) fn base(&self) -> i64 {
        self.base
    }

    pub(super) fn spread(&self) -> i64 {
        self.spread
    }

    pub(super) fn jitter(&self) -> f64 {
        self.jitter
    }

    /// The stream's time base has jumped: what is known of its delays holds no more.
    pub(super) fn restart(&mut self) {
        self.transits.clear();
        (self.next, self.seen, self.last, self.spread) = (0, 0, None, 0);
    }

    pub(super) fn note(&mut self, transit: i64) {
        if let Some(last) = self.last.replace(transit) {
            self.jitter += (transit.wrapping_sub(last).unsigned_abs() as f64 - self.jitter) / 16.0;
        }
        if self.transits.len() < WINDOW {
            self.transits.push(transit);
        } else {
            self.transits[self.next] = transit;
        }
        self.next = (self.next + 1) % WINDOW;
        if self.seen == 0 || transit.wrapping_sub(self.base) < 0 {
            self.base = transit;
        }
        self.seen += 1;
        if self.seen < RECENT as u64 || self.seen.is_multiple_of(EVERY as u64) {
            self.reckon();
        }
    }

    fn reckon(&mut self) {
        // Against the old base: transits are far from zero, and differences cannot overflow within a stream.
        let old = self.base;
        self.scratch.clear();
        self.scratch.extend(self.transits.iter().map(|transit| transit.wrapping_sub(old)));
        let least = self.scratch.iter().copied().min().unwrap_or(0);
        let all = percentile(&mut self.scratch, IN_TIME);
        self.scratch.clear();
        let len = self.transits.len();
        let recent = (1..=len.min(RECENT)).map(|back| self.transits[(self.next + WINDOW - back) % WINDOW].wrapping_sub(old));
        self.scratch.extend(recent);
        let recent = percentile(&mut self.scratch, RECENT_IN_TIME);
        self.base = old.wrapping_add(least);
        self.spread = all.max(recent).saturating_sub(least).max(0);
    }
}

fn percentile(values: &mut [i64], percent: usize) -> i64 {
    if values.is_empty() {
        return 0;
    }
    let at = (values.len() * percent / 100).min(values.len() - 1);
    *values.select_nth_unstable(at).1
}

/// `time` in ticks of [`OPUS_CLOCK`].
pub(super) fn ticks(time: Duration) -> i64 {
    (time.as_nanos() * u128::from(OPUS_CLOCK) / 1_000_000_000) as i64
}

/// `ticks` in ms.
pub(super) fn millis(ticks: i64) -> f64 {
    ticks as f64 / MILLISECOND as f64
}

/// Ticks from `start` to `instant`.
pub(super) fn signed_ticks(start: Instant, instant: Instant) -> i64 {
    match instant.checked_duration_since(start) {
        Some(after) => ticks(after),
        None => -ticks(start - instant),
    }
}
