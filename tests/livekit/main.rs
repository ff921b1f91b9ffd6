//! Calls in the rooms of a real livekit-server, and the agents of `livekit-agents`.

#[path = "../common/mod.rs"]
mod common;

mod call;
mod console;
mod peers;
mod recorder;
mod sandbox;
mod worker;
