//! WebRTC media without libwebrtc: peer connections over our own sockets. str0m does ICE, DTLS, SRTP and SCTP; who signals what
//! to whom is the business of the wires above ([`super::livekit`]).

mod paths;
mod peer;

pub use peer::{Channel, ChannelPlan, Peer, PeerError, PeerEvent, PeerState, SentAudio, SessionText};
