//! What the server's signalling messages change.

use livekit_protocol::leave_request::Action;
use livekit_protocol::{DisconnectReason, ReconnectReason, SessionDescription, SignalTarget, TrickleRequest};
use livekit_protocol::{signal_request, signal_response};
use serde_json::json;

use super::{Room, RoomEvent};
use crate::transport::livekit::roster::by_coming;
use crate::transport::livekit::{Disconnect, Participant, sdp};

/// A candidate of ours, as the server takes it (JSON of the browsers' `RTCIceCandidateInit`).
pub(super) fn trickle(candidate: &str, target: SignalTarget) -> signal_request::Message {
    let candidate_init = json!({"candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0}).to_string();
    signal_request::Message::Trickle(TrickleRequest { candidate_init, target: target.into(), r#final: false })
}

impl Room {
    pub(super) fn take_message(&mut self, message: signal_response::Message) {
        use signal_response::Message;
        match message {
            Message::Offer(offer) => self.take_offer(&offer),
            Message::Answer(answer) => {
                if let Err(error) = self.publisher.accept_answer(&answer.sdp, &self.signal) {
                    self.lost(ReconnectReason::RrPublisherFailed, &error.to_string(), true);
                }
            }
            Message::Trickle(trickle) => self.take_candidate(&trickle),
            Message::Update(update) => {
                for info in by_coming(&update.participants) {
                    if info.sid == self.local.sid {
                        self.local = Participant::from(info);
                    } else {
                        let changes = self.roster.update(info);
                        self.tell_changes(changes);
                    }
                }
            }
            Message::TrackPublished(published) => self.publisher.published(&published, &self.signal),
            Message::Leave(leave) => self.take_leave(leave.action(), leave.reason()),
            Message::SpeakersChanged(changed) => {
                let speaking = changed.speakers.iter().filter(|speaker| speaker.active);
                let identities = speaking.filter_map(|speaker| {
                    if speaker.sid == self.local.sid {
                        Some(self.local.identity.clone())
                    } else {
                        self.roster.identity_of(&speaker.sid).map(str::to_owned)
                    }
                });
                let identities = identities.collect();
                self.events.push_back(RoomEvent::Speakers(identities));
            }
            Message::RoomUpdate(update) => {
                let Some(room) = update.room else { return };
                self.sid = room.sid;
                if room.metadata != self.metadata {
                    self.metadata.clone_from(&room.metadata);
                    self.events.push_back(RoomEvent::RoomMetadata(room.metadata));
                }
            }
            _ => {}
        }
    }

    fn take_offer(&mut self, offer: &SessionDescription) {
        let answered = self.subscriber.answer(&sdp::for_receiving(&offer.sdp));
        match answered {
            Ok(text) => {
                self.mids = sdp::tracks(&offer.sdp).map(|(mid, track)| (mid.to_owned(), track.into())).collect();
                let answer = SessionDescription { r#type: "answer".to_owned(), sdp: text, id: offer.id, ..Default::default() };
                self.last_answer = Some(answer.clone());
                self.signal.send(signal_request::Message::Answer(answer));
                self.media_begins();
            }
            Err(error) => self.lost(ReconnectReason::RrSubscriberFailed, &error.to_string(), true),
        }
    }

    fn take_candidate(&mut self, trickle: &TrickleRequest) {
        let init: serde_json::Value = serde_json::from_str(&trickle.candidate_init).unwrap_or_default();
        let Some(candidate) = init["candidate"].as_str().filter(|candidate| !candidate.is_empty()) else { return };
        match trickle.target() {
            SignalTarget::Subscriber => self.subscriber.add_candidate(candidate),
            SignalTarget::Publisher => self.publisher.add_candidate(candidate),
        }
    }

    fn take_leave(&mut self, action: Action, reason: DisconnectReason) {
        let why = Disconnect::from(reason);
        match action {
            Action::Disconnect => self.end(why, String::new()),
            Action::Resume => self.lost(ReconnectReason::RrUnknown, &why.to_string(), false),
            Action::Reconnect => self.lost(ReconnectReason::RrUnknown, &why.to_string(), true),
        }
    }
}
