//! A room as a call's leg: one other participant, the *party*, is heard and spoken to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::party::{CHAT, FAREWELL, Parting, Party, TRANSCRIPTION};
use super::{Data, Room, RoomEvent};
use crate::audio::Rate;
use crate::audio::opus::{OpusEncoder, OpusError, OpusSettings};
use crate::call::{Abilities, Alarm, EndReason, Leg, LegCommand, LegEvent, LineCounts};
use crate::transport::CallerLeg;
use crate::transport::webrtc::{JitterBuffer, JitterCounts, JitterLimits, RtpTime};

/// The rate of rooms' audio: Opus at its full band.
pub(super) const RATE: Rate = Rate::HZ_48000;
/// What a room carries beside audio.
pub const ABILITIES: Abilities = Abilities {
    continuous_source: true,
    continuous_sink: true,
    dtmf: true,
    text: true,
    data: true,
    transcripts: true,
    ..Abilities::NONE
};
/// Lost packets are told of so often.
const LOSS_EVERY: Duration = Duration::from_secs(1);

/// A room in a call.
pub struct RoomLeg {
    party: Party,
    /// The track that is heard.
    track: Option<Arc<str>>,
    /// Our own track, once others can hear it.
    microphone: Option<String>,
    jitter: Option<JitterBuffer>,
    encoder: OpusEncoder,
    /// Samples sent so far: the RTP time of the next.
    sent: u64,
    /// Less than a frame, until there is more.
    waiting: Vec<i16>,
    /// When the next frame is due.
    alarm: Alarm,
    told: (Instant, JitterCounts),
    /// What the line did was told for the last time.
    told_line: bool,
    /// We hang up: what is still to be heard is not part of the call.
    hung_up: bool,
}

impl RoomLeg {
    /// A leg whose party is `party`.
    ///
    /// # Errors
    /// [`OpusError`] when there is no memory for the codec.
    pub(super) fn new(room: Room, via: String, party: String) -> Result<Self, OpusError> {
        // FEC as the field's clients send it. DTX, which they have too, takes steady tones and background noise for silence: what
        // a scripted caller plays would not arrive as it is recorded.
        let settings = OpusSettings::default();
        Ok(Self {
            party: Party::new(room, via, party),
            track: None,
            microphone: None,
            jitter: None,
            encoder: OpusEncoder::new(RATE, settings)?,
            sent: 0,
            waiting: Vec::new(),
            alarm: Alarm::new(),
            told: (Instant::now(), JitterCounts::default()),
            told_line: false,
            hung_up: false,
        })
    }

    /// What is done before the room is left.
    pub(super) fn before_the_end(&mut self, parting: Parting) {
        self.party.before_the_end(parting);
    }

    /// An event that comes before the party's own.
    pub(super) fn tell_first(&mut self, event: LegEvent) {
        self.party.events.push_front(event);
    }

    /// The room.
    pub(super) fn room(&mut self) -> &mut Room {
        &mut self.party.room
    }

    /// The other one in it.
    pub(super) fn party(&mut self) -> &mut Party {
        &mut self.party
    }

    /// The party is heard.
    pub(super) const fn hears(&self) -> bool {
        self.jitter.is_some()
    }

    /// The party's track is on its way.
    pub(super) const fn is_subscribed(&self) -> bool {
        self.track.is_some()
    }

    /// The id of our own track, once others can hear it.
    pub(super) fn microphone(&self) -> Option<&str> {
        self.microphone.as_deref()
    }

    /// Hangs up for this reason, if the room has not ended for another.
    pub(super) fn close(&mut self, reason: EndReason, detail: &str) {
        self.hung_up = true;
        self.party.close(reason, detail);
    }

    /// The room has ended.
    pub(super) const fn ended(&self) -> Option<&(EndReason, String)> {
        self.party.ended()
    }

    /// Takes what happens in the room.
    pub(super) fn take(&mut self, event: RoomEvent) {
        match event {
            RoomEvent::Subscribed { identity, track } => {
                if identity == self.party.identity && self.track.is_none() {
                    self.track = Some(track);
                }
            }
            RoomEvent::Rtp { track, arrived, packet } => {
                if self.track.as_ref() != Some(&track) {
                    return;
                }
                if self.jitter.is_none() {
                    self.jitter = JitterBuffer::new(RATE, JitterLimits::default(), arrived)
                        .inspect_err(|error| tracing::error!("the room cannot be heard: {error}"))
                        .ok();
                }
                if let Some(jitter) = &mut self.jitter {
                    jitter.push(arrived, packet);
                }
            }
            RoomEvent::MicrophoneReady { track } => self.microphone = Some(track),
            RoomEvent::Data { from, data: Data::Text { topic, text, .. } }
                if from == self.party.identity && topic == TRANSCRIPTION =>
            {
                if !self.party.tells && !text.is_empty() {
                    self.party.events.push_back(LegEvent::Transcript(text));
                }
            }
            RoomEvent::Data { from, data: Data::Text { topic, text, .. } } if from == self.party.identity && topic == CHAT => {
                self.party.events.push_back(LegEvent::Text(text));
            }
            event => {
                if let RoomEvent::Unpublished { track, .. } = &event
                    && self.track.as_deref() == Some(track.sid.as_str())
                {
                    self.track = None;
                }
                self.party.take(event);
            }
        }
    }

    /// Frames whose time has come.
    fn poll_audio(&mut self, cx: &mut Context<'_>) -> Option<LegEvent> {
        loop {
            let jitter = self.jitter.as_mut()?;
            if let Some(frame) = jitter.pop(Instant::now()) {
                return Some(LegEvent::Audio(frame.samples));
            }
            if self.alarm.poll_at(Some(jitter.next_wake().into()), cx).is_pending() {
                return None;
            }
        }
    }

    /// What was lost since it was last told.
    fn tell_losses(&mut self) {
        let Some(jitter) = self.jitter.as_ref().filter(|_| self.told.0.elapsed() >= LOSS_EVERY) else { return };
        let (counts, before) = (jitter.counts(), &self.told.1);
        let frames = counts.packets.lost.saturating_sub(before.packets.lost);
        if frames > 0 {
            let concealed = counts.frames_concealed.saturating_sub(before.frames_concealed);
            self.party.events.push_back(LegEvent::Lost { frames, concealed: concealed.min(frames) });
        }
        self.told = (Instant::now(), counts);
    }

    fn send_frame(&mut self, frame: &[i16]) {
        let time = RtpTime::new(self.sent);
        self.sent += frame.len() as u64;
        match self.encoder.encode(frame) {
            Ok(packet) if packet.dtx => {}
            // Until the connection stands, and while it is lost, there is nowhere to send it.
            Ok(packet) => drop(self.party.room.send_audio(time, level_dbov(frame), &packet.packet)),
            Err(error) => tracing::error!("audio for the room cannot be encoded: {error}"),
        }
    }

    /// Audio of any length, sent in frames of 20 ms.
    fn send_audio(&mut self, samples: &[i16]) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.extend_from_slice(samples);
        let whole = waiting.len() - waiting.len() % RATE.frame_len();
        waiting[..whole].chunks(RATE.frame_len()).for_each(|frame| self.send_frame(frame));
        waiting.drain(..whole);
        self.waiting = waiting;
    }

    /// What the line did until the call was over: once.
    fn last_line(&mut self) -> Option<LegEvent> {
        if std::mem::replace(&mut self.told_line, true) { None } else { self.line() }
    }

    /// What the line did, so far.
    fn line(&self) -> Option<LegEvent> {
        let counts = self.jitter.as_ref()?.counts();
        Some(LegEvent::Line(LineCounts {
            received: counts.packets.received,
            lost: counts.packets.lost,
            late: counts.packets.late,
            duplicate: counts.packets.duplicate,
            recovered: counts.frames_recovered,
            concealed: counts.frames_concealed,
            resyncs: counts.packets.resyncs,
            jitter_ms: counts.jitter_ms,
            mean_depth_ms: counts.mean_depth_ms,
            max_depth_ms: counts.max_depth_ms,
            inserted_ms: counts.inserted_ms,
            left_out_ms: counts.left_out_ms,
        }))
    }
}

impl Leg for RoomLeg {
    fn rate(&self) -> Rate {
        RATE
    }

    fn abilities(&self) -> Abilities {
        ABILITIES
    }

    fn via(&self) -> String {
        self.party.via()
    }

    fn farewell(&self) -> Duration {
        FAREWELL
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        loop {
            self.tell_losses();
            self.party.mind_missing();
            if let Some(event) = self.party.events.pop_front() {
                return Poll::Ready(event);
            }
            let heard_out = self.hung_up || self.jitter.as_ref().is_none_or(|jitter| jitter.waiting() == 0);
            if self.ended().is_some() && heard_out {
                return match self.last_line() {
                    Some(line) => Poll::Ready(line),
                    None => self.party.poll_end(cx),
                };
            }
            if let Some(audio) = self.poll_audio(cx) {
                return Poll::Ready(audio);
            }
            match self.party.room.poll_event(cx) {
                Poll::Ready(event) => self.take(event),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn command(&mut self, command: LegCommand<'_>) {
        match command {
            LegCommand::Audio(samples) => self.send_audio(samples),
            LegCommand::Dtmf(digit) => drop(self.party.room.send_dtmf(digit)),
            LegCommand::Text(text) => self.party.room.send_text(&[], CHAT, text, &BTreeMap::new()),
            LegCommand::Data(data) => self.party.room.send_packet(&[], None, data.to_string().as_bytes(), true),
            LegCommand::Hangup(_) => {
                self.close(EndReason::HungUp, "");
            }
            _ => {}
        }
    }
}

impl CallerLeg for RoomLeg {
    fn fail(&mut self, detail: &str) {
        self.close(EndReason::ConnectionLost, detail);
    }

    /// A room's events have no place in its audio: none has to be moved.
    fn resume(&mut self, mut kept: VecDeque<LegEvent>, _skipped: u64) {
        kept.append(&mut self.party.events);
        self.party.events = kept;
    }
}

/// The level of a frame in dBov, as RFC 6464 has it: 0 is the loudest, -127 silence.
fn level_dbov(samples: &[i16]) -> i8 {
    let energy: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    let rms = (energy / samples.len().max(1) as f64).sqrt() / 32_768.0;
    if rms <= 0.0 { -127 } else { (20.0 * rms.log10()).clamp(-127.0, 0.0).round() as i8 }
}
