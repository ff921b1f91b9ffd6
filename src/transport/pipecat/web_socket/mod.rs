//! Voice over a WebSocket, as a self-hosted bot with `ProtobufFrameSerializer` speaks it
//! (`FastAPIWebsocketTransport`, `WebsocketServerTransport`, the runner's `/ws-client`).
//!
//! Binary messages carry protobuf [frames](Frame); what is beside the audio is [RTVI](super::rtvi), JSON within a frame. A bot does not
//! resample what it hears, so that audio goes out at the rate that its pipeline takes: 16 kHz where it says nothing else
//! (`audio_in_sample_rate`), `--rate` otherwise. This is the leg's rate: the caller's samples arrive as they are. What the bot
//! says has its own rate in every frame (24 kHz where it says nothing else) and is resampled to the leg's.
//!
//! A bot hangs up by a frame of two seconds of silence and a close: this silence is no part of the call. There is no message for
//! the caller's hang-up but the close.
//!
//! The door takes calls from Pipecat's clients: there we are the [bot](super::Bot).

mod caller;
mod dial;
mod door;
mod frames;
mod hearing;
mod leg;
mod wire;

pub use caller::PipecatCallerLeg;
pub use dial::{MAX_MESSAGE, PipecatError, dial};
pub use door::PipecatDoor;
pub use frames::{Audio, BadFrame, Frame, encode_audio};
pub use leg::PipecatLeg;

use crate::transport::Capability;

/// What the wire can do, for the table in the README.
pub(crate) const CAPABILITY: Capability = Capability {
    wire: "Pipecat WebSocket",
    way_in: Some("`[doors.pipecat]`, ws:// and wss://"),
    way_out: Some("`pipecat-ws://`, `pipecat-wss://`"),
    audio: "s16le; to a bot 16 kHz (`--rate`), to a client 24 kHz (`rate`), any in",
    abilities: leg::ABILITIES,
    tried: "`pipecat-ai` 1.14.0, `@pipecat-ai/client-js` 1.13.1",
};
