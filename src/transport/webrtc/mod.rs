//! WebRTC media without libwebrtc. [`Peer`] is a connection over our own sockets (str0m does ICE, DTLS, SRTP and SCTP; who
//! signals what to whom is the business of the wires above, as [`super::livekit`]), with STUN and TURN servers where
//! [`IceOptions`] name some; [`JitterBuffer`] makes of the received
//! packets one frame every 20 ms, and [`Timeline`] places them for a recording by their senders' clocks.

mod delay;
mod fallback;
mod gather;
mod ice_server;
mod jitter;
mod media;
mod paths;
mod peer;
mod quiet;
mod relay;
mod reorder;
mod report;
mod rtp;
mod stream;
mod stun;
mod tcp;
mod terms;
mod timeline;
mod timer;
mod turn;
mod unsent;

pub use ice_server::{IceServer, IceServerError};
pub use jitter::{FrameKind, JitterBuffer, JitterCounts, JitterLimits, PlayedFrame};
pub use media::SentAudio;
pub use peer::Peer;
pub use reorder::PacketCounts;
pub use report::{NtpTime, RoomClock, SenderReport};
pub use rtp::{Extender, RtpAudio, RtpTime};
pub use terms::{Channel, ChannelPlan, IceOptions, PeerError, PeerEvent, PeerState, SessionText, Tried};
pub use timeline::{PlacedBy, PlacedRun, Timeline, TimelineCounts};
