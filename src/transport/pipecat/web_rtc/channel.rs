//! What goes over the data channel: JSON text, each message with a `type`. `signalling` is about the connection itself; all else is
//! the application's, which is [RTVI](super::super::rtvi) mostly. `ping` and what follows it is no JSON: it keeps the connection
//! alive (`pipecat/transports/smallwebrtc/connection.py` and `@pipecat-ai/small-webrtc-transport`).

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

/// How often a client says that it is there. A bot sends nothing to one that has said so, and has not for three seconds.
pub(super) const PING_EVERY: Duration = Duration::from_secs(1);
const SIGNALLING: &str = "signalling";

/// A message on the data channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelMessage {
    /// The client is there.
    Ping,
    /// About the connection.
    Signalling(Signal),
    /// The application's, as it came.
    Application(String),
}

/// What is said of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Signal {
    /// The client sends a track or sends it no more.
    #[serde(rename_all = "snake_case")]
    TrackStatus {
        /// Which: 0 is the microphone, 1 the camera, 2 the screen.
        receiver_index: u32,
        /// It is sent.
        enabled: bool,
    },
    /// The client is to make another offer.
    Renegotiate,
    /// The bot is gone.
    PeerLeft,
}

/// A message that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a message on the data channel {0}")]
pub struct BadChannelMessage(String);

impl ChannelMessage {
    /// Reads a message.
    ///
    /// # Errors
    /// [`BadChannelMessage`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BadChannelMessage> {
        let text = std::str::from_utf8(bytes).map_err(|_| BadChannelMessage("is not UTF-8".to_owned()))?;
        if text.starts_with("ping") {
            return Ok(Self::Ping);
        }
        let message: Value = serde_json::from_str(text).map_err(|error| BadChannelMessage(format!("is not JSON: {error}")))?;
        let kind = message.get("type").and_then(Value::as_str);
        let kind = kind.ok_or_else(|| BadChannelMessage("has no \"type\"".to_owned()))?;
        if kind != SIGNALLING {
            return Ok(Self::Application(text.to_owned()));
        }
        let signal = message.get("message").cloned().unwrap_or(Value::Null);
        let signal = serde_json::from_value(signal).map_err(|error| BadChannelMessage(format!("is no signalling: {error}")))?;
        Ok(Self::Signalling(signal))
    }
}

/// Says that the client is there, `since` it came.
pub(super) fn ping(since: Duration) -> String {
    format!("ping: {}", since.as_millis())
}

/// Says that the microphone is on.
pub(super) fn microphone_on() -> String {
    json!({"type": SIGNALLING, "message": {"type": "trackStatus", "receiver_index": 0, "enabled": true}}).to_string()
}

/// Says that we hang up.
pub(super) fn peer_left() -> String {
    json!({"type": SIGNALLING, "message": {"type": "peerLeft"}}).to_string()
}
