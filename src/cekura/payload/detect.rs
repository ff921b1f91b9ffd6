//! Which mode a body is for, by the keys that only one mode has.

use serde_json::Value;

use super::Mode;

/// Keys of the body, or of its entries, that tell a mode.
const TELLING: [(&str, Mode); 12] = [
    ("spec", Mode::Spec),
    // A bare suite: not the body, but nothing else either.
    ("version", Mode::Spec),
    ("livekit_data", Mode::LivekitV2),
    ("pipecat_data", Mode::PipecatV2),
    ("sip_endpoint", Mode::Sip),
    ("vapi_assistant_id", Mode::VapiWebrtc),
    ("retell_agent_id", Mode::RetellWebrtc),
    ("elevenlabs_agent_id", Mode::Elevenlabs),
    ("elevenlabs_data", Mode::Elevenlabs),
    ("websocket_headers", Mode::Text),
    ("timeout", Mode::ApiChat),
    ("chirp_data", Mode::Chirp),
];

/// The mode of a body.
///
/// # Errors
/// The modes that it may be for, when its keys fit several.
pub fn detect(body: &Value) -> Result<Mode, Vec<Mode>> {
    if let Some((_, mode)) = TELLING.iter().find(|(key, _)| body.get(*key).is_some()) {
        return Ok(*mode);
    }
    let entries: Vec<&Value> = body.get("scenarios").and_then(Value::as_array).into_iter().flatten().collect();
    let has = |key: &str| entries.iter().any(|entry| entry.get(key).is_some());
    if has("websocket_url") {
        Ok(Mode::Websocket)
    } else if has("pipecat_room_url") {
        Ok(Mode::Pipecat)
    } else if has("livekit_room_url") {
        // Only the chat takes an agent and data messages.
        let chat = body.get("agent").is_some() || has("publish_data_message");
        if chat { Ok(Mode::LivekitChat) } else { Err(vec![Mode::Livekit, Mode::LivekitChat]) }
    } else if has("scenario") {
        Err(vec![Mode::LivekitV2, Mode::PipecatV2])
    } else if body.get("websocket_url").is_some() {
        Err(vec![Mode::Chirp, Mode::Text])
    } else {
        Err(Mode::ALL.into_iter().filter(|mode| mode.selects() && mode.entry().is_none()).collect())
    }
}
