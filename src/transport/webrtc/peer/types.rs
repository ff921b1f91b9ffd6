//! What a peer connection is told, and what it tells.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use str0m::channel::{ChannelConfig, ChannelId, Reliability};

use crate::transport::webrtc::{RtpAudio, SenderReport};

/// A session description as SDP text (RFC 8866).
pub type SessionText = String;

/// A peer connection could not be made or broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The far side's description cannot be used.
    #[error("the far side's session description cannot be used: {0}")]
    Description(String),
    /// No way to the far side.
    #[error("ICE found no way: tried {0}")]
    Ice(Tried),
    /// There is a way, and the handshake that makes the keys failed on it.
    #[error("the DTLS handshake failed: {problem}; tried {tried}")]
    Dtls {
        /// What went wrong.
        problem: String,
        /// Between which addresses.
        tried: Tried,
    },
    /// Something else within the connection.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// Between which addresses a way was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Our own addresses.
    pub local: Vec<SocketAddr>,
    /// The far side's candidates: protocol and address.
    pub remote: Vec<String>,
    /// How far each TURN server is, in words.
    pub relays: Vec<String>,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local: Vec<_> = self.local.iter().map(ToString::to_string).collect();
        let or_none = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
        write!(f, "from {} to {}", or_none(&local), or_none(&self.remote))?;
        if self.relays.is_empty() { Ok(()) } else { write!(f, "; relays: {}", self.relays.join("; ")) }
    }
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// Nothing was agreed on yet.
    New,
    /// Looking for a way, or making the keys.
    Connecting,
    /// Media flows.
    Connected,
    /// No answer comes any more; it may come back.
    Disconnected,
    /// Over.
    Closed,
}

/// A data channel that was opened with a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Channel(pub(super) ChannelId);

/// What comes out of a connection.
#[derive(Debug)]
pub enum PeerEvent {
    /// The state has changed.
    State(PeerState),
    /// A received packet of audio.
    Rtp {
        /// The media section it belongs to.
        mid: String,
        /// When it came.
        arrived: Instant,
        /// The packet.
        packet: RtpAudio,
    },
    /// A sender report (RFC 3550 section 6.4.1).
    SenderReport {
        /// The media section.
        mid: String,
        /// What it says.
        report: SenderReport,
    },
    /// A data channel is open.
    ChannelOpen(Channel, String),
    /// A message on a data channel.
    Message {
        /// The channel.
        channel: Channel,
        /// The message.
        data: Vec<u8>,
    },
    /// A local candidate that the far side has not been told in a description.
    Candidate(String),
}

/// A media section of audio that is to be offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioPlan<'a> {
    /// The stream that it belongs to.
    pub stream: &'a str,
    /// Its own name.
    pub track: &'a str,
    /// Audio comes over it too.
    pub both_ways: bool,
}

/// A data channel that is to be opened with an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelPlan {
    /// Its label.
    pub label: &'static str,
    /// Nothing is lost and all comes in order; else each message is sent once, and may come in any order.
    pub reliable: bool,
}

impl ChannelPlan {
    pub(super) fn config(self) -> ChannelConfig {
        let reliability = if self.reliable { Reliability::Reliable } else { Reliability::MaxRetransmits { retransmits: 0 } };
        ChannelConfig { label: self.label.to_owned(), ordered: self.reliable, reliability, ..ChannelConfig::default() }
    }
}
