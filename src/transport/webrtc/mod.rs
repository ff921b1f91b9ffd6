//! WebRTC media without libwebrtc. [`Peer`] is a connection over our own sockets (str0m does ICE, DTLS, SRTP and SCTP; who
//! signals what to whom is the business of the wires above, as [`super::livekit`]), [`JitterBuffer`] makes of the received
//! packets one frame every 20 ms, and [`Timeline`] places them for a recording by their senders' clocks.

mod delay;
mod jitter;
mod paths;
mod peer;
mod quiet;
mod report;
mod rtp;
mod stream;
mod tcp;
mod timeline;

pub use jitter::{FrameKind, JitterBuffer, JitterCounts, JitterLimits, PlayedFrame};
pub use peer::{Channel, ChannelPlan, Peer, PeerError, PeerEvent, PeerState, SentAudio, SessionText};
pub use report::{NtpTime, RoomClock, SenderReport};
pub use rtp::{Extender, RtpAudio, RtpTime};
pub use timeline::{PlacedBy, PlacedRun, Timeline, TimelineCounts};
