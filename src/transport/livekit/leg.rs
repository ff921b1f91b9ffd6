//! A room as a call's leg: one other participant, the *party*, is heard and spoken to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::party::{CHAT, FAREWELL, Parting, Party, TRANSCRIPTION};
use super::{Data, Room, RoomEvent};
use crate::audio::Rate;
use crate::audio::opus::OpusError;
use crate::call::{Abilities, EndReason, Leg, LegCommand, LegEvent};
use crate::transport::CallerLeg;
use crate::transport::webrtc::Voice;

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

/// A room in a call.
pub struct RoomLeg {
    party: Party,
    /// The track that is heard.
    track: Option<Arc<str>>,
    /// Our own track, once others can hear it.
    microphone: Option<String>,
    voice: Voice,
    /// We hang up: what is still to be heard is not part of the call.
    hung_up: bool,
}

impl RoomLeg {
    /// A leg whose party is `party`.
    ///
    /// # Errors
    /// [`OpusError`] when there is no memory for the codec.
    pub(super) fn new(room: Room, via: String, party: String) -> Result<Self, OpusError> {
        Ok(Self { party: Party::new(room, via, party), track: None, microphone: None, voice: Voice::new()?, hung_up: false })
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
        self.voice.hears()
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
                self.voice.receive(arrived, packet);
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
}

impl Leg for RoomLeg {
    fn rate(&self) -> Rate {
        Voice::RATE
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
            self.party.events.extend(self.voice.losses());
            self.party.mind_missing();
            if let Some(event) = self.party.events.pop_front() {
                return Poll::Ready(event);
            }
            if self.ended().is_some() && (self.hung_up || self.voice.is_heard_out()) {
                return match self.voice.last_line() {
                    Some(line) => Poll::Ready(line),
                    None => self.party.poll_end(cx),
                };
            }
            if let Some(audio) = self.voice.poll_audio(cx) {
                return Poll::Ready(LegEvent::Audio(audio));
            }
            match self.party.room.poll_event(cx) {
                Poll::Ready(event) => self.take(event),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn command(&mut self, command: LegCommand<'_>) {
        match command {
            // Until the connection stands, and while it is lost, there is nowhere to send it.
            LegCommand::Audio(samples) => {
                let room = &mut self.party.room;
                self.voice.send(samples, |time, level, packet| {
                    room.send_audio(time, level, packet);
                });
            }
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
