//! A chat in a room as a call's leg.

use std::collections::BTreeMap;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use livekit_protocol::agent::agent_session_message::Message;
use prost::Message as _;
use tokio::time::Instant;

use super::ABILITIES;
use super::segments::Segments;
use crate::audio::Rate;
use crate::call::{Abilities, Alarm, EndReason, Leg, LegCommand, LegEvent};
use crate::transport::livekit::party::{CHAT, FAREWELL, Party, SESSION, STATE, TRANSCRIPTION};
use crate::transport::livekit::{Data, RoomEvent, session};

/// From our hang-up to our leaving: the last message is on its way (as in Cekura's chats, 1 s).
const LINGER: Duration = Duration::from_secs(1);
/// A chat has no audio; a leg must name a rate all the same.
const NO_RATE: Rate = Rate::HZ_8000;

/// The fault of an agent that writes where nobody reads.
const ON_CHAT: &str = "ANSWER_ON_LK_CHAT";
/// The fault of an agent that wrote before its caller came.
const TO_NOBODY: &str = "SAID_TO_NOBODY";
/// Names our request for what was said before we came.
const HISTORY: &str = "trunkline-history";

/// A chat with the agent of a room.
pub struct RoomChat {
    party: Party,
    segments: Segments,
    /// The agent has written something.
    heard: bool,
    /// The server has told everybody of us.
    introduced: bool,
    /// When we came, in seconds since 1970.
    came: i64,
    /// We have hung up and leave at this time, for this reason.
    leaving: Option<(Instant, EndReason)>,
    /// When the next thing is due.
    alarm: Alarm,
}

impl RoomChat {
    pub(in crate::transport::livekit) fn new(mut party: Party) -> Self {
        // What it has told before we came is told to nobody again.
        let attributes = party.room.participant(&party.identity).map(|agent| &agent.attributes);
        if let Some(state) = attributes.and_then(|attributes| attributes.get(STATE)) {
            party.session.attribute(state, &mut party.events);
        }
        let (segments, alarm) = (Segments::default(), Alarm::new());
        Self { party, segments, heard: false, introduced: false, came: seconds_since_1970(), leaving: None, alarm }
    }

    pub(in crate::transport::livekit) fn party(&mut self) -> &mut Party {
        &mut self.party
    }

    /// The agent reads what is written to it, as its state says; none: it tells no state.
    pub(in crate::transport::livekit) fn is_ready(&self) -> Option<bool> {
        if self.heard { Some(true) } else { self.party.session.is_told().then(|| self.party.session.has_begun()) }
    }

    /// The server has told everybody of us, as far as it was asked to.
    pub(in crate::transport::livekit) const fn is_introduced(&self) -> bool {
        self.introduced
    }

    /// Asks an agent that was in the room before us what it has said so far: an agent in text mode that greets before its caller has
    /// come waits for an answer that cannot come.
    pub(in crate::transport::livekit) fn ask_for_history(&mut self) {
        let request = session::ask_for_history(HISTORY).encode_to_vec();
        self.party.room.send_bytes(std::slice::from_ref(&self.party.identity), SESSION, &request);
    }

    /// Takes what happens in the room.
    pub(in crate::transport::livekit) fn take(&mut self, event: RoomEvent) {
        match event {
            RoomEvent::Data { from, data: Data::Text { topic, text, attributes } }
                if from == self.party.identity && topic == TRANSCRIPTION =>
            {
                self.heard = true;
                self.segments.take(Instant::now(), text, &attributes, &mut self.party.events);
            }
            RoomEvent::Data { from, data: Data::Text { topic, .. } } if from == self.party.identity && topic == CHAT => {
                let detail =
                    format!("the agent writes on {CHAT}, where only the caller does: an answer is a stream of {TRANSCRIPTION}");
                self.party.events.push_back(LegEvent::Fault { code: ON_CHAT.to_owned(), detail });
            }
            RoomEvent::DataReady => self.introduce(),
            RoomEvent::Data { from, data: Data::Bytes { topic, bytes, attributes } } if topic == SESSION => {
                match session::decode(&bytes).map(|read| read.message) {
                    Ok(Some(Message::Response(response))) if response.request_id == HISTORY => {
                        self.take_history(&session::said_before(&response).unwrap_or_default());
                    }
                    _ => self.take_other(RoomEvent::Data { from, data: Data::Bytes { topic, bytes, attributes } }),
                }
            }
            event => self.take_other(event),
        }
        if self.party.session.is_listening() {
            self.segments.settle(&mut self.party.events);
        }
    }

    /// Has the server tell everybody of us at once, if the token allows it. Of somebody who publishes no track it tells only every
    /// 3 s (livekit-server's `pkg/rtc/room.go`), but of changed attributes immediately; and agents take no message of somebody whom
    /// they do not know.
    fn introduce(&mut self) {
        if self.party.room.may_set_attributes() {
            self.party.room.set_attributes(&BTreeMap::from([("trunkline".to_owned(), "caller".to_owned())]));
            self.introduced = true;
        }
    }

    /// What the agent said before we came we have not read, whatever it has said since.
    fn take_history(&mut self, said: &[(i64, String)]) {
        for (_, text) in said.iter().filter(|(at, text)| *at < self.came && !self.segments.have_told(text)) {
            let detail = format!("the agent wrote before its caller was there to read it: {text:?}");
            self.party.events.push_back(LegEvent::Fault { code: TO_NOBODY.to_owned(), detail });
        }
    }

    /// The session repeats the agent's messages, which the transcriptions have, as words of its speech.
    fn take_other(&mut self, event: RoomEvent) {
        let before = self.party.events.len();
        self.party.take(event);
        let told = self.party.events.split_off(before);
        self.party.events.extend(told.into_iter().filter(|event| !matches!(event, LegEvent::Transcript(_))));
    }

    /// Does what is due. True: something was done.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> bool {
        let now = Instant::now();
        if let Some((at, reason)) = self.leaving
            && now >= at
        {
            self.party.close(reason, "");
            return true;
        }
        if self.segments.advance(now, &mut self.party.events) {
            return true;
        }
        let wake = self.leaving.map(|(at, _)| at).into_iter().chain(self.segments.next_wake()).min();
        self.alarm.poll_at(wake, cx).is_ready()
    }
}

impl Leg for RoomChat {
    fn rate(&self) -> Rate {
        NO_RATE
    }

    fn abilities(&self) -> Abilities {
        ABILITIES
    }

    fn via(&self) -> String {
        self.party.via()
    }

    fn farewell(&self) -> Duration {
        LINGER + FAREWELL
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        loop {
            self.party.mind_missing();
            if self.party.ended().is_some() {
                self.segments.settle(&mut self.party.events);
            }
            if let Some(event) = self.party.events.pop_front() {
                return Poll::Ready(event);
            }
            if self.party.ended().is_some() {
                return self.party.poll_end(cx);
            }
            match self.party.room.poll_event(cx) {
                Poll::Ready(event) => self.take(event),
                Poll::Pending if self.poll_due(cx) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn command(&mut self, command: LegCommand<'_>) {
        if self.leaving.is_some() {
            return;
        }
        match command {
            LegCommand::Text(text) => self.party.room.send_text(&[], CHAT, text, &BTreeMap::new()),
            LegCommand::Data(data) => self.party.room.send_packet(&[], None, data.to_string().as_bytes(), true),
            LegCommand::Hangup(reason) => self.leaving = Some((Instant::now() + LINGER, reason)),
            _ => {}
        }
    }
}

fn seconds_since_1970() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
