//! Who in a room is the caller and who the agent, and in which files their tracks go.

use super::super::{Participant, ParticipantKind, Track};
use crate::call::Side;

/// The attribute in which an agent tells the name that its worker is registered under.
const AGENT_NAME: &str = "lk.agent_name";
/// The longest part of an identity that a file's name has, in letters.
const LONGEST_NAME: usize = 60;

/// The two that the stereo file is of. The caller is the first participant with an audio track that is no agent; the agent the
/// first that the server's dispatch has sent, and, when it has left, the one that comes in its place.
#[derive(Debug, Default)]
pub(super) struct Seats {
    /// Only an agent of this name is the agent; others are recorded beside.
    agent_name: Option<String>,
    caller: Option<Seat>,
    agent: Option<Seat>,
}

#[derive(Debug)]
struct Seat {
    identity: String,
    is_here: bool,
    /// The track that its file is filled from.
    track: Option<String>,
}

impl Seats {
    pub(super) fn new(agent_name: Option<String>) -> Self {
        Self { agent_name, ..Self::default() }
    }

    /// Whose side somebody is on.
    pub(super) fn side_of(&self, identity: &str) -> Option<Side> {
        Side::BOTH.into_iter().find(|side| self.seat(*side).is_some_and(|seat| seat.identity == identity))
    }

    /// The identity of a side.
    pub(super) fn identity(&self, side: Side) -> Option<&str> {
        self.seat(side).map(|seat| seat.identity.as_str())
    }

    /// Somebody is there; an agent takes its seat with that.
    pub(super) fn joined(&mut self, participant: &Participant) {
        if let Some(seat) = self.seat_of(&participant.identity) {
            seat.is_here = true;
        } else if self.is_agent(participant) && self.agent.as_ref().is_none_or(|seat| !seat.is_here) {
            self.agent = Some(Seat::new(&participant.identity));
        }
    }

    pub(super) fn left(&mut self, identity: &str) {
        if let Some(seat) = self.seat_of(identity) {
            (seat.is_here, seat.track) = (false, None);
        }
    }

    /// A track begins: in whose file it goes; none: in one of its own, for it is neither's, or their file is being filled.
    pub(super) fn published(&mut self, participant: &Participant, track: &Track) -> Option<Side> {
        let calls = matches!(participant.kind, ParticipantKind::Standard | ParticipantKind::Sip);
        if calls && self.caller.is_none() {
            self.caller = Some(Seat::new(&participant.identity));
        }
        let side = self.side_of(&participant.identity)?;
        let seat = self.seat_of(&participant.identity)?;
        if seat.track.is_some() {
            return None;
        }
        seat.track = Some(track.sid.clone());
        Some(side)
    }

    pub(super) fn unpublished(&mut self, track: &str) {
        for seat in [&mut self.caller, &mut self.agent].into_iter().flatten() {
            if seat.track.as_deref() == Some(track) {
                seat.track = None;
            }
        }
    }

    fn is_agent(&self, participant: &Participant) -> bool {
        let told = participant.attributes.get(AGENT_NAME);
        let named = self.agent_name.as_ref().zip(told).is_none_or(|(wanted, told)| wanted == told);
        participant.kind == ParticipantKind::Agent && named
    }

    fn seat(&self, side: Side) -> Option<&Seat> {
        match side {
            Side::Caller => self.caller.as_ref(),
            Side::Agent => self.agent.as_ref(),
        }
    }

    fn seat_of(&mut self, identity: &str) -> Option<&mut Seat> {
        [&mut self.caller, &mut self.agent].into_iter().flatten().find(|seat| seat.identity == identity)
    }
}

impl Seat {
    fn new(identity: &str) -> Self {
        Self { identity: identity.to_owned(), is_here: true, track: None }
    }
}

/// What the files of a track of its own are called by: whatever is in the names, a plain one in the folder.
pub(super) fn file_name(identity: &str, track: &str) -> String {
    let plain = |text: &str| -> String {
        let safe = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
        text.chars().take(LONGEST_NAME).map(|letter| if safe(letter) { letter } else { '_' }).collect()
    };
    format!("{}-{}", plain(identity), plain(track))
}

/// A participant's kind in words.
pub(super) const fn kind_name(kind: ParticipantKind) -> &'static str {
    match kind {
        ParticipantKind::Standard => "standard",
        ParticipantKind::Sip => "sip",
        ParticipantKind::Agent => "agent",
        ParticipantKind::Other => "other",
    }
}
