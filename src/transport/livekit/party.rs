//! The other participant of a call's room, the *party*: what it tells beside its audio or its words, how it comes and goes, and
//! how the room is left. The legs over rooms have it in common.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use livekit_protocol::agent::agent_session_message::Message;
use serde_json::json;

use super::session::{self, AgentSession};
use super::{Data, Disconnect, Room, RoomEvent, Server};
use crate::call::{EndReason, LegEvent};

/// The topic of what is typed.
pub(super) const CHAT: &str = "lk.chat";
/// The topic of what was said, as the agent understood or spoke it.
pub(super) const TRANSCRIPTION: &str = "lk.transcription";
/// The attribute of a transcription that is the last word on its segment.
pub(super) const FINAL: &str = "lk.transcription_final";
/// The attribute of the agent's state.
pub(super) const STATE: &str = "lk.agent.state";
/// The topic of the agent's session.
pub(super) const SESSION: &str = "lk.agent.session";
/// How long leaving may take, with the room's end.
pub(super) const FAREWELL: Duration = Duration::from_secs(5);
/// How long a party may take to come back after the server was restarted, or the connection to it lost: the official clients
/// try for about 40 s.
const RETURN_TIME: Duration = Duration::from_secs(45);

/// What is to be done when the call is over.
pub(super) type Cleanup = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is to be done when the call is over, before the room is left: it is told why.
pub(super) type Parting = Box<dyn FnOnce(EndReason, &str) -> Cleanup + Send>;

/// A room, and the participant in it that the call is with.
pub(super) struct Party {
    pub(super) room: Room,
    pub(super) identity: String,
    pub(super) session: AgentSession,
    /// The agent tells its session: what it says need not be taken from transcriptions.
    pub(super) tells: bool,
    /// Events of the leg that nobody has asked for yet.
    pub(super) events: VecDeque<LegEvent>,
    via: String,
    parting: Option<Parting>,
    /// What is done before the room is left.
    last: Option<Cleanup>,
    cleanup: Option<Cleanup>,
    /// When the connection to the server last broke.
    shaken: Option<Instant>,
    /// Since when the party has not come back after that.
    missing: Option<Instant>,
    end: Option<(EndReason, String)>,
}

impl Party {
    /// The participant `identity` of `room`.
    pub(super) fn new(room: Room, via: String, identity: String) -> Self {
        Self {
            room,
            identity,
            session: AgentSession::default(),
            tells: false,
            events: VecDeque::new(),
            via,
            parting: None,
            last: None,
            cleanup: None,
            shaken: None,
            missing: None,
            end: None,
        }
    }

    /// What the party is, for `call.json`.
    pub(super) fn via(&self) -> String {
        self.via.clone()
    }

    /// What is done before the room is left.
    pub(super) fn before_the_end(&mut self, parting: Parting) {
        self.parting = Some(parting);
    }

    /// What is done once the room is left.
    pub(super) fn at_the_end(&mut self, cleanup: Cleanup) {
        self.cleanup = Some(cleanup);
    }

    /// Ends the call for this reason, if it has not ended for another.
    pub(super) fn close(&mut self, reason: EndReason, detail: &str) {
        self.end.get_or_insert_with(|| (reason, detail.to_owned()));
    }

    /// How the call has ended; none while it goes on.
    pub(super) const fn ended(&self) -> Option<&(EndReason, String)> {
        self.end.as_ref()
    }

    /// Takes what happens in the room, but for the party's audio and its words, which are the leg's own affair.
    pub(super) fn take(&mut self, event: RoomEvent) {
        match event {
            RoomEvent::Unpublished { identity, track } if identity == self.identity => {
                self.note("track_unpublished", json!({"name": track.name}));
            }
            RoomEvent::Muted { identity, muted, .. } if identity == self.identity => {
                self.note(if muted { "muted" } else { "unmuted" }, json!({}));
            }
            RoomEvent::Attributes { identity, changed } if identity == self.identity => {
                if let Some(state) = changed.get(STATE) {
                    self.session.attribute(state, &mut self.events);
                }
            }
            RoomEvent::Metadata { identity } if identity == self.identity => {
                if let Some(party) = self.room.participant(&identity) {
                    let metadata = json!({"name": party.name, "metadata": party.metadata});
                    self.events.push_back(LegEvent::Metadata(metadata));
                }
            }
            RoomEvent::Data { from, data } if from == self.identity => self.take_data(data),
            RoomEvent::Data { from, data } => self.take_others_data(&from, data),
            RoomEvent::BadData { from, error } => {
                self.events.push_back(LegEvent::Fault { code: "BAD_DATA".to_owned(), detail: format!("{from}: {error}") });
            }
            RoomEvent::Left { identity, reason } if identity == self.identity => self.left(reason),
            RoomEvent::Joined(participant) if participant.identity == self.identity => self.missing = None,
            RoomEvent::Reconnecting { reason } => {
                self.shaken = Some(Instant::now());
                self.events.push_back(LegEvent::Fault { code: "LIVEKIT_RECONNECTING".to_owned(), detail: reason });
            }
            RoomEvent::Reconnected { anew } => self.note("reconnected", json!({"anew": anew})),
            RoomEvent::Disconnected { reason, detail } => self.disconnected(reason, &detail),
            _ => {}
        }
    }

    /// As data that the agent sends: `{"livekit": kind, …}`.
    fn say(&mut self, kind: &str, more: serde_json::Value) {
        self.events.push_back(LegEvent::Data(session::of_kind(kind, more)));
    }

    /// As a note on the call: the same.
    pub(super) fn note(&mut self, kind: &str, more: serde_json::Value) {
        self.events.push_back(LegEvent::Note(session::of_kind(kind, more)));
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
            Data::Text { topic, text, .. } => self.say("text_stream", json!({"topic": topic, "text": text})),
            Data::Bytes { topic, bytes, .. } => self.say("byte_stream", json!({"topic": topic, "bytes": bytes.len()})),
            Data::Packet { topic, payload } => {
                let text = || serde_json::Value::from(String::from_utf8_lossy(&payload));
                let value: serde_json::Value = serde_json::from_slice(&payload).unwrap_or_else(|_| text());
                self.say("packet", json!({"topic": topic, "data": value}));
            }
            Data::Dtmf(digit) => self.events.push_back(LegEvent::Dtmf(digit)),
            Data::RpcRequest { id, method, payload } => {
                self.say("rpc", json!({"method": method, "payload": payload}));
                let to = self.identity.clone();
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
            && attributes.get(FINAL).is_some_and(|is_final| is_final == "true")
        {
            self.say("heard", json!({ "text": text }));
        }
    }

    fn left(&mut self, reason: Disconnect) {
        // After a restart of the server each participant finds its own way back.
        if reason == Disconnect::ConnectionLost && self.shaken.is_some_and(|since| since.elapsed() < RETURN_TIME) {
            self.missing = Some(Instant::now());
            return;
        }
        self.end_with(reason);
    }

    /// Ends the call with a party that has not come back in time.
    pub(super) fn mind_missing(&mut self) {
        if self.missing.is_some_and(|since| since.elapsed() >= RETURN_TIME) {
            self.missing = None;
            self.end_with(Disconnect::ConnectionLost);
        }
    }

    fn end_with(&mut self, reason: Disconnect) {
        if reason.is_meant() {
            self.close(EndReason::HungUp, &format!("{} {reason}", self.identity));
        } else {
            self.close(EndReason::ConnectionLost, &format!("{}: {reason}", self.identity));
        }
    }

    fn disconnected(&mut self, reason: Disconnect, detail: &str) {
        let end = if reason.is_meant() { EndReason::HungUp } else { EndReason::ConnectionLost };
        let detail = if detail.is_empty() { reason.to_string() } else { format!("{reason}: {detail}") };
        self.close(end, &detail);
    }

    /// The room is left and, where it is ours, ended; then the leg is gone.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        if let (Some(parting), Some((reason, detail))) = (self.parting.take(), &self.end) {
            self.last = Some(parting(*reason, detail));
        }
        if let Some(last) = &mut self.last {
            std::task::ready!(last.as_mut().poll(cx));
            self.last = None;
        }
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

/// Ends a room that we made, once we are out of it.
pub(super) fn delete_room(server: Server, room: String) -> Cleanup {
    Box::pin(async move {
        if let Err(error) = server.delete_room(&room).await {
            tracing::warn!(room, "the room is still there: {error}");
        }
    })
}
