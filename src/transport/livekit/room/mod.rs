//! A room as one of its participants sees it: polled by whoever owns it, with two peer connections and the signalling channel.
//!
//! The server offers what we receive on the *subscriber* connection; what we send goes over the *publisher* connection, which
//! is there once there is something to send.

mod messages;
mod publisher;
mod recovery;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use livekit_protocol::{JoinResponse, LeaveRequest, UpdateParticipantMetadata, leave_request, signal_request};
use tokio::time::{Interval, MissedTickBehavior};
use url::Url;

use self::publisher::Publisher;
use self::recovery::Phase;
use super::data::{self, Streams};
use super::roster::{Change, Roster};
use super::signal::{Signal, Signalled};
use super::{Data, DataError, Disconnect, JoinError, Participant, Track, ice};
use crate::transport::webrtc::{IceOptions, Peer, PeerError, PeerEvent, PeerState, RtpAudio, RtpTime, SenderReport};

/// How often the health of the connections is looked at.
const WATCH: Duration = Duration::from_millis(500);

/// How to be in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomOptions {
    /// Every audio track is subscribed to as it appears; else only those of [`Room::subscribe`].
    pub subscribe: bool,
    /// Media goes over the server's TURN service or not at all.
    pub relay_only: bool,
}

impl Default for RoomOptions {
    fn default() -> Self {
        Self { subscribe: true, relay_only: false }
    }
}

/// What happens in a room.
#[derive(Debug)]
pub enum RoomEvent {
    /// Media can be received.
    Connected,
    /// Data of others can be received: what they send before that is lost.
    DataReady,
    /// Somebody has come, or was there already.
    Joined(Participant),
    /// Somebody has left.
    Left {
        /// Who.
        identity: String,
        /// Why.
        reason: Disconnect,
    },
    /// Somebody's metadata or name has changed: [`Room::participant`] has them.
    Metadata {
        /// Whose.
        identity: String,
    },
    /// Somebody's attributes have changed.
    Attributes {
        /// Whose.
        identity: String,
        /// The new values; an attribute that is gone is empty.
        changed: BTreeMap<String, String>,
    },
    /// The room's metadata has changed.
    RoomMetadata(String),
    /// A track is there.
    Published {
        /// Whose.
        identity: String,
        /// Which.
        track: Track,
    },
    /// A track is gone.
    Unpublished {
        /// Whose.
        identity: String,
        /// Which.
        track: Track,
    },
    /// A track comes in from here on.
    Subscribed {
        /// Whose.
        identity: String,
        /// Its id.
        track: Arc<str>,
    },
    /// A track was muted or goes on.
    Muted {
        /// Whose.
        identity: String,
        /// Its id.
        track: String,
        /// It is muted.
        muted: bool,
    },
    /// A packet of audio.
    Rtp {
        /// The track's id.
        track: Arc<str>,
        /// When it came.
        arrived: Instant,
        /// The packet.
        packet: RtpAudio,
    },
    /// A sender report: see [`PeerEvent::SenderReport`].
    SenderReport {
        /// The track's id.
        track: Arc<str>,
        /// What it says.
        report: SenderReport,
    },
    /// Something came in data packets.
    Data {
        /// From whom; empty: from the server.
        from: String,
        /// What.
        data: Data,
    },
    /// A data packet that cannot be used.
    BadData {
        /// From whom.
        from: String,
        /// What is wrong.
        error: DataError,
    },
    /// Who is speaking, as the server judges by their levels.
    Speakers(Vec<String>),
    /// Our own track is there for others.
    MicrophoneReady {
        /// Its id.
        track: String,
    },
    /// The connection was lost; it is looked for. What others send is missing until [`Self::Reconnected`].
    Reconnecting {
        /// What was noticed.
        reason: String,
    },
    /// The connection is back.
    Reconnected {
        /// The server has put us in anew: it knew nothing of the old session.
        anew: bool,
    },
    /// No longer in the room; nothing follows.
    Disconnected {
        /// Why.
        reason: Disconnect,
        /// In words, where there is more to say.
        detail: String,
    },
}

/// A room that was joined.
pub struct Room {
    signal: Signal,
    /// Where the server is, to open the right sockets at once.
    towards: Vec<SocketAddr>,
    /// How else its media is reached.
    ice: IceOptions,
    /// The server's own id: another one after each of its starts.
    node: String,
    name: String,
    sid: String,
    metadata: String,
    local: Participant,
    /// The token lets us change our own attributes.
    may_update: bool,
    /// Data of others can be received.
    hears_data: bool,
    roster: Roster,
    subscriber: Peer,
    publisher: Publisher,
    /// The track of each media section of the subscriber connection.
    mids: HashMap<String, Arc<str>>,
    /// Tracks whose coming was told.
    coming: HashSet<Arc<str>>,
    options: RoomOptions,
    streams: Streams,
    events: VecDeque<RoomEvent>,
    phase: Phase,
    /// The server has closed media, and has not said why yet.
    media_closed: bool,
    /// When media must flow, while it does not.
    media_by: Option<Instant>,
    /// Why the first try of them failed.
    no_way: Option<PeerError>,
    watch: Pin<Box<Interval>>,
    /// What the subscriber connection last agreed on.
    last_answer: Option<livekit_protocol::SessionDescription>,
}

impl Room {
    /// Joins the room that `token` is for. Media is not waited for: [`RoomEvent::Connected`] tells when it is there.
    ///
    /// # Errors
    /// [`JoinError`].
    pub async fn join(url: &Url, token: &str, options: RoomOptions) -> Result<Self, JoinError> {
        let (signal, join) = Signal::connect(url.as_str(), token).await?;
        let towards = addresses(url).await;
        let ice = ice::options(&join.ice_servers, join.client_configuration.as_ref(), options.relay_only);
        let mut watch = tokio::time::interval(WATCH);
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut room = Self {
            signal,
            node: String::new(),
            name: String::new(),
            sid: String::new(),
            metadata: String::new(),
            local: Participant::from(&livekit_protocol::ParticipantInfo::default()),
            may_update: false,
            hears_data: false,
            roster: Roster::default(),
            subscriber: Peer::new(&towards, &ice),
            publisher: Publisher::new(&towards, &ice),
            towards,
            ice,
            mids: HashMap::new(),
            coming: HashSet::new(),
            options,
            streams: Streams::default(),
            events: VecDeque::new(),
            phase: Phase::Starting,
            media_closed: false,
            media_by: None,
            no_way: None,
            watch: Box::pin(watch),
            last_answer: None,
        };
        room.take_join(&join);
        Ok(room)
    }

    fn take_join(&mut self, join: &JoinResponse) {
        self.node = join.server_info.as_ref().map(|server| server.node_id.clone()).unwrap_or_default();
        if let Some(info) = &join.room {
            (self.name, self.sid) = (info.name.clone(), info.sid.clone());
            self.metadata = info.metadata.clone();
        }
        if let Some(info) = &join.participant {
            self.local = Participant::from(info);
            self.may_update = info.permission.as_ref().is_some_and(|permission| permission.can_update_metadata);
        }
        let changes = self.roster.replace(&join.other_participants);
        self.tell_changes(changes);
    }

    /// The room's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server's id of the room.
    #[must_use]
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// The room's metadata.
    #[must_use]
    pub fn metadata(&self) -> &str {
        &self.metadata
    }

    /// Ourselves.
    #[must_use]
    pub const fn local(&self) -> &Participant {
        &self.local
    }

    /// Data of others can be received: see [`RoomEvent::DataReady`].
    #[must_use]
    pub(super) const fn hears_data(&self) -> bool {
        self.hears_data
    }

    /// The token grants [`Self::set_attributes`].
    #[must_use]
    pub(super) const fn may_set_attributes(&self) -> bool {
        self.may_update
    }

    /// Everybody else.
    pub fn participants(&self) -> impl Iterator<Item = &Participant> {
        self.roster.participants()
    }

    /// Somebody else.
    #[must_use]
    pub fn participant(&self, identity: &str) -> Option<&Participant> {
        self.roster.get(identity)
    }

    /// Whose track it is.
    #[must_use]
    pub fn owner(&self, track: &str) -> Option<(&Participant, &Track)> {
        self.roster.owner(track)
    }

    /// Asks for a track, or for no more of it.
    pub fn subscribe(&mut self, track: &str, wanted: bool) {
        let update =
            livekit_protocol::UpdateSubscription { track_sids: vec![track.to_owned()], subscribe: wanted, ..Default::default() };
        self.signal.send(signal_request::Message::Subscription(update));
    }

    /// Publishes a microphone: one Opus track. [`RoomEvent::MicrophoneReady`] tells when others can hear it.
    pub fn publish_microphone(&mut self, name: &str) {
        self.publisher.publish_microphone(name, &self.signal);
    }

    /// Sends one packet of Opus on the microphone's track: see [`Peer::send_audio`].
    pub fn send_audio(&mut self, time: RtpTime, level: i8, payload: &[u8]) -> bool {
        self.publisher.send_audio(time, level, payload)
    }

    /// Mutes our own track, or lets it go on.
    pub fn mute(&mut self, muted: bool) {
        self.publisher.mute(muted, &self.signal);
    }

    /// Sends an application's packet to everybody, or to `to` alone.
    pub fn send_packet(&mut self, to: &[String], topic: Option<&str>, payload: &[u8], reliable: bool) {
        self.publisher.send(reliable, data::user(to, topic, payload, reliable));
    }

    /// Sends a text stream.
    pub fn send_text(&mut self, to: &[String], topic: &str, text: &str, attributes: &BTreeMap<String, String>) {
        data::text(to, topic, text, attributes).into_iter().for_each(|packet| self.publisher.send(true, packet));
    }

    /// Sends a byte stream.
    pub fn send_bytes(&mut self, to: &[String], topic: &str, bytes: &[u8]) {
        data::bytes(to, topic, bytes).into_iter().for_each(|packet| self.publisher.send(true, packet));
    }

    /// Sends a keypad digit. False: it is none.
    pub fn send_dtmf(&mut self, digit: char) -> bool {
        data::dtmf(digit).map(|packet| self.publisher.send(true, packet)).is_some()
    }

    /// Calls a method of another participant; the answer comes as [`Data::RpcResponse`] with the returned id.
    pub fn call_method(&mut self, to: &str, method: &str, payload: &str, wait: Duration) -> String {
        let (id, packet) = data::rpc_request(to, method, payload, wait);
        self.publisher.send(true, packet);
        id
    }

    /// Answers a call of a method: [`Data::RpcRequest`].
    pub fn answer_method(&mut self, to: &str, id: &str, result: Result<&str, (u32, &str)>) {
        data::rpc_answer(to, id, result).into_iter().for_each(|packet| self.publisher.send(true, packet));
    }

    /// Sets our own attributes; an empty value takes one away. The token must grant it (`canUpdateOwnMetadata`).
    pub fn set_attributes(&mut self, attributes: &BTreeMap<String, String>) {
        let update = UpdateParticipantMetadata {
            metadata: self.local.metadata.clone(),
            name: self.local.name.clone(),
            attributes: attributes.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            ..UpdateParticipantMetadata::default()
        };
        self.signal.send(signal_request::Message::UpdateMetadata(update));
    }

    /// Leaves the room. [`RoomEvent::Disconnected`] follows when all is sent and closed.
    pub fn leave(&mut self) {
        if !self.phase.is_over() {
            self.leave_as(Disconnect::Left);
        }
    }

    /// Leaves, and tells this as the reason.
    fn leave_as(&mut self, why: Disconnect) {
        let leave = LeaveRequest {
            reason: livekit_protocol::DisconnectReason::ClientInitiated.into(),
            action: leave_request::Action::Disconnect.into(),
            ..LeaveRequest::default()
        };
        self.signal.send(signal_request::Message::Leave(leave));
        self.close();
        self.phase = Phase::Leaving { why };
    }

    /// Nothing comes any more.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.phase.is_gone()
    }

    /// The next event. Dropping the wait loses nothing; after [`RoomEvent::Disconnected`] nothing comes any more.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<RoomEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            if matches!(self.phase, Phase::Gone) {
                return Poll::Pending;
            }
            if let Poll::Ready(told) = self.signal.poll(cx) {
                self.take_signalled(told);
                continue;
            }
            if let Phase::Leaving { why } = self.phase
                && self.signal.is_closed()
            {
                self.end(why, String::new());
                continue;
            }
            if let Poll::Ready(event) = self.subscriber.poll_event(cx) {
                self.take_subscriber(event);
                continue;
            }
            if self.poll_publisher(cx) {
                continue;
            }
            if self.watch.poll_tick(cx).is_ready() {
                self.check_health();
                continue;
            }
            return Poll::Pending;
        }
    }

    fn poll_publisher(&mut self, cx: &mut Context<'_>) -> bool {
        let Poll::Ready(event) = self.publisher.poll(&self.signal, cx) else { return false };
        match event {
            publisher::Told::Ready(track) => self.events.push_back(RoomEvent::MicrophoneReady { track }),
            publisher::Told::Message(message) => self.take_data(&message),
            publisher::Told::Changed => {}
        }
        true
    }

    fn take_signalled(&mut self, told: Signalled) {
        match told {
            Signalled::Message(message) => self.take_message(*message),
            Signalled::Lost(reason) => self.lost(livekit_protocol::ReconnectReason::RrSignalDisconnected, &reason, false),
            // It was on its way when we left.
            Signalled::Resumed(_) | Signalled::Rejoined(_) if self.phase.is_over() => {}
            Signalled::Resumed(told) => self.resumed(&told),
            Signalled::Rejoined(join) => self.rejoined(&join),
            Signalled::Failed(error) => {
                let reason = if let JoinError::Left(reason) = error { reason } else { Disconnect::ConnectionLost };
                self.end(reason, error.to_string());
            }
        }
    }

    fn take_subscriber(&mut self, event: PeerEvent) {
        match event {
            PeerEvent::State(PeerState::Connected) => self.media_is_up(),
            PeerEvent::State(_) => {}
            PeerEvent::Rtp { mid, arrived, packet } => {
                if let Some(track) = self.coming(&mid) {
                    self.events.push_back(RoomEvent::Rtp { track, arrived, packet });
                }
            }
            PeerEvent::SenderReport { mid, report } => {
                if let Some(track) = self.coming(&mid) {
                    self.events.push_back(RoomEvent::SenderReport { track, report });
                }
            }
            PeerEvent::Message { data, .. } => self.take_data(&data),
            PeerEvent::ChannelOpen(_, label) if label == "_reliable" => {
                self.hears_data = true;
                self.events.push_back(RoomEvent::DataReady);
            }
            PeerEvent::ChannelOpen(..) => {}
            PeerEvent::Candidate(candidate) => {
                self.signal.send(messages::trickle(&candidate, livekit_protocol::SignalTarget::Subscriber));
            }
        }
    }

    /// The track of a media section, whose coming is told the first time.
    fn coming(&mut self, mid: &str) -> Option<Arc<str>> {
        let track = self.mids.get(mid)?.clone();
        if !self.coming.contains(&track) {
            let identity = self.roster.owner(&track)?.0.identity.clone();
            self.coming.insert(track.clone());
            self.events.push_back(RoomEvent::Subscribed { identity, track: track.clone() });
        }
        Some(track)
    }

    fn take_data(&mut self, packet: &[u8]) {
        match self.streams.read(packet) {
            Ok((from, Some(data))) => self.events.push_back(RoomEvent::Data { from, data }),
            Ok((_, None)) => {}
            Err((from, error)) => self.events.push_back(RoomEvent::BadData { from, error }),
        }
    }

    fn tell_changes(&mut self, changes: Vec<Change>) {
        for change in changes {
            let event = match change {
                Change::Joined(participant) => RoomEvent::Joined(participant),
                Change::Left { identity, reason } => {
                    self.streams.forget(&identity);
                    RoomEvent::Left { identity, reason }
                }
                Change::Metadata { identity } => RoomEvent::Metadata { identity },
                Change::Attributes { identity, changed } => RoomEvent::Attributes { identity, changed },
                Change::Published { identity, track } => {
                    if self.options.subscribe && track.audio {
                        self.subscribe(&track.sid, true);
                    }
                    RoomEvent::Published { identity, track }
                }
                Change::Unpublished { identity, track } => {
                    self.coming.remove(track.sid.as_str());
                    RoomEvent::Unpublished { identity, track }
                }
                Change::Muted { identity, track, muted } => RoomEvent::Muted { identity, track, muted },
            };
            self.events.push_back(event);
        }
    }

    fn end(&mut self, reason: Disconnect, detail: String) {
        if !self.phase.is_gone() {
            self.phase = Phase::Gone;
            self.close();
            self.events.push_back(RoomEvent::Disconnected { reason, detail });
        }
    }

    fn close(&mut self) {
        self.signal.close();
        self.subscriber.close();
        self.publisher.close();
    }
}

/// The addresses of the server's signalling, where its media probably is too.
async fn addresses(url: &Url) -> Vec<SocketAddr> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or(443);
    // Signalling has connected: if the name cannot be looked up once more, candidates will show the way.
    tokio::net::lookup_host((host, port)).await.map(Iterator::collect).unwrap_or_default()
}
