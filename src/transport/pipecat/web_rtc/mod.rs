//! SmallWebRTC: voice as Pipecat's `SmallWebRTCTransport` speaks it. An HTTP request carries a WebRTC offer to the bot's server, and
//! its answer back (`/api/offer`); candidates that come later follow by `PATCH`. Opus goes both ways, and a data channel carries
//! [RTVI](super::rtvi) and what concerns the connection itself.
//!
//! A bot sends without a gap, silence too, so that what is heard passes through a jitter buffer as in LiveKit's rooms
//! ([`crate::transport::webrtc`]). A bot that hangs up says so and closes; one that is only lost is offered another connection under the
//! same name (`restart_pc`), for a minute.

mod channel;
mod connect;
mod door;
mod leg;
mod line;
mod talk;

pub use channel::{BadChannelMessage, ChannelMessage, Signal};
pub(super) use connect::connect;
pub use connect::{WebRtcError, WebRtcProblem};
pub use door::{OfferDoor, OpenOfferDoor, WIRE as DOOR};
pub use leg::{OfferError, SmallWebRtcLeg};

use crate::transport::Capability;

/// What the wire can do, for the table in the README.
pub(in crate::transport) const CAPABILITY: Capability = Capability {
    wire: "Pipecat SmallWebRTC",
    way_in: Some("`[doors.pipecat-webrtc]`"),
    way_out: Some("`pipecat+http://`, `pipecat+https://`"),
    audio: "48 kHz, Opus",
    abilities: leg::ABILITIES,
    tried: "`pipecat-ai` 1.14.0, `@pipecat-ai/client-js` 1.13.1, aiortc 1.16.0",
};
