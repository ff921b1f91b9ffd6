//! A room as a call's leg: one other participant, the *party*, is heard and spoken to.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use livekit_protocol::agent::agent_session_message::Message;
use serde_json::json;
use tokio::time::Sleep;

use super::session::{self, AgentSession};
use super::{Data, Disconnect, Room, RoomEvent, Server};
use crate::audio::Rate;
use crate::audio::opus::{OpusEncoder, OpusError, OpusSettings};
use crate::call::{Abilities, EndReason, Leg, LegCommand, LegEvent, LineCounts};
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
/// The topic of what is typed.
pub(super) const CHAT: &str = "lk.chat";
/// The topic of what was said, as the agent understood or spoke it.
pub(super) const TRANSCRIPTION: &str = "lk.transcription";
/// The topic of the agent's session.
const SESSION: &str = "lk.agent.session";
/// The attribute of the agent's state.
const STATE: &str = "lk.agent.state";
/// Lost packets are told of so often.
const LOSS_EVERY: Duration = Duration::from_secs(1);
/// How long leaving may take, with the room's end.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long a party may take to come back after the server was restarted, or the connection to it lost: the official clients
/// try for about 40 s.
const RETURN_TIME: Duration = Duration::from_secs(45);
/// Until the timer has something to wait for.
const LONG: Duration = Duration::from_secs(3600);

/// What is to be done when the call is over.
pub(super) type Cleanup = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A room in a call.
pub struct RoomLeg {
    room: Room,
    via: String,
    party: String,
    /// The track that is heard.
    track: Option<Arc<str>>,
    jitter: Option<JitterBuffer>,
    encoder: OpusEncoder,
    /// Samples sent so far: the RTP time of the next.
    sent: u64,
    /// Less than a frame, until there is more.
    waiting: Vec<i16>,
    session: AgentSession,
    /// The agent tells its session: what it says need not be taken from transcriptions.
    tells: bool,
    alarm: Pin<Box<Sleep>>,
    events: VecDeque<LegEvent>,
    told: (Instant, JitterCounts),
    cleanup: Option<Cleanup>,
    /// When the connection to the server last broke.
    shaken: Option<Instant>,
    /// Since when the party has not come back after that.
    missing: Option<Instant>,
    end: Option<(EndReason, String)>,
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
            room,
            via,
            party,
            track: None,
            jitter: None,
            encoder: OpusEncoder::new(RATE, settings)?,
            sent: 0,
            waiting: Vec::new(),
            session: AgentSession::default(),
            tells: false,
            alarm: Box::pin(tokio::time::sleep(LONG)),
            events: VecDeque::new(),
            told: (Instant::now(), JitterCounts::default()),
            cleanup: None,
            shaken: None,
            missing: None,
            end: None,
            hung_up: false,
        })
    }

    /// What is done once the room is left.
    pub(super) fn at_the_end(&mut self, cleanup: Cleanup) {
        self.cleanup = Some(cleanup);
    }

    /// An event that comes before the party's own.
    pub(super) fn tell_first(&mut self, event: LegEvent) {
        self.events.push_front(event);
    }

    /// The room.
    pub(super) fn room(&mut self) -> &mut Room {
        &mut self.room
    }

    /// The party is heard.
    pub(super) const fn hears(&self) -> bool {
        self.jitter.is_some()
    }

    /// The party's track is on its way.
    pub(super) const fn is_subscribed(&self) -> bool {
        self.track.is_some()
    }

    /// The room has ended.
    pub(super) const fn ended(&self) -> Option<&(EndReason, String)> {
        self.end.as_ref()
    }

    /// Takes what happens in the room.
    pub(super) fn take(&mut self, event: RoomEvent) {
        match event {
            RoomEvent::Subscribed { identity, track } if identity == self.party && self.track.is_none() => {
                self.track = Some(track);
            }
            RoomEvent::Rtp { track, arrived, packet } if self.track.as_ref() == Some(&track) => {
                if self.jitter.is_none() {
                    self.jitter = JitterBuffer::new(RATE, JitterLimits::default(), arrived)
                        .inspect_err(|error| tracing::error!("the room cannot be heard: {error}"))
                        .ok();
                }
                if let Some(jitter) = &mut self.jitter {
                    jitter.push(arrived, packet);
                }
            }
            RoomEvent::Unpublished { identity, track } if identity == self.party => {
                if self.track.as_deref() == Some(track.sid.as_str()) {
                    self.track = None;
                }
                self.note("track_unpublished", json!({"name": track.name}));
            }
            RoomEvent::Muted { identity, muted, .. } if identity == self.party => {
                self.note(if muted { "muted" } else { "unmuted" }, json!({}));
            }
            RoomEvent::Attributes { identity, changed } if identity == self.party => {
                if let Some(state) = changed.get(STATE) {
                    self.session.attribute(state, &mut self.events);
                }
            }
            RoomEvent::Metadata { identity } if identity == self.party => {
                if let Some(party) = self.room.participant(&identity) {
                    let metadata = json!({"name": party.name, "metadata": party.metadata});
                    self.events.push_back(LegEvent::Metadata(metadata));
                }
            }
            RoomEvent::Data { from, data } if from == self.party => self.take_data(data),
            RoomEvent::Data { from, data } => self.take_others_data(&from, data),
            RoomEvent::BadData { from, error } => {
                self.events.push_back(LegEvent::Fault { code: "BAD_DATA".to_owned(), detail: format!("{from}: {error}") });
            }
            RoomEvent::Left { identity, reason } if identity == self.party => self.party_left(reason),
            RoomEvent::Joined(participant) if participant.identity == self.party => self.missing = None,
            RoomEvent::Reconnecting { reason } => {
                self.shaken = Some(Instant::now());
                self.events.push_back(LegEvent::Fault { code: "LIVEKIT_RECONNECTING".to_owned(), detail: reason });
            }
            RoomEvent::Reconnected { anew } => self.note("reconnected", json!({"anew": anew})),
            RoomEvent::Disconnected { reason, detail } => self.disconnected(reason, &detail),
            _ => {}
        }
    }

    fn note(&mut self, kind: &str, more: serde_json::Value) {
        let mut data = json!({ "livekit": kind });
        if let (Some(data), serde_json::Value::Object(more)) = (data.as_object_mut(), more) {
            data.extend(more);
        }
        self.events.push_back(LegEvent::Data(data));
    }

    fn take_data(&mut self, data: Data) {
        match data {
            Data::Bytes { topic, bytes, .. } if topic == SESSION => match session::decode(&bytes).map(|read| read.message) {
                Ok(Some(Message::Event(event))) => {
                    self.tells = true;
                    self.session.event(&event, &mut self.events);
                }
                Ok(Some(Message::Response(response))) => self.session.response(&response, &mut self.events),
                Ok(_) => {}
                Err(detail) => self.events.push_back(LegEvent::Fault { code: "BAD_SESSION".to_owned(), detail }),
            },
            Data::Text { topic, text, .. } if topic == TRANSCRIPTION => {
                if !self.tells && !text.is_empty() {
                    self.events.push_back(LegEvent::Transcript(text));
                }
            }
            Data::Text { topic, text, .. } if topic == CHAT => self.events.push_back(LegEvent::Text(text)),
            Data::Text { topic, text, .. } => self.note("text_stream", json!({"topic": topic, "text": text})),
            Data::Bytes { topic, bytes, .. } => self.note("byte_stream", json!({"topic": topic, "bytes": bytes.len()})),
            Data::Packet { topic, payload } => {
                let text = || serde_json::Value::from(String::from_utf8_lossy(&payload));
                let value: serde_json::Value = serde_json::from_slice(&payload).unwrap_or_else(|_| text());
                self.note("packet", json!({"topic": topic, "data": value}));
            }
            Data::Dtmf(digit) => self.events.push_back(LegEvent::Dtmf(digit)),
            Data::RpcRequest { id, method, payload } => {
                self.note("rpc", json!({"method": method, "payload": payload}));
                let to = self.party.clone();
                // The SDKs' code for a method that nobody has registered.
                self.room.answer_method(&to, &id, Err((1400, "Method not supported at destination")));
            }
            Data::RpcResponse { .. } => {}
        }
    }

    /// Of the others only what the agent says in our name counts: what it understood of us.
    fn take_others_data(&mut self, from: &str, data: Data) {
        if let Data::Text { topic, text, attributes } = data
            && topic == TRANSCRIPTION
            && from == self.room.local().identity
            && !self.tells
            && attributes.get("lk.transcription_final").is_some_and(|is_final| is_final == "true")
        {
            self.note("heard", json!({ "text": text }));
        }
    }

    fn party_left(&mut self, reason: Disconnect) {
        // After a restart of the server each participant finds its own way back.
        if reason == Disconnect::ConnectionLost && self.shaken.is_some_and(|since| since.elapsed() < RETURN_TIME) {
            self.missing = Some(Instant::now());
            return;
        }
        self.end_with(reason);
    }

    /// The party has not come back in time.
    fn mind_missing(&mut self) {
        if self.missing.is_some_and(|since| since.elapsed() >= RETURN_TIME) {
            self.missing = None;
            self.end_with(Disconnect::ConnectionLost);
        }
    }

    fn end_with(&mut self, reason: Disconnect) {
        let reason = match reason {
            Disconnect::Left | Disconnect::Removed | Disconnect::RoomDeleted | Disconnect::RoomClosed => {
                (EndReason::HungUp, format!("{} {reason}", self.party))
            }
            _ => (EndReason::ConnectionLost, format!("{}: {reason}", self.party)),
        };
        self.end.get_or_insert(reason);
        self.events.extend(self.line());
        self.room.leave();
    }

    fn disconnected(&mut self, reason: Disconnect, detail: &str) {
        let end = match reason {
            Disconnect::Left => EndReason::HungUp,
            Disconnect::RoomDeleted | Disconnect::Removed | Disconnect::RoomClosed => EndReason::HungUp,
            _ => EndReason::ConnectionLost,
        };
        let detail = if detail.is_empty() { reason.to_string() } else { format!("{reason}: {detail}") };
        self.end.get_or_insert((end, detail));
    }

    /// Frames whose time has come.
    fn poll_audio(&mut self, cx: &mut Context<'_>) -> Option<LegEvent> {
        loop {
            let jitter = self.jitter.as_mut()?;
            if let Some(frame) = jitter.pop(Instant::now()) {
                return Some(LegEvent::Audio(frame.samples));
            }
            let at = jitter.next_wake().into();
            if self.alarm.deadline() != at {
                self.alarm.as_mut().reset(at);
            }
            if self.alarm.as_mut().poll(cx).is_pending() {
                return None;
            }
        }
    }

    /// What was lost since it was last told.
    fn tell_losses(&mut self) {
        let Some(jitter) = self.jitter.as_ref().filter(|_| self.told.0.elapsed() >= LOSS_EVERY) else { return };
        let (counts, before) = (jitter.counts(), &self.told.1);
        let frames = counts.lost.saturating_sub(before.lost);
        if frames > 0 {
            let concealed = counts.frames_concealed.saturating_sub(before.frames_concealed);
            self.events.push_back(LegEvent::Lost { frames, concealed: concealed.min(frames) });
        }
        self.told = (Instant::now(), counts);
    }

    fn send_frame(&mut self, frame: &[i16]) {
        let time = RtpTime::new(self.sent);
        self.sent += frame.len() as u64;
        match self.encoder.encode(frame) {
            Ok(packet) if packet.dtx => {}
            // Until the connection stands, and while it is lost, there is nowhere to send it.
            Ok(packet) => drop(self.room.send_audio(time, level_dbov(frame), &packet.packet)),
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

    /// What the line did, so far.
    fn line(&self) -> Option<LegEvent> {
        let counts = self.jitter.as_ref()?.counts();
        Some(LegEvent::Line(LineCounts {
            received: counts.received,
            lost: counts.lost,
            late: counts.late,
            duplicate: counts.duplicate,
            recovered: counts.frames_recovered,
            concealed: counts.frames_concealed,
            resyncs: counts.resyncs,
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
        self.via.clone()
    }

    fn farewell(&self) -> Duration {
        FAREWELL
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        loop {
            self.tell_losses();
            self.mind_missing();
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            let heard_out = self.hung_up || self.jitter.as_ref().is_none_or(|jitter| jitter.waiting() == 0);
            if self.end.is_some() && heard_out {
                return self.poll_end(cx);
            }
            if let Some(audio) = self.poll_audio(cx) {
                return Poll::Ready(audio);
            }
            match self.room.poll_event(cx) {
                Poll::Ready(event) => self.take(event),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn command(&mut self, command: LegCommand<'_>) {
        match command {
            LegCommand::Audio(samples) => self.send_audio(samples),
            LegCommand::Dtmf(digit) => drop(self.room.send_dtmf(digit)),
            LegCommand::Text(text) => self.room.send_text(&[], CHAT, text, &BTreeMap::new()),
            LegCommand::Data(data) => self.room.send_packet(&[], None, data.to_string().as_bytes(), true),
            LegCommand::Hangup(_) => {
                self.events.extend(self.line());
                self.hung_up = true;
                self.end.get_or_insert((EndReason::HungUp, String::new()));
                self.room.leave();
            }
            _ => {}
        }
    }
}

impl RoomLeg {
    /// The room is left and, where it is ours, ended; then the leg is gone.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        self.room.leave();
        while !self.room.is_over() {
            match self.room.poll_event(cx) {
                Poll::Ready(_) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
        if let Some(cleanup) = &mut self.cleanup {
            std::task::ready!(cleanup.as_mut().poll(cx));
            self.cleanup = None;
        }
        let (reason, detail) = self.end.clone().unwrap_or((EndReason::HungUp, String::new()));
        Poll::Ready(LegEvent::Hangup { reason, detail })
    }
}

/// The level of a frame in dBov, as RFC 6464 has it: 0 is the loudest, -127 silence.
fn level_dbov(samples: &[i16]) -> i8 {
    let energy: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    let rms = (energy / samples.len().max(1) as f64).sqrt() / 32_768.0;
    if rms <= 0.0 { -127 } else { (20.0 * rms.log10()).clamp(-127.0, 0.0).round() as i8 }
}

/// Ends a room that we made, once we are out of it.
pub(super) fn delete_room(server: Server, room: String) -> Cleanup {
    Box::pin(async move {
        match server.delete_room(&room).await {
            Ok(()) => {}
            // Somebody was faster.
            Err(error) if error.is_not_found() => {}
            Err(error) => tracing::warn!(room, "the room is still there: {error}"),
        }
    })
}
