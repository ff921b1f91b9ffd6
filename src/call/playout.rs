//! What was heard is what is recorded.
//!
//! A voice agent sends its speech in bursts far faster than real time, and throws away what is queued when it is
//! interrupted. The playout turns what arrives into what is heard: audio starts when it arrives, or when what is before it
//! has been played; a real-time source passes at once; a gap is silence; what is cleared was never heard. It owns no clock.
//!
//! A source without a gap is anchored by its first frame. Where that one came late, or several came at once (a line that was
//! busy when the call began, the end of an outage), all that follows would wait for ever: so what has waited longer than it
//! needs to for a second catches up, by leaving out silence. Speech is never left out.

use std::collections::VecDeque;
use std::time::Duration;

use super::{CallTime, SampleIndex};
use crate::audio::{FRAME, Rate};

/// How late a frame may be before what is between counts as a pause of the speaker, and not as jitter of the line.
pub const JITTER: Duration = Duration::from_millis(60);
/// The same for a source that is known to send without a gap: its clock is its sample count, and only an outage of this
/// length starts it anew.
pub const OUTAGE: Duration = Duration::from_millis(500);
/// How far ahead of its moment audio is let go: one frame, so that a source which is a little early is not held.
pub const LEAD: Duration = FRAME;
/// How much may wait to be played. A longer burst is cut, and what is cut is counted.
pub const LONGEST_QUEUE: Duration = Duration::from_secs(300);

/// What waits longer than this for all of [`SPARE_WINDOW`] waits for nothing.
const SPARE_WINDOW: Duration = Duration::from_secs(1);
/// What waits longer than this was sent ahead on purpose, and is played as it was made.
const MOST_SPARE: Duration = Duration::from_secs(1);
/// Samples that are not above this (-50 dBFS) for [`LEAST_SILENCE`] are silence.
const SILENCE: u16 = 104;
const LEAST_SILENCE: Duration = Duration::from_millis(10);

/// The playout of one direction, in the speaker's own rate.
#[derive(Debug)]
pub struct Playout {
    rate: Rate,
    tolerance: Duration,
    /// Of a source without a gap alone.
    spare: Option<Spare>,
    queue: VecDeque<i16>,
    /// Where in the track the first queued sample, or else the next to come, plays.
    head: SampleIndex,
    /// How many samples the source gave up to the queue's first.
    source: u64,
    started: bool,
}

/// How much of what waits is never needed, of a source without a gap.
#[derive(Debug, Default)]
struct Spare {
    /// When the window began.
    since: CallTime,
    /// The least time, within the window, that audio still had to wait when it arrived.
    least: Option<Duration>,
    /// Samples to be left out when there is silence.
    excess: u64,
    /// Samples that were left out and not told of yet.
    skipped: u64,
}

/// What became of audio that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Arrival {
    /// It came this much after the moment at which it should have been played.
    pub late: Duration,
    /// Samples that did not fit into the queue.
    pub overflow: usize,
}

/// Where a released frame belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// Its first sample's place in the track.
    pub at: SampleIndex,
    /// Its first sample's number in the source's stream.
    pub source: u64,
}

/// What a clear threw away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleared {
    /// Samples.
    pub samples: usize,
    /// Where in the track they would have begun.
    pub at: SampleIndex,
}

impl Playout {
    /// A playout for a source at `rate`; `continuous` says that the source sends without a gap.
    #[must_use]
    pub fn new(rate: Rate, continuous: bool) -> Self {
        let tolerance = if continuous { OUTAGE } else { JITTER };
        let spare = continuous.then(Spare::default);
        Self { rate, tolerance, spare, queue: VecDeque::new(), head: SampleIndex::default(), source: 0, started: false }
    }

    /// The source's rate, which is the track's.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Samples that the source has given since the call's start.
    #[must_use]
    pub fn given(&self) -> u64 {
        self.source + self.queue.len() as u64
    }

    /// Of these, how many wait to be played.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.queue.len() as u64
    }

    /// Where the track has got to.
    #[must_use]
    pub fn head(&self) -> SampleIndex {
        self.head
    }

    /// Takes what arrived at `now`.
    pub fn push(&mut self, now: CallTime, samples: &[i16]) -> Arrival {
        let mut arrival = Arrival::default();
        if self.queue.is_empty() {
            let lateness = now.since(self.head.at(self.rate));
            if self.started && lateness <= self.tolerance {
                arrival.late = lateness;
            } else {
                self.head = now.in_track(self.rate);
                self.forget_spare(now);
            }
        }
        self.started = true;
        if let Some(spare) = &mut self.spare {
            let due = (self.head + self.queue.len() as u64).at(self.rate);
            spare.note(now, due.elapsed().saturating_sub(now.elapsed()), self.rate);
        }
        let room = (self.rate.samples_in(LONGEST_QUEUE) as usize).saturating_sub(self.queue.len());
        let taken = samples.len().min(room);
        self.queue.extend(&samples[..taken]);
        arrival.overflow = samples.len() - taken;
        arrival
    }

    /// Moves the next frame that is due at `now` into `frame` (at most 20 ms); none when nothing is due.
    pub fn release(&mut self, now: CallTime, frame: &mut Vec<i16>) -> Option<Released> {
        self.catch_up(now);
        if self.queue.is_empty() || self.head.at(self.rate) > now + LEAD {
            return None;
        }
        let released = Released { at: self.head, source: self.source };
        let len = self.queue.len().min(self.rate.frame_len());
        frame.clear();
        let (front, back) = self.queue.as_slices();
        frame.extend_from_slice(&front[..len.min(front.len())]);
        frame.extend_from_slice(&back[..len - frame.len()]);
        self.queue.drain(..len);
        self.head = self.head + len as u64;
        self.source += len as u64;
        if self.queue.is_empty() && self.queue.capacity() > self.rate.frame_len() * 8 {
            self.queue.shrink_to(self.rate.frame_len() * 4);
        }
        Some(released)
    }

    /// Leaves out silence at the queue's front, as far as what follows waits for nothing; what it makes come sooner is not late.
    fn catch_up(&mut self, now: CallTime) {
        let end = (self.head + self.queue.len() as u64).at(self.rate);
        let ahead = self.rate.samples_in(end.since(now));
        let Some(spare) = &mut self.spare else { return };
        if spare.excess == 0 {
            return;
        }
        let most = self.queue.len().min(spare.excess.min(ahead) as usize);
        let silent = self.queue.iter().take(most).take_while(|sample| sample.unsigned_abs() <= SILENCE).count();
        // A few quiet samples are a wave that passes through zero, and no silence.
        if silent as u64 >= self.rate.samples_in(LEAST_SILENCE) {
            self.queue.drain(..silent);
            self.source += silent as u64;
            spare.excess -= silent as u64;
            spare.skipped += silent as u64;
        }
    }

    /// Samples of silence that were left out since this was last asked.
    pub fn take_skipped(&mut self) -> u64 {
        self.spare.as_mut().map_or(0, |spare| std::mem::take(&mut spare.skipped))
    }

    /// When the next queued frame is due; none when nothing waits.
    #[must_use]
    pub fn next_due(&self) -> Option<CallTime> {
        let due = CallTime::after(self.head.at(self.rate).elapsed().saturating_sub(LEAD));
        (!self.queue.is_empty()).then_some(due)
    }

    /// From when on the track is certain to be silent until something arrives; none while audio waits.
    #[must_use]
    pub fn silent_from(&self) -> Option<CallTime> {
        self.queue.is_empty().then(|| self.head.at(self.rate) + self.tolerance)
    }

    /// Lets one frame of silence pass where the source gives none. Only for a sink that must not have gaps.
    pub fn pass_silence(&mut self, frame: &mut Vec<i16>) -> Released {
        let released = Released { at: self.head, source: self.source };
        frame.clear();
        frame.resize(self.rate.frame_len(), 0);
        self.head = self.head + frame.len() as u64;
        self.started = true;
        released
    }

    /// The source lets silence pass without sending it. Its own count of samples goes on.
    pub fn skip(&mut self, samples: u64) {
        if self.queue.is_empty() {
            self.head = self.head + samples;
            self.source += samples;
        } else {
            self.queue.extend(std::iter::repeat_n(0, samples as usize));
        }
    }

    /// What was known of the waiting holds no longer.
    fn forget_spare(&mut self, now: CallTime) {
        if let Some(spare) = &mut self.spare {
            (spare.since, spare.least, spare.excess) = (now, None, 0);
        }
    }

    /// Throws away what waits: the listener has begun to speak.
    pub fn clear(&mut self) -> Cleared {
        self.forget_spare(self.head.at(self.rate));
        let cleared = Cleared { samples: self.queue.len(), at: self.head };
        self.source += self.queue.len() as u64;
        self.queue = VecDeque::new();
        cleared
    }
}

impl Spare {
    /// Audio arrived that has to wait for `ahead` before it is due.
    fn note(&mut self, now: CallTime, ahead: Duration, rate: Rate) {
        let least = self.least.map_or(ahead, |least| least.min(ahead));
        self.least = Some(least);
        if now.since(self.since) >= SPARE_WINDOW {
            let spare = least > LEAD && least <= MOST_SPARE;
            self.excess = if spare { rate.samples_in(least - LEAD / 2) } else { 0 };
            (self.since, self.least) = (now, None);
        }
    }
}
