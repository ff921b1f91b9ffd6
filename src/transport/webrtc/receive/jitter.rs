//! The jitter buffer: packets in as the network brings them, one frame every 20 ms out.
//!
//! Everything follows from one number: how old the sample that plays is, against the quickest packets of the last 10 s. That
//! age is to be 20 ms (the next packet is there, so that a lost one can be recovered from it) and the delay that 97 % of the
//! packets stay below. Where it is too old, silence or the line's background is left out; where it is too young, silence is put
//! in there; speech is left alone up to a hard limit. A drifting clock, a spike and a network that calms down all are such an age.
//!
//! When nothing has come, the place in the stream stands still while concealment and then silence is played: what comes late
//! is still played, and if it turns out that the sender paused or the packets are lost, that time has been filled already.

use std::time::{Duration, Instant};

use super::background::{Background, Loudness};
use super::delay::{MILLISECOND, millis, ticks};
use super::reorder::{PacketCounts, Queued, ReorderQueue};
use crate::audio::opus::{OPUS_CLOCK, OpusDecoder, OpusError, carries_fec, is_dtx};
use crate::audio::{FRAME, Rate};
use crate::transport::webrtc::{RtpAudio, RtpTime};

/// A frame in ticks of the RTP clock.
const FRAME_TICKS: i64 = 20 * MILLISECOND;
/// Concealment goes on for so long, then it is silence: by then libopus has faded it out.
const LONGEST_CONCEALED: i64 = 100 * MILLISECOND;
/// The age is mended when it is off by this much.
const TOO_YOUNG: i64 = 10 * MILLISECOND;
const TOO_OLD: i64 = FRAME_TICKS;
/// Packets that may wait.
const MOST_WAITING: usize = 512;

/// The bounds of a jitter buffer's depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JitterLimits {
    /// The depth on a network that delays all packets alike.
    pub least: Duration,
    /// The most that is kept on purpose. At twice this, speech is left out.
    pub most: Duration,
}

impl Default for JitterLimits {
    /// 20 to 400 ms.
    fn default() -> Self {
        Self { least: FRAME, most: Duration::from_millis(400) }
    }
}

/// What most of a frame is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// What the sender sent.
    Decoded,
    /// A lost packet, from the copy in the next one (FEC).
    Recovered,
    /// Made up, for a packet that is lost or has not come.
    Concealed,
    /// The sender paused or nothing came.
    Silence,
}

/// A frame of 20 ms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlayedFrame {
    /// Its samples, [`Rate::frame_len`] of them.
    pub samples: Vec<i16>,
    /// What it is made of.
    pub kind: FrameKind,
    /// When it was due.
    pub due: Instant,
    /// A stream begins here that has nothing to do with the one before: another source, or the same with another time base.
    pub resynced: bool,
}

/// What became of packets and frames since the start.
///
/// `received = played + duplicate + late + malformed + empty + discarded +` those that wait.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct JitterCounts {
    /// Of the packets.
    pub packets: PacketCounts,
    /// Packets that were played.
    pub played: u64,
    /// Packets without a payload.
    pub empty: u64,
    /// Frames of each kind.
    pub frames_decoded: u64,
    /// Likewise.
    pub frames_recovered: u64,
    /// Likewise.
    pub frames_concealed: u64,
    /// Likewise.
    pub frames_silent: u64,
    /// Silence or concealment that was put in.
    pub inserted_ms: f64,
    /// Silence, concealment or (see `cut_ms`) speech that was left out.
    pub left_out_ms: f64,
    /// Of this, what was left out at the hard limit, whatever it was.
    pub cut_ms: f64,
    /// How old what plays is, against the quickest packets.
    pub depth_ms: f64,
    /// The most of it.
    pub max_depth_ms: f64,
    /// Its mean over all frames that are not silence.
    pub mean_depth_ms: f64,
    /// The interarrival jitter of RFC 3550 section 6.4.1.
    pub jitter_ms: f64,
}

/// The jitter buffer of one track.
#[derive(Debug)]
pub struct JitterBuffer {
    rate: Rate,
    ticks_per_sample: i64,
    least: i64,
    most: i64,
    decoder: OpusDecoder,
    start: Instant,
    frames: u32,
    queue: ReorderQueue,
    background: Background,
    place: Option<Place>,
    /// Samples that are ready to be played, and what was just put there.
    ready: Vec<i16>,
    mix: [usize; 4],
    last_kind: FrameKind,
    /// Nothing came, and so much was played meanwhile.
    owed: i64,
    /// So much was concealed without a break.
    concealed: i64,
    /// What was played last was a pause.
    pause: bool,
    cutting: bool,
    resynced: bool,
    counts: JitterCounts,
    inserted: i64,
    left_out: i64,
    cut: i64,
    depths: (f64, u64),
}

/// Where in a stream playing has got to.
#[derive(Debug)]
struct Place {
    /// The next sample to be made ready.
    cursor: RtpTime,
    /// The length of the last packet.
    packet: i64,
}

impl JitterBuffer {
    /// A buffer that plays at `rate`, one frame every 20 ms from `start` on.
    ///
    /// # Errors
    /// [`OpusError::Library`] when there is no memory.
    pub fn new(rate: Rate, limits: JitterLimits, start: Instant) -> Result<Self, OpusError> {
        let least = ticks(limits.least).max(FRAME_TICKS);
        Ok(Self {
            rate,
            ticks_per_sample: i64::from(OPUS_CLOCK / rate.hz()),
            least,
            most: ticks(limits.most).max(least),
            decoder: OpusDecoder::new(rate)?,
            start,
            frames: 0,
            queue: ReorderQueue::new(start, MOST_WAITING),
            background: Background::new(),
            place: None,
            ready: Vec::with_capacity(rate.frame_len() * 7),
            mix: [0; 4],
            last_kind: FrameKind::Silence,
            owed: 0,
            concealed: 0,
            pause: true,
            cutting: false,
            resynced: false,
            counts: JitterCounts::default(),
            inserted: 0,
            left_out: 0,
            cut: 0,
            depths: (0.0, 0),
        })
    }

    /// When the next frame is due. It lies in the past when frames have not been taken.
    #[must_use]
    pub fn next_wake(&self) -> Instant {
        self.start + FRAME * self.frames
    }

    /// What became of everything so far.
    #[must_use]
    pub fn counts(&self) -> JitterCounts {
        JitterCounts {
            packets: self.queue.counts,
            inserted_ms: millis(self.inserted),
            left_out_ms: millis(self.left_out),
            cut_ms: millis(self.cut),
            mean_depth_ms: if self.depths.1 == 0 { 0.0 } else { self.depths.0 / self.depths.1 as f64 },
            jitter_ms: self.queue.delay().jitter() / MILLISECOND as f64,
            ..self.counts
        }
    }

    /// Packets that wait to be played.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Takes a packet that came at `arrival`.
    pub fn push(&mut self, arrival: Instant, packet: RtpAudio) {
        self.queue.push(arrival, packet, self.place.as_ref().map(|place| place.cursor));
    }

    /// The next frame, when one is due at `now`. Ask until there is none.
    pub fn pop(&mut self, now: Instant) -> Option<PlayedFrame> {
        let due = self.next_wake();
        if due > now {
            return None;
        }
        let at = i64::from(self.frames).wrapping_mul(FRAME_TICKS);
        self.frames = self.frames.wrapping_add(1);
        let len = self.rate.frame_len();
        self.mix = [0; 4];
        self.mix[self.last_kind as usize] = self.ready.len();
        while self.ready.len() < len {
            self.step(at);
        }
        self.mix[self.last_kind as usize] -= (self.ready.len() - len).min(self.mix[self.last_kind as usize]);
        let kind = self.main_kind();
        self.count_frame(kind, at);
        let samples = self.ready[..len].to_vec();
        self.ready.drain(..len);
        Some(PlayedFrame { samples, kind, due, resynced: std::mem::take(&mut self.resynced) })
    }

    fn main_kind(&self) -> FrameKind {
        // Of equals, the one that says more.
        let kinds = [FrameKind::Silence, FrameKind::Decoded, FrameKind::Recovered, FrameKind::Concealed];
        kinds.into_iter().max_by_key(|kind| self.mix[*kind as usize]).unwrap_or(FrameKind::Silence)
    }

    fn count_frame(&mut self, kind: FrameKind, at: i64) {
        match kind {
            FrameKind::Decoded => self.counts.frames_decoded += 1,
            FrameKind::Recovered => self.counts.frames_recovered += 1,
            FrameKind::Concealed => self.counts.frames_concealed += 1,
            FrameKind::Silence => self.counts.frames_silent += 1,
        }
        if kind != FrameKind::Silence
            && let Some(age) = self.age(at)
        {
            let depth = millis(age);
            self.counts.depth_ms = depth;
            self.counts.max_depth_ms = self.counts.max_depth_ms.max(depth);
            self.depths = (self.depths.0 + depth, self.depths.1 + 1);
        }
    }

    /// Makes some more samples ready, or moves on in the stream.
    fn step(&mut self, at: i64) {
        let Some(front) = self.queue.front() else { return self.run_dry() };
        let (time, sound) = (front.time, front.ticks > 0);
        if self.queue.is_at_start() {
            self.begin(at, time);
        }
        let Some(place) = &self.place else { return self.run_dry() };
        if !sound {
            self.queue.take();
            self.counts.empty += 1;
            return;
        }
        let gap = time.since(place.cursor);
        if gap > 0 { self.bridge(at, gap) } else { self.play(at, gap.saturating_neg()) }
    }

    /// The stream of the first packet that waits begins: so much before its first sample as makes that play at the age that it should have.
    fn begin(&mut self, at: i64, time: RtpTime) {
        self.queue.begin();
        self.resynced = self.place.is_some();
        if self.resynced {
            self.decoder.reset();
        }
        let mut place = Place { cursor: time, packet: FRAME_TICKS };
        (self.owed, self.concealed, self.pause, self.cutting) = (0, 0, true, false);
        if self.queue.is_current() {
            let age = self.queue.delay().age(at.wrapping_add(self.ready_ticks()), time);
            let early = self.wanted_age().saturating_sub(age).clamp(0, self.most);
            place.cursor = time.plus(-early);
        }
        self.place = Some(place);
    }

    /// Nothing has come: the place in the stream stands still.
    fn run_dry(&mut self) {
        let made =
            if self.pause || self.concealed >= LONGEST_CONCEALED { self.silence(FRAME_TICKS) } else { self.conceal(FRAME_TICKS) };
        if self.place.is_some() {
            self.owed = self.owed.saturating_add(made);
        }
    }

    /// Fills some of the `gap` before the first packet that waits.
    fn bridge(&mut self, at: i64, gap: i64) {
        let too_old = self.too_old(at);
        let filled = self.owed.min(gap).min(too_old);
        if filled > 0 {
            self.owed -= filled;
            return self.skip(filled);
        }
        self.settle();
        let Some(place) = &self.place else { return };
        let lost = (self.queue.missing().min(1_000_000) as i64).saturating_mul(place.packet).min(gap);
        if lost == 0 || (self.pause && gap > lost) {
            self.bridge_pause(gap - lost, too_old);
        } else {
            self.bridge_loss(gap, too_old);
        }
    }

    fn bridge_pause(&mut self, gap: i64, too_old: i64) {
        self.pause = true;
        if too_old >= TOO_OLD {
            let skipped = too_old.min(gap);
            self.left_out = self.left_out.saturating_add(skipped);
            self.skip(skipped);
        } else if too_old <= -TOO_YOUNG {
            self.inserted += self.silence((-too_old).min(FRAME_TICKS));
        } else {
            let made = self.silence(gap.min(FRAME_TICKS));
            self.skip(made.max(gap.min(self.ticks_per_sample)));
        }
    }

    fn bridge_loss(&mut self, gap: i64, too_old: i64) {
        let frame = gap.min(FRAME_TICKS);
        if gap <= FRAME_TICKS && self.queue.front().is_some_and(|next| carries_fec(&next.payload)) {
            let made = self.recover(gap);
            self.skip(made.max(gap.min(self.ticks_per_sample)));
        } else if too_old >= TOO_OLD {
            self.left_out = self.left_out.saturating_add(frame);
            self.skip(frame);
        } else if too_old <= -TOO_OLD && self.concealed < LONGEST_CONCEALED {
            self.inserted += self.conceal(FRAME_TICKS);
        } else {
            let made = if self.concealed < LONGEST_CONCEALED { self.conceal(frame) } else { self.silence(frame) };
            self.skip(made.max(gap.min(self.ticks_per_sample)));
        }
    }

    /// Decodes the first packet that waits, but for the ticks of it that have been played.
    fn play(&mut self, at: i64, played: i64) {
        let Some(packet) = self.queue.take() else { return };
        self.settle();
        if played >= packet.ticks {
            self.queue.counts.late += 1;
            return;
        }
        let from = self.ready.len();
        if self.decoder.decode(&packet.payload, &mut self.ready).is_err() {
            self.queue.counts.malformed += 1;
            self.conceal(packet.ticks);
            self.advance(&packet, played, from);
            return;
        }
        self.counts.played += 1;
        let loudness = self.background.hear(&self.ready[from..]);
        self.concealed = 0;
        self.pause = loudness == Loudness::Silence || is_dtx(&packet.payload);
        let len = self.ready.len() - from;
        self.mixed(if is_dtx(&packet.payload) { FrameKind::Silence } else { FrameKind::Decoded }, len);
        self.advance(&packet, played, from);
        self.mend(at, from, loudness != Loudness::Sound);
    }

    /// The packet is played, but for its first ticks. What was made of it begins at `from`.
    fn advance(&mut self, packet: &Queued, played: i64, from: usize) {
        let drop = ((played / self.ticks_per_sample) as usize).min(self.ready.len() - from);
        self.take_back(from, drop);
        if let Some(place) = &mut self.place {
            place.cursor = packet.time.plus(packet.ticks);
            place.packet = packet.ticks;
        }
    }

    /// Brings the age nearer to what it should be, with what was just decoded.
    fn mend(&mut self, at: i64, from: usize, quiet: bool) {
        let too_old = self.too_old(at);
        let len = self.ready.len() - from;
        self.cutting = too_old > 0 && (self.cutting || too_old > self.most.saturating_mul(2) - self.wanted_age());
        if self.cutting || (quiet && too_old >= TOO_OLD && self.queue.len() > 0) {
            let drop = ((too_old / self.ticks_per_sample) as usize).min(len);
            self.take_back(from, drop);
            let dropped = drop as i64 * self.ticks_per_sample;
            self.left_out = self.left_out.saturating_add(dropped);
            if !quiet {
                self.cut += dropped;
            }
        } else if quiet && too_old <= -TOO_YOUNG {
            self.inserted += self.silence((-too_old).min(FRAME_TICKS));
        }
    }

    /// Takes `count` samples away that were just made ready from `from` on.
    fn take_back(&mut self, from: usize, count: usize) {
        self.ready.drain(from..from + count);
        let mixed = &mut self.mix[self.last_kind as usize];
        *mixed = mixed.saturating_sub(count);
    }

    /// What stood in for packets that came after all was put in.
    fn settle(&mut self) {
        self.inserted += std::mem::take(&mut self.owed);
    }

    fn skip(&mut self, ticks: i64) {
        if let Some(place) = &mut self.place {
            place.cursor = place.cursor.plus(ticks);
        }
    }

    fn silence(&mut self, ticks: i64) -> i64 {
        let samples = (ticks / self.ticks_per_sample) as usize;
        self.ready.resize(self.ready.len() + samples, 0);
        self.mixed(FrameKind::Silence, samples);
        samples as i64 * self.ticks_per_sample
    }

    fn conceal(&mut self, ticks: i64) -> i64 {
        self.make_up(ticks, FrameKind::Concealed, |decoder, _, samples, out| decoder.conceal(samples, out))
    }

    fn recover(&mut self, ticks: i64) -> i64 {
        let made = self.make_up(ticks, FrameKind::Recovered, |decoder, next, samples, out| match next {
            Some(next) => decoder.recover(&next.payload, samples, out),
            None => decoder.conceal(samples, out),
        });
        self.concealed = 0;
        made
    }

    /// Makes `ticks` of something, from the first packet that waits where that helps; silence where that cannot be made.
    fn make_up(
        &mut self,
        ticks: i64,
        kind: FrameKind,
        make: impl FnOnce(&mut OpusDecoder, Option<&Queued>, usize, &mut Vec<i16>) -> Result<usize, OpusError>,
    ) -> i64 {
        let samples = (ticks / self.ticks_per_sample) as usize;
        let from = self.ready.len();
        if samples == 0 || make(&mut self.decoder, self.queue.front(), samples, &mut self.ready).is_err() {
            self.ready.truncate(from);
            return self.silence(ticks);
        }
        self.ready.truncate(from + samples);
        let made = self.ready.len() - from;
        self.mixed(kind, made);
        let made = made as i64 * self.ticks_per_sample;
        self.concealed += made;
        made
    }

    fn mixed(&mut self, kind: FrameKind, samples: usize) {
        self.mix[kind as usize] += samples;
        self.last_kind = kind;
    }

    /// The age that what plays should have.
    fn wanted_age(&self) -> i64 {
        self.least.saturating_add(self.queue.delay().spread()).min(self.most)
    }

    /// How much older than it should be the next sample to be made ready will be when it plays.
    fn too_old(&self, at: i64) -> i64 {
        match &self.place {
            Some(place) if self.queue.is_current() => {
                let age = self.queue.delay().age(at.wrapping_add(self.ready_ticks()), place.cursor);
                age.saturating_sub(self.wanted_age())
            }
            _ => 0,
        }
    }

    /// The age of what plays at `at`.
    fn age(&self, at: i64) -> Option<i64> {
        let place = self.place.as_ref().filter(|_| self.queue.is_current())?;
        Some(self.queue.delay().age(at.wrapping_add(self.ready_ticks()), place.cursor))
    }

    fn ready_ticks(&self) -> i64 {
        self.ready.len() as i64 * self.ticks_per_sample
    }
}
