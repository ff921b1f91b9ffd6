//! WebRTC media without libwebrtc. [`Peer`] is a connection over our own sockets (str0m does ICE, DTLS, SRTP and SCTP; who
//! signals what to whom is the business of the wires above, as [`super::livekit`]), with STUN and TURN servers where
//! [`IceOptions`] name some; [`JitterBuffer`] makes of the received packets one frame every 20 ms, and [`Timeline`] places them for a recording by their senders' clocks.

mod ice;
mod peer;
mod receive;
mod report;
mod rtp;
mod voice;

pub use ice::{IceOptions, IceServer, IceServerError};
pub use peer::{AudioPlan, Channel, ChannelPlan, Peer, PeerError, PeerEvent, PeerState, SentAudio, SessionText, Tried};
pub use receive::{
    FrameKind, JitterBuffer, JitterCounts, JitterLimits, PacketCounts, PlacedBy, PlacedRun, PlayedFrame, Timeline, TimelineCounts,
};
pub use report::{NtpTime, RoomClock, SenderReport};
pub use rtp::{Extender, RtpAudio, RtpTime};
pub use voice::Voice;
