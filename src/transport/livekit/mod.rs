//! LiveKit.
//!
//! [`Room`] is a room without libwebrtc: signalling is LiveKit's own crate, media is [`webrtc`](super::webrtc). [`Server`] is the
//! server's API. [`Worker`] takes calls in: an agent worker, to which the server gives jobs. [`recorder`] records rooms unseen.
//! [`session`] is the wire on which an agent built with LiveKit Agents tells of itself: what it heard and said, the tools that it
//! called, its states and its latencies. [`chat`] is text in a room. [`console`] calls such an agent over TCP, with no LiveKit server between.

mod address;
pub mod chat;
pub mod console;
mod data;
mod dial;
mod error;
mod ice;
mod leg;
mod net;
mod party;
pub mod recorder;
mod room;
mod roster;
mod sdp;
mod server;
pub mod session;
mod signal;
mod worker;

pub use address::{CAPABILITY, RoomAddress};
pub use data::{Data, DataError};
pub use dial::{Entrance, RoomCall, RoomCallError, RoomCallProblem, dial, dial_chat};
pub use error::{Disconnect, JoinError};
pub use leg::RoomLeg;
pub use room::{Room, RoomEvent, RoomOptions};
pub use roster::{Participant, ParticipantKind, Track};
pub use server::{Grants, Server, ServerError};
pub use worker::{Worker, WorkerError, WorkerOptions};
