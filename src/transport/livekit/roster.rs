//! Who is in a room, and which tracks they have: bookkeeping, without a socket.

use std::collections::{BTreeMap, HashMap};

use livekit_protocol::participant_info::{Kind, State};
use livekit_protocol::{DisconnectReason, ParticipantInfo, TrackInfo, TrackSource, TrackType};

use super::Disconnect;

/// A participant of a room.
#[derive(Debug, Clone, PartialEq)]
pub struct Participant {
    /// Its identity: unique in the room, and the same after it comes again.
    pub identity: String,
    /// The server's id of this stay.
    pub sid: String,
    /// Its display name.
    pub name: String,
    /// What it is.
    pub kind: ParticipantKind,
    /// Its metadata, as text.
    pub metadata: String,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Its tracks, by their id.
    pub tracks: BTreeMap<String, Track>,
}

/// What a participant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParticipantKind {
    /// A client: a browser, an app, an SDK.
    Standard,
    /// A telephone call.
    Sip,
    /// An agent of the server's dispatch.
    Agent,
    /// An ingress, an egress or whatever else the server has.
    Other,
}

/// A track that a participant has published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// The server's id.
    pub sid: String,
    /// Its name.
    pub name: String,
    /// It is audio.
    pub audio: bool,
    /// It comes from a microphone, or says so.
    pub microphone: bool,
    /// Nothing is sent on it for now.
    pub muted: bool,
}

/// How the roster has changed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    Joined(Participant),
    Left { identity: String, reason: Disconnect },
    Metadata { identity: String },
    Attributes { identity: String, changed: BTreeMap<String, String> },
    Published { identity: String, track: Track },
    Unpublished { identity: String, track: Track },
    Muted { identity: String, track: String, muted: bool },
}

/// Everybody but ourselves.
#[derive(Debug, Default)]
pub(super) struct Roster {
    by_identity: BTreeMap<String, Participant>,
    by_sid: HashMap<String, String>,
}

impl Roster {
    pub(super) fn participants(&self) -> impl Iterator<Item = &Participant> {
        self.by_identity.values()
    }

    pub(super) fn get(&self, identity: &str) -> Option<&Participant> {
        self.by_identity.get(identity)
    }

    pub(super) fn identity_of(&self, sid: &str) -> Option<&str> {
        self.by_sid.get(sid).map(String::as_str)
    }

    /// Who has published the track.
    pub(super) fn owner(&self, track: &str) -> Option<(&Participant, &Track)> {
        self.participants().find_map(|participant| Some((participant, participant.tracks.get(track)?)))
    }

    /// Everybody is told anew: whoever is not among them has left.
    pub(super) fn replace(&mut self, infos: &[ParticipantInfo]) -> Vec<Change> {
        let gone = self.by_identity.keys().filter(|identity| infos.iter().all(|info| info.identity != **identity));
        let gone: Vec<_> = gone.cloned().collect();
        let mut changes: Vec<_> = gone.iter().flat_map(|identity| self.remove(identity, Disconnect::ConnectionLost)).collect();
        changes.extend(by_coming(infos).into_iter().flat_map(|info| self.update(info)));
        changes
    }

    /// What the server says of one participant.
    pub(super) fn update(&mut self, info: &ParticipantInfo) -> Vec<Change> {
        if info.state() == State::Disconnected {
            // A late word on an earlier stay of somebody who has come again.
            let stale = self.by_identity.get(&info.identity).is_some_and(|known| known.sid != info.sid);
            let reason = DisconnectReason::try_from(info.disconnect_reason).unwrap_or(DisconnectReason::UnknownReason);
            return if stale { Vec::new() } else { self.remove(&info.identity, leave_reason(reason)) };
        }
        let mut changes = Vec::new();
        if self.by_identity.get(&info.identity).is_some_and(|known| known.sid != info.sid) {
            changes.extend(self.remove(&info.identity, Disconnect::ConnectionLost));
        }
        let known = self.by_identity.remove(&info.identity);
        self.by_sid.insert(info.sid.clone(), info.identity.clone());
        let participant = Participant::from(info);
        match &known {
            None => {
                changes.push(Change::Joined(Participant { tracks: BTreeMap::new(), ..participant.clone() }));
            }
            Some(known) => compare(known, &participant, &mut changes),
        }
        compare_tracks(known.as_ref(), &participant, &mut changes);
        self.by_identity.insert(info.identity.clone(), participant);
        changes
    }

    fn remove(&mut self, identity: &str, reason: Disconnect) -> Vec<Change> {
        let Some(known) = self.by_identity.remove(identity) else { return Vec::new() };
        self.by_sid.remove(&known.sid);
        let unpublished = known.tracks.into_values();
        let unpublished = unpublished.map(|track| Change::Unpublished { identity: identity.to_owned(), track });
        unpublished.chain([Change::Left { identity: identity.to_owned(), reason }]).collect()
    }
}

/// Whoever has come first comes first: in one message the server tells them in any order.
pub(super) fn by_coming(infos: &[ParticipantInfo]) -> Vec<&ParticipantInfo> {
    let mut sorted: Vec<_> = infos.iter().collect();
    sorted.sort_by_key(|info| (info.joined_at, info.joined_at_ms));
    sorted
}

fn leave_reason(reason: DisconnectReason) -> Disconnect {
    // Servers before 1.6 tell no reason.
    if reason == DisconnectReason::UnknownReason { Disconnect::Left } else { reason.into() }
}

fn compare(known: &Participant, now: &Participant, changes: &mut Vec<Change>) {
    let identity = || now.identity.clone();
    if known.metadata != now.metadata || known.name != now.name {
        changes.push(Change::Metadata { identity: identity() });
    }
    let set = now.attributes.iter().filter(|(name, value)| known.attributes.get(*name) != Some(value));
    let gone = known.attributes.keys().filter(|name| !now.attributes.contains_key(*name));
    let set = set.map(|(name, value)| (name.clone(), value.clone()));
    let changed: BTreeMap<_, _> = set.chain(gone.map(|name| (name.clone(), String::new()))).collect();
    if !changed.is_empty() {
        changes.push(Change::Attributes { identity: identity(), changed });
    }
}

fn compare_tracks(known: Option<&Participant>, now: &Participant, changes: &mut Vec<Change>) {
    let identity = || now.identity.clone();
    let before = known.map(|known| &known.tracks);
    for track in now.tracks.values() {
        match before.and_then(|tracks| tracks.get(&track.sid)) {
            None => changes.push(Change::Published { identity: identity(), track: track.clone() }),
            Some(before) if before.muted != track.muted => {
                changes.push(Change::Muted { identity: identity(), track: track.sid.clone(), muted: track.muted });
            }
            Some(_) => {}
        }
    }
    let gone = before.into_iter().flat_map(|tracks| tracks.values()).filter(|track| !now.tracks.contains_key(&track.sid));
    changes.extend(gone.map(|track| Change::Unpublished { identity: identity(), track: track.clone() }));
}

impl From<&ParticipantInfo> for Participant {
    fn from(info: &ParticipantInfo) -> Self {
        let kind = match info.kind() {
            Kind::Standard => ParticipantKind::Standard,
            Kind::Sip => ParticipantKind::Sip,
            Kind::Agent => ParticipantKind::Agent,
            _ => ParticipantKind::Other,
        };
        Self {
            identity: info.identity.clone(),
            sid: info.sid.clone(),
            name: info.name.clone(),
            kind,
            metadata: info.metadata.clone(),
            attributes: info.attributes.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            tracks: info.tracks.iter().map(|track| (track.sid.clone(), Track::from(track))).collect(),
        }
    }
}

impl From<&TrackInfo> for Track {
    fn from(info: &TrackInfo) -> Self {
        Self {
            sid: info.sid.clone(),
            name: info.name.clone(),
            audio: info.r#type() == TrackType::Audio,
            microphone: info.source() == TrackSource::Microphone,
            muted: info.muted,
        }
    }
}
