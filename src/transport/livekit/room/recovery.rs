//! A lost connection: noticed, looked for as LiveKit's own clients do (resume the session, else join anew), or given up.

use std::time::{Duration, Instant};

use livekit_protocol::{JoinResponse, ReconnectReason, ReconnectResponse, SyncState, signal_request};

use super::publisher::Publisher;
use super::{Room, RoomEvent};
use crate::transport::livekit::{Disconnect, JoinError, ice};
use crate::transport::webrtc::{Peer, PeerState};

/// How long media may take from its first description until it flows.
const MEDIA_TIME: Duration = Duration::from_secs(15);
/// How long media that has flowed may be looked for, in all tries together.
const OUTAGE: Duration = Duration::from_secs(60);
/// How long nothing at all may come from the server's media side. ICE checks every few seconds that the far side is there
/// (RFC 7675): three of them went unanswered.
const SILENCE: Duration = Duration::from_secs(10);

/// Where a room stands with its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Joined; media is not there yet.
    Starting,
    /// All is well.
    Up,
    /// Signalling is being looked for.
    Seeking { anew: bool },
    /// Signalling is back, media is not.
    Returning { since: Instant, anew: bool },
    /// We are leaving, and this is why.
    Leaving { why: Disconnect },
    /// Over.
    Gone,
}

impl Phase {
    pub(super) const fn is_gone(self) -> bool {
        matches!(self, Self::Gone)
    }

    /// Nothing is looked for any more.
    pub(super) const fn is_over(self) -> bool {
        matches!(self, Self::Gone | Self::Leaving { .. })
    }
}

impl Room {
    /// The server has described the media: it must flow before long.
    pub(super) fn media_begins(&mut self) {
        if self.phase == Phase::Starting {
            self.media_by.get_or_insert_with(|| Instant::now() + MEDIA_TIME);
        }
    }

    pub(super) fn media_is_up(&mut self) {
        self.media_by = None;
        self.no_way = None;
        match self.phase {
            Phase::Starting => {
                self.phase = Phase::Up;
                self.events.push_back(RoomEvent::Connected);
            }
            Phase::Returning { anew, .. } => {
                self.phase = Phase::Up;
                self.events.push_back(RoomEvent::Reconnected { anew });
            }
            _ => {}
        }
    }

    /// The connection, or a part of it, is gone.
    pub(super) fn lost(&mut self, why: ReconnectReason, reason: &str, anew: bool) {
        match self.phase {
            Phase::Gone | Phase::Leaving { .. } | Phase::Seeking { .. } => return,
            Phase::Starting | Phase::Up => {
                tracing::info!(room = self.name, "the LiveKit connection was lost: {reason}");
                self.events.push_back(RoomEvent::Reconnecting { reason: reason.to_owned() });
            }
            // A session that breaks while it comes back is not tried again as it is.
            Phase::Returning { .. } => {}
        }
        self.media_by.get_or_insert_with(|| Instant::now() + OUTAGE);
        let anew = anew || matches!(self.phase, Phase::Returning { .. });
        self.phase = Phase::Seeking { anew };
        self.signal.recover(why, anew);
    }

    /// Signalling goes on where it was: the server is told what we have, and media looks for its way anew.
    pub(super) fn resumed(&mut self, told: &ReconnectResponse) {
        self.ice = ice::options(&told.ice_servers, told.client_configuration.as_ref(), self.options.relay_only);
        self.subscriber.set_ice(&self.ice);
        let sync = SyncState {
            answer: self.last_answer.clone(),
            offer: self.publisher.last_offer(),
            publish_tracks: self.publisher.tracks(),
            data_channels: self.publisher.channel_infos(),
            subscription: Some(livekit_protocol::UpdateSubscription {
                track_sids: self.coming.iter().map(|track| track.to_string()).collect(),
                subscribe: true,
                ..Default::default()
            }),
            ..SyncState::default()
        };
        self.signal.send(signal_request::Message::SyncState(sync));
        self.signal.confirm();
        self.publisher.restart_ice(&self.ice, &self.signal);
        self.phase = Phase::Returning { since: Instant::now(), anew: false };
    }

    /// A new session: new connections, the same tracks.
    pub(super) fn rejoined(&mut self, join: &JoinResponse) {
        if self.is_another_room(join) {
            return self.leave_as(Disconnect::RoomGone);
        }
        // What failed first says more than a try that was cut short.
        self.no_way = self.no_way.take().or_else(|| self.subscriber.no_way());
        self.ice = ice::options(&join.ice_servers, join.client_configuration.as_ref(), self.options.relay_only);
        self.subscriber = Peer::new(&self.towards, &self.ice);
        let before = std::mem::replace(&mut self.publisher, Publisher::new(&self.towards, &self.ice));
        self.mids.clear();
        self.coming.clear();
        self.hears_data = false;
        self.last_answer = None;
        self.phase = Phase::Returning { since: Instant::now(), anew: true };
        self.take_join(join);
        self.publisher.take_over(before, &self.signal);
    }

    /// The same server, which was not restarted, has made a room of this name anew for us: the one that we were in was deleted or
    /// closed, and nobody comes back into it. After a restart the participants find each other in a new room.
    fn is_another_room(&self, join: &JoinResponse) -> bool {
        let is_same_node =
            join.server_info.as_ref().is_some_and(|server| !server.node_id.is_empty() && server.node_id == self.node);
        is_same_node && join.room.as_ref().is_some_and(|room| room.sid != self.sid)
    }

    /// Looks whether media still comes, twice a second.
    pub(super) fn check_health(&mut self) {
        let is_late = self.media_by.is_some_and(|by| by < Instant::now());
        match self.phase {
            Phase::Starting | Phase::Returning { .. } if is_late => self.no_media(),
            Phase::Starting if self.subscriber.state() == PeerState::Closed || self.subscriber.is_hopeless() => self.no_media(),
            Phase::Returning { since, anew } => {
                // After a resume the old way may still be good: no change of state tells it.
                let fresh = |peer: &Peer| peer.state() == PeerState::Connected && peer.heard().is_some_and(|heard| heard > since);
                if fresh(&self.subscriber) && self.publisher.peer().is_none_or(fresh) {
                    self.media_is_up();
                } else if since.elapsed() > MEDIA_TIME {
                    if anew {
                        self.no_media();
                    } else {
                        self.lost(ReconnectReason::RrSubscriberFailed, "media did not come back", true);
                    }
                }
            }
            Phase::Up => self.check_media(),
            _ => {}
        }
    }

    fn check_media(&mut self) {
        // A server that sends us away closes media at once; what it says of it over signalling may be a moment behind.
        let closed = |peer: &Peer| peer.state() == PeerState::Closed;
        let is_closed = closed(&self.subscriber) || self.publisher.peer().is_some_and(closed);
        let was_closed = std::mem::replace(&mut self.media_closed, is_closed);
        if is_closed && !was_closed {
            return;
        }
        let silent = |peer: &Peer| match peer.state() {
            PeerState::Disconnected => Some("no answer from the server's media side".to_owned()),
            PeerState::Closed => Some("the server closed the media connection".to_owned()),
            PeerState::Connected => {
                let silence = peer.heard().map(|heard| heard.elapsed()).filter(|silence| *silence > SILENCE)?;
                Some(format!("nothing came from the server's media side for {} s", silence.as_secs()))
            }
            PeerState::New | PeerState::Connecting => None,
        };
        if let Some(reason) = silent(&self.subscriber) {
            self.lost(ReconnectReason::RrSubscriberFailed, &reason, false);
        } else if let Some(reason) = self.publisher.peer().and_then(silent) {
            self.lost(ReconnectReason::RrPublisherFailed, &reason, false);
        }
    }

    fn no_media(&mut self) {
        match self.no_way.take().or_else(|| self.subscriber.no_way()) {
            Some(error) => self.end(Disconnect::MediaFailure, JoinError::Media(error).to_string()),
            None => self.end(Disconnect::ConnectionLost, "media did not come back".to_owned()),
        }
    }
}
