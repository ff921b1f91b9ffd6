//! Placing a track for a recording: by the sender's clock, not by when packets came.
//!
//! A packet's place is its RTP time plus an offset. The offset is first that of the packet that was under way the least, and
//! then what the sender reports say ([`RoomClock`]). It is changed only where there is silence: in a gap of the stream, or by
//! leaving out or parting packets that hold no more than the line's background. So there are no clicks, and speech is never cut. The first report moves
//! the track to the sample; after it, only a drift of more than 5 ms does (by arrival alone, more than 20 ms).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::FrameKind;
use super::background::{Background, Loudness};
use super::delay::{MILLISECOND, millis, signed_ticks};
use super::reorder::{PacketCounts, Queued, ReorderQueue};
use crate::audio::opus::{OPUS_CLOCK, OpusDecoder, OpusError, carries_fec, is_dtx};
use crate::audio::{FRAME, Rate};
use crate::call::SampleIndex;
use crate::transport::webrtc::{RoomClock, RtpAudio, RtpTime, SenderReport};

/// How long a missing packet is waited for.
const REORDERING: Duration = Duration::from_millis(200);
/// Loss is concealed for so long, then it is a gap.
const LONGEST_CONCEALED: i64 = 100 * MILLISECOND;
/// What the offset may be off by.
const REPORTED_DRIFT: i64 = 5 * MILLISECOND;
const ARRIVAL_DRIFT: i64 = 20 * MILLISECOND;
/// A report that would move the track by more than this tells another wall clock than the room's.
const MOST_OFF: u64 = 5 * OPUS_CLOCK as u64;
/// Drift is the median of what so many reports say: one that was delayed within its sender does not move the track.
const REPORTS: usize = 5;
/// Arrivals are looked at every so many packets.
const ARRIVALS: u32 = 500;
/// Packets that may wait.
const MOST_WAITING: usize = 1_024;
const FRAME_TICKS: i64 = 20 * MILLISECOND;

/// What a track's place on the recording's clock was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlacedBy {
    /// The arrival of the packet that was under way the least: the delay of the network is in it.
    Arrival,
    /// Sender reports.
    SenderReport,
}

/// Samples of a track and where they belong. What lies between two of them is silence, whether the sender paused or nothing
/// came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedRun {
    /// The first sample's place on the recording's clock.
    pub at: SampleIndex,
    /// The samples.
    pub samples: Vec<i16>,
    /// Decoded, recovered or concealed.
    pub kind: FrameKind,
    /// What the place was taken from.
    pub placed_by: PlacedBy,
}

/// What became of a track's packets, and how it is placed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TimelineCounts {
    /// Of the packets.
    pub packets: PacketCounts,
    /// What was recovered from copies in later packets (FEC).
    pub recovered_ms: f64,
    /// What was made up.
    pub concealed_ms: f64,
    /// Sender reports of the track.
    pub reports: u64,
    /// How often the track was moved.
    pub moves: u64,
    /// By how much in all, later being positive.
    pub moved_ms: f64,
    /// How far it is still from where it should be, later being positive.
    pub off_ms: f64,
}

/// Places the packets of one track.
#[derive(Debug)]
pub struct Timeline {
    rate: Rate,
    ticks_per_sample: i64,
    start: Instant,
    decoder: OpusDecoder,
    queue: ReorderQueue,
    background: Background,
    place: Option<Place>,
    report: Option<SenderReport>,
    /// Where the track has been filled up to, in samples.
    end: u64,
    runs: VecDeque<PlacedRun>,
    counts: TimelineCounts,
    recovered: i64,
    concealed: i64,
    moved: i64,
}

/// How a stream is placed.
#[derive(Debug)]
struct Place {
    /// The end of what was placed last, on the sender's clock.
    cursor: RtpTime,
    packet: i64,
    /// The recording's clock less the sender's, in ticks.
    offset: i64,
    /// How much it is to be changed by at the next silence.
    shift: i64,
    by: PlacedBy,
    /// What will be, once it is changed.
    next_by: PlacedBy,
    errors: VecDeque<i64>,
    since_look: u32,
    pause: bool,
}

impl Timeline {
    /// A track at `rate`, on a recording whose first sample is at `start`.
    ///
    /// # Errors
    /// [`OpusError::Library`] when there is no memory.
    pub fn new(rate: Rate, start: Instant) -> Result<Self, OpusError> {
        Ok(Self {
            rate,
            ticks_per_sample: i64::from(OPUS_CLOCK / rate.hz()),
            start,
            decoder: OpusDecoder::new(rate)?,
            queue: ReorderQueue::new(start, MOST_WAITING),
            background: Background::new(),
            place: None,
            report: None,
            end: 0,
            runs: VecDeque::new(),
            counts: TimelineCounts::default(),
            recovered: 0,
            concealed: 0,
            moved: 0,
        })
    }

    /// The track's rate.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// What became of everything so far.
    #[must_use]
    pub fn counts(&self) -> TimelineCounts {
        TimelineCounts {
            packets: self.queue.counts,
            recovered_ms: millis(self.recovered),
            concealed_ms: millis(self.concealed),
            moved_ms: millis(self.moved),
            off_ms: self.place.as_ref().map_or(0.0, |place| millis(place.shift)),
            ..self.counts
        }
    }

    /// What the track is placed by; none before its first packet is placed.
    #[must_use]
    pub fn placed_by(&self) -> Option<PlacedBy> {
        self.place.as_ref().map(|place| place.by)
    }

    /// When [`Self::pop`] may have something that it does not have now.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        if self.runs.is_empty() { self.queue.front().map(|front| front.arrival + REORDERING) } else { Some(self.start) }
    }

    /// Takes a packet that came at `arrival`.
    pub fn push(&mut self, arrival: Instant, packet: RtpAudio) {
        let before = self.queue.ssrc();
        if self.queue.push(arrival, packet, None) {
            // Its reports told of the time base before.
            self.report = self.report.filter(|report| Some(report.ssrc) != before);
        }
    }

    /// Takes a sender report. One of another stream than the track's is of no use, and one that is more than 5 s off tells
    /// another wall clock than the room's and is left out. All tracks whose reports tell the same
    /// wall clock must be given the same `clock`.
    pub fn report(&mut self, clock: &mut RoomClock, report: SenderReport) {
        if self.queue.ssrc() == Some(report.ssrc) {
            self.counts.reports += 1;
        }
        self.report = Some(report);
        self.heed(clock, report);
    }

    /// The next run, in their order on the recording. Ask until there is none; `clock` is the one of [`Self::report`].
    pub fn pop(&mut self, clock: &mut RoomClock, now: Instant) -> Option<PlacedRun> {
        while self.runs.is_empty() {
            let front = self.queue.front()?;
            if !self.queue.is_next() && front.arrival + REORDERING > now {
                return None;
            }
            self.place_front(clock);
        }
        self.runs.pop_front()
    }

    /// As [`Self::pop`], without waiting for anything: no packet will come any more.
    pub fn finish(&mut self, clock: &mut RoomClock) -> Option<PlacedRun> {
        while self.runs.is_empty() && self.queue.len() > 0 {
            self.place_front(clock);
        }
        self.runs.pop_front()
    }

    /// What a report says of the stream that is placed.
    fn heed(&mut self, clock: &mut RoomClock, report: SenderReport) {
        let Some(place) = self.place.as_mut().filter(|_| self.queue.is_current()) else { return };
        if self.queue.ssrc() != Some(report.ssrc) {
            return;
        }
        let time = report.time(place.cursor);
        // A report of before the stream's start says nothing of it.
        if time.since(place.cursor).unsigned_abs() > 60 * u64::from(OPUS_CLOCK) {
            return;
        }
        let here = (time.ticks() as i64).wrapping_add(place.offset);
        clock.set(report.ntp, here);
        let Some(there) = clock.place(report.ntp) else { return };
        let error = there.saturating_sub(here);
        if error.unsigned_abs() > MOST_OFF {
            return;
        }
        if place.next_by == PlacedBy::Arrival {
            (place.shift, place.next_by) = (error, PlacedBy::SenderReport);
            if error == 0 {
                place.by = PlacedBy::SenderReport;
            }
            return;
        }
        if place.errors.len() == REPORTS {
            place.errors.pop_front();
        }
        place.errors.push_back(error);
        let mut errors: Vec<i64> = place.errors.iter().copied().collect();
        errors.sort_unstable();
        let median = errors[errors.len() / 2];
        if place.shift == 0 && errors.len() == REPORTS && median.abs() > REPORTED_DRIFT {
            place.shift = median;
        }
    }

    /// Places the first packet that waits, and what is missing before it.
    fn place_front(&mut self, clock: &mut RoomClock) {
        if self.queue.is_at_start() {
            self.begin();
            if let Some(report) = self.report {
                self.heed(clock, report);
            }
        }
        let missing = self.queue.missing();
        let Some(packet) = self.queue.take() else { return };
        self.look_at_arrivals();
        if packet.ticks == 0 {
            return;
        }
        if missing > 0 {
            self.make_up(&packet, missing);
        }
        self.decode(&packet);
    }

    /// The stream of the first packet that waits begins.
    fn begin(&mut self) {
        self.queue.begin();
        let Some(packet) = self.queue.front() else { return };
        if self.place.is_some() {
            self.decoder.reset();
        }
        let arrival = signed_ticks(self.start, packet.arrival);
        // How much later than the quickest it came; a stream that ended already has been forgotten.
        let behind = if self.queue.is_current() { self.queue.delay().age(arrival, packet.time) } else { 0 };
        // The last of its samples was taken before it left.
        let offset = arrival.wrapping_sub(behind).wrapping_sub(packet.time.ticks() as i64).saturating_sub(packet.ticks);
        self.place = Some(Place {
            cursor: packet.time,
            packet: FRAME_TICKS,
            offset,
            shift: 0,
            by: PlacedBy::Arrival,
            next_by: PlacedBy::Arrival,
            errors: VecDeque::with_capacity(REPORTS),
            since_look: 0,
            pause: true,
        });
    }

    /// Without reports, the quickest packets of the last 10 s tell the drift.
    fn look_at_arrivals(&mut self) {
        let Some(place) = self.place.as_mut().filter(|_| self.queue.is_current()) else { return };
        place.since_look += 1;
        if place.next_by != PlacedBy::Arrival || place.since_look < ARRIVALS {
            return;
        }
        place.since_look = 0;
        let error = self.queue.delay().base().wrapping_sub(place.packet).wrapping_sub(place.offset);
        place.shift = if error.unsigned_abs() > ARRIVAL_DRIFT as u64 { error } else { 0 };
    }

    /// Fills the time of `missing` packets before `next`: the last from the copy in it, the others with concealment.
    fn make_up(&mut self, next: &Queued, missing: u64) {
        let Some(place) = &self.place else { return };
        let (from, gap, packet) = (place.cursor, next.time.since(place.cursor), place.packet);
        let lost = (missing.min(1_000) as i64).saturating_mul(packet).min(gap);
        if lost <= 0 || (place.pause && gap > lost) {
            return;
        }
        let fec = if carries_fec(&next.payload) { FRAME_TICKS.min(lost) } else { 0 };
        let mut made = 0;
        while made < (lost - fec).min(LONGEST_CONCEALED) {
            let part = FRAME_TICKS.min(lost - fec - made);
            let samples = self.make(part, |decoder, samples, out| decoder.conceal(samples, out));
            self.emit(from.plus(made), samples, FrameKind::Concealed);
            self.concealed += part;
            made += part;
        }
        if fec > 0 {
            let samples = self.make(fec, |decoder, samples, out| decoder.recover(&next.payload, samples, out));
            self.emit(next.time.plus(-fec), samples, FrameKind::Recovered);
            self.recovered += fec;
        }
        if let Some(place) = &mut self.place {
            place.cursor = if fec > 0 { next.time } else { from.plus(made) };
        }
    }

    fn make(
        &mut self,
        ticks: i64,
        make: impl FnOnce(&mut OpusDecoder, usize, &mut Vec<i16>) -> Result<usize, OpusError>,
    ) -> Vec<i16> {
        let wanted = (ticks / self.ticks_per_sample) as usize;
        let mut samples = Vec::with_capacity(wanted);
        // What cannot be made is a gap.
        if make(&mut self.decoder, wanted, &mut samples).is_err() {
            samples.clear();
        }
        samples.truncate(wanted);
        samples
    }

    fn decode(&mut self, packet: &Queued) {
        let mut samples = Vec::with_capacity((packet.ticks / self.ticks_per_sample) as usize);
        if self.decoder.decode(&packet.payload, &mut samples).is_err() {
            self.queue.counts.malformed += 1;
            samples.clear();
        }
        let quiet = self.background.hear(&samples) != Loudness::Sound || is_dtx(&packet.payload);
        let Some(place) = &mut self.place else { return };
        let gap = packet.time.since(place.cursor);
        self.moved += place.mend(gap, quiet, packet.ticks, &mut self.counts.moves);
        // Time stamps that overlap: what is there already stays.
        if gap < 0 {
            samples.drain(..((-(gap / self.ticks_per_sample)) as usize).min(samples.len()));
        }
        let from = packet.time.plus((-gap).clamp(0, packet.ticks));
        place.cursor = packet.time.plus(packet.ticks);
        place.packet = packet.ticks;
        place.pause = quiet;
        self.emit(from, samples, FrameKind::Decoded);
    }

    /// Puts samples whose first was taken at `from` of the sender's clock where they belong. What is before the recording's
    /// start, or where the track has been filled already, is left out.
    fn emit(&mut self, from: RtpTime, mut samples: Vec<i16>, kind: FrameKind) {
        let Some(place) = &self.place else { return };
        let at = (from.ticks() as i64).wrapping_add(place.offset).div_euclid(self.ticks_per_sample);
        let over = (self.end as i64).saturating_sub(at).max(0).min(samples.len() as i64) as usize;
        samples.drain(..over);
        let at = at.saturating_add(over as i64);
        if samples.is_empty() || at < 0 {
            return;
        }
        self.end = at as u64 + samples.len() as u64;
        self.runs.push_back(PlacedRun { at: SampleIndex::new(at as u64), samples, kind, placed_by: place.by });
    }
}

impl Place {
    /// Changes the offset where there is silence: a gap before the packet, or the packet itself. Gives by how much.
    fn mend(&mut self, gap: i64, quiet: bool, ticks: i64, moves: &mut u64) -> i64 {
        if self.shift == 0 || (gap <= 0 && !quiet) {
            return 0;
        }
        // Moving back takes time away: no more than the silence has.
        let room = gap.max(0).saturating_add(if quiet { ticks } else { 0 });
        let by = self.shift.max(-room);
        self.offset = self.offset.wrapping_add(by);
        self.shift -= by;
        if self.shift == 0 {
            *moves += 1;
            self.by = self.next_by;
            self.errors.clear();
        }
        by
    }
}

const _: () = assert!(FRAME.as_millis() as i64 * MILLISECOND == FRAME_TICKS);
