//! LiveKit: rooms, without libwebrtc. Signalling and the server's API are LiveKit's own crates; media is
//! [`webrtc`](super::webrtc).

mod data;
mod error;
mod net;
mod room;
mod roster;
mod sdp;
mod server;
mod signal;

pub use data::{Data, DataError};
pub use error::{Disconnect, JoinError};
pub use room::{Room, RoomEvent, RoomOptions};
pub use roster::{Participant, ParticipantKind, Track};
pub use server::{Grants, Server, ServerError};
