//! Text in a room: Cekura's `livekit_chat`, and an agent built with LiveKit Agents in text mode.
//!
//! No audio is published. The caller's messages are text streams of the topic `lk.chat`, the agent's those of `lk.transcription`
//! (<https://docs.livekit.io/agents/build/text/>). An agent that is dispatched is told `"text_mode": true` in its job's metadata.

mod leg;
mod segments;

use serde_json::{Map, Value, json};

pub use leg::RoomChat;

use crate::call::Abilities;
use crate::transport::Capability;

/// What a chat in a room carries.
pub const ABILITIES: Abilities = Abilities { text_only: true, text: true, transcripts: true, data: true, ..Abilities::NONE };

/// Chats in rooms, as [`crate::transport::capability_table`] has them.
pub const CAPABILITY: Capability = Capability {
    wire: "LiveKit room, text",
    way_in: None,
    way_out: Some("`livekit-chat://ROOM?agent=NAME`"),
    audio: "none",
    abilities: ABILITIES,
    tried: "livekit-server 1.13.5, `livekit` 1.1.21 and `livekit-agents` 1.8.9 (Python)",
};

/// A job's metadata that asks for text: an object gets `"text_mode": true`, anything else stands beside it as `metadata`.
#[must_use]
pub(crate) fn text_mode(metadata: &str) -> String {
    let mut told = match serde_json::from_str(metadata) {
        Ok(Value::Object(object)) => object,
        Ok(other) => Map::from_iter([("metadata".to_owned(), other)]),
        Err(_) if metadata.is_empty() => Map::new(),
        Err(_) => Map::from_iter([("metadata".to_owned(), json!(metadata))]),
    };
    told.insert("text_mode".to_owned(), true.into());
    Value::Object(told).to_string()
}
