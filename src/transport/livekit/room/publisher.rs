//! What we send into a room: one microphone track and data packets, over the publisher connection.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use livekit_protocol::{
    AddTrackRequest, DataChannelInfo, MuteTrackRequest, SessionDescription, SignalTarget, TrackPublishedResponse, TrackSource,
    TrackType, signal_request,
};
use uuid::Uuid;

use super::messages::trickle;
use crate::transport::livekit::signal::Signal;
use crate::transport::webrtc::{
    AudioPlan, Channel, ChannelPlan, IceOptions, Peer, PeerError, PeerEvent, PeerState, RtpTime, SentAudio,
};

/// The channels that the server knows by their labels.
const RELIABLE: ChannelPlan = ChannelPlan { label: "_reliable", reliable: true };
/// See [`RELIABLE`].
const LOSSY: ChannelPlan = ChannelPlan { label: "_lossy", reliable: false };
/// Packets that wait for their channel to open.
const MOST_WAITING: usize = 1024;

/// What the publisher tells the room.
pub(super) enum Told {
    /// Others can hear our track.
    Ready(String),
    /// A message that came on one of our channels.
    Message(Vec<u8>),
    /// Something that concerns nobody else.
    Changed,
}

/// A track of ours.
struct Microphone {
    name: String,
    /// Our own id of it, until the server has given one.
    cid: String,
    muted: bool,
    published: Option<TrackPublishedResponse>,
    sent: Option<SentAudio>,
    told: bool,
}

pub(super) struct Publisher {
    peer: Option<Peer>,
    towards: Vec<SocketAddr>,
    ice: IceOptions,
    microphone: Option<Microphone>,
    reliable: Option<Channel>,
    lossy: Option<Channel>,
    waiting: VecDeque<(bool, Vec<u8>)>,
    last_offer: Option<String>,
    /// An offer is out.
    asked: bool,
    /// Something is to be offered once the answer is here.
    owing: bool,
    closed: bool,
}

impl Publisher {
    pub(super) fn new(towards: &[SocketAddr], ice: &IceOptions) -> Self {
        Self {
            peer: None,
            towards: towards.to_vec(),
            ice: ice.clone(),
            microphone: None,
            reliable: None,
            lossy: None,
            waiting: VecDeque::new(),
            last_offer: None,
            asked: false,
            owing: false,
            closed: false,
        }
    }

    pub(super) const fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    pub(super) fn publish_microphone(&mut self, name: &str, signal: &Signal) {
        let microphone = Microphone {
            name: name.to_owned(),
            cid: Uuid::new_v4().to_string(),
            muted: false,
            published: None,
            sent: None,
            told: false,
        };
        signal.send(signal_request::Message::AddTrack(add_track(&microphone)));
        self.microphone = Some(microphone);
    }

    /// The server has taken our track: it can be offered.
    pub(super) fn published(&mut self, published: &TrackPublishedResponse, signal: &Signal) {
        let Some(microphone) = self.microphone.as_mut().filter(|microphone| microphone.cid == published.cid) else { return };
        microphone.published = Some(published.clone());
        self.negotiate(signal);
    }

    pub(super) fn mute(&mut self, muted: bool, signal: &Signal) {
        let Some(microphone) = &mut self.microphone else { return };
        microphone.muted = muted;
        if let Some(track) = microphone.published.as_ref().and_then(|published| published.track.as_ref()) {
            signal.send(signal_request::Message::Mute(MuteTrackRequest { sid: track.sid.clone(), muted }));
        }
    }

    pub(super) fn send_audio(&mut self, time: RtpTime, level: i8, payload: &[u8]) -> bool {
        let sent = self.microphone.as_mut().and_then(|microphone| microphone.sent.as_mut());
        let (Some(peer), Some(sent)) = (&mut self.peer, sent) else { return false };
        peer.send_audio(sent, time, level, payload)
    }

    /// Sends a data packet; until its channel is open it waits.
    pub(super) fn send(&mut self, reliable: bool, packet: Vec<u8>) {
        if self.waiting.len() < MOST_WAITING {
            self.waiting.push_back((reliable, packet));
        } else {
            tracing::warn!("data for the room is dropped: {MOST_WAITING} packets wait already");
        }
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
        if let Some(peer) = &mut self.peer {
            peer.close();
        }
    }

    pub(super) fn accept_answer(&mut self, answer: &str, signal: &Signal) -> Result<(), PeerError> {
        self.asked = false;
        let Some(peer) = &mut self.peer else { return Ok(()) };
        peer.accept_answer(answer)?;
        if std::mem::take(&mut self.owing) {
            self.negotiate(signal);
        }
        Ok(())
    }

    pub(super) fn add_candidate(&mut self, candidate: &str) {
        if let Some(peer) = &mut self.peer {
            peer.add_candidate(candidate);
        }
    }

    /// After a resume.
    pub(super) fn restart_ice(&mut self, ice: &IceOptions, signal: &Signal) {
        self.ice.clone_from(ice);
        if let Some(peer) = &mut self.peer {
            peer.set_ice(ice);
        }
        if let Some(offer) = self.peer.as_mut().and_then(Peer::restart_ice) {
            self.ask(offer, signal);
        }
    }

    /// The tracks and the waiting data of the publisher of a lost session.
    pub(super) fn take_over(&mut self, before: Self, signal: &Signal) {
        if let Some(microphone) = before.microphone {
            self.publish_microphone(&microphone.name, signal);
            if let Some(now) = &mut self.microphone {
                (now.muted, now.told) = (microphone.muted, microphone.told);
            }
        }
        self.waiting = before.waiting;
    }

    pub(super) fn last_offer(&self) -> Option<SessionDescription> {
        let sdp = self.last_offer.clone()?;
        Some(SessionDescription { r#type: "offer".to_owned(), sdp, ..SessionDescription::default() })
    }

    pub(super) fn tracks(&self) -> Vec<TrackPublishedResponse> {
        self.microphone.iter().filter_map(|microphone| microphone.published.clone()).collect()
    }

    pub(super) fn channel_infos(&self) -> Vec<DataChannelInfo> {
        let info =
            |(id, label): (u32, &str)| DataChannelInfo { label: label.to_owned(), id, target: SignalTarget::Publisher.into() };
        let open = [self.reliable.map(|_| RELIABLE.label), self.lossy.map(|_| LOSSY.label)];
        (0..).zip(open.into_iter().flatten()).map(info).collect()
    }

    pub(super) fn poll(&mut self, signal: &Signal, cx: &mut Context<'_>) -> Poll<Told> {
        if self.peer.is_none() && !self.waiting.is_empty() && !self.closed && self.microphone.is_none() {
            self.negotiate(signal);
        }
        self.send_waiting();
        let Some(peer) = &mut self.peer else { return Poll::Pending };
        let Poll::Ready(event) = peer.poll_event(cx) else { return Poll::Pending };
        Poll::Ready(match event {
            PeerEvent::State(PeerState::Connected) => self.tell_ready(),
            PeerEvent::ChannelOpen(channel, label) => {
                match label.as_str() {
                    "_reliable" => self.reliable = Some(channel),
                    "_lossy" => self.lossy = Some(channel),
                    _ => {}
                }
                Told::Changed
            }
            PeerEvent::Message { data, .. } => Told::Message(data),
            PeerEvent::Candidate(candidate) => {
                signal.send(trickle(&candidate, SignalTarget::Publisher));
                Told::Changed
            }
            PeerEvent::State(_) | PeerEvent::Rtp { .. } | PeerEvent::SenderReport { .. } => Told::Changed,
        })
    }

    /// Our track is up when its media section is agreed on and the connection is there.
    fn tell_ready(&mut self) -> Told {
        let Some(microphone) = self.microphone.as_mut().filter(|microphone| !microphone.told) else { return Told::Changed };
        let track = microphone.published.as_ref().and_then(|published| published.track.as_ref());
        let Some(track) = track.filter(|_| microphone.sent.is_some()) else { return Told::Changed };
        microphone.told = true;
        Told::Ready(track.sid.clone())
    }

    fn send_waiting(&mut self) {
        let Some(peer) = self.peer.as_mut().filter(|peer| peer.state() == PeerState::Connected) else { return };
        while let Some((reliable, packet)) = self.waiting.front() {
            let channel = if *reliable { self.reliable } else { self.lossy };
            if !channel.is_some_and(|channel| peer.send_message(channel, packet)) {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// Offers what has not been agreed on yet.
    fn negotiate(&mut self, signal: &Signal) {
        if self.asked {
            self.owing = true;
            return;
        }
        let first = self.peer.is_none();
        let peer = self.peer.get_or_insert_with(|| Peer::new(&self.towards, &self.ice));
        let ready = self.microphone.as_mut().filter(|microphone| microphone.sent.is_none() && microphone.published.is_some());
        let audio = ready.as_ref().map(|microphone| AudioPlan { stream: "trunkline", track: &microphone.cid, both_ways: false });
        let channels: &[ChannelPlan] = if first { &[RELIABLE, LOSSY] } else { &[] };
        let Some((offer, sent)) = peer.offer(audio, channels) else { return };
        if let Some(microphone) = ready {
            microphone.sent = sent;
        }
        self.ask(offer, signal);
    }

    fn ask(&mut self, offer: String, signal: &Signal) {
        self.last_offer = Some(offer.clone());
        self.asked = true;
        let offer = SessionDescription { r#type: "offer".to_owned(), sdp: offer, ..SessionDescription::default() };
        signal.send(signal_request::Message::Offer(offer));
    }
}

fn add_track(microphone: &Microphone) -> AddTrackRequest {
    AddTrackRequest {
        cid: microphone.cid.clone(),
        name: microphone.name.clone(),
        r#type: TrackType::Audio.into(),
        source: TrackSource::Microphone.into(),
        muted: microphone.muted,
        // One stream of Opus packets, each sent once: RED would only double what is lost in no case here.
        disable_red: true,
        ..AddTrackRequest::default()
    }
}
