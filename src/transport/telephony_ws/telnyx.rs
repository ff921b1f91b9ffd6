//! Telnyx media streaming, bidirectional as RTP payloads:
//! <https://developers.telnyx.com/api-reference/websockets/stream-call-media-over-websocket>.
//!
//! Mu-law or A-law at 8 kHz. A bot's messages carry no stream id. Sound may come out of order.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::dialect::{BadMessage, CallDetails, Codec, Format};
use super::json::{field, members, number};
use super::media_streams::{Naming, Spelling, Words};

pub(super) static SPELLING: Spelling = Spelling {
    stream: "stream_id",
    stream_of_start: "stream_id",
    bot_names_stream: Naming::Never,
    in_order: false,
    least: 0,
    sequence: "sequence_number",
    numbers: false,
    words: Words::TWILIO,
    begin,
    stop: |call| Some(json!({ "user_id": Uuid::nil().to_string(), "call_control_id": call_control_id(call) })),
    stream_id: |call| call.stream.to_string(),
    parameters: |start| members(start, "start.custom_parameters"),
    format,
    media: |_, payload| json!({ "payload": payload }),
    dtmf: |digit, _| json!({ "digit": digit }),
};

fn call_control_id(call: &CallDetails) -> String {
    format!("v3:{}", call.call)
}

fn begin(call: &CallDetails, format: Format) -> Vec<Value> {
    let encoding = if format.codec == Codec::Pcma { "PCMA" } else { "PCMU" };
    let start = json!({
        "event": "start",
        "sequence_number": "1",
        "start": {
            "user_id": Uuid::nil().to_string(),
            "call_control_id": call_control_id(call),
            "from": "trunkline",
            "to": "agent",
            "media_format": { "encoding": encoding, "sample_rate": 8000, "channels": 1 },
            "custom_parameters": call.parameters,
        },
        "stream_id": call.stream.to_string(),
    });
    vec![json!({ "event": "connected", "version": "1.0.0" }), start]
}

fn format(start: &Map<String, Value>) -> Result<Format, BadMessage> {
    let encoding = field(start, "start.media_format.encoding").and_then(Value::as_str).unwrap_or("PCMU");
    let rate = number(start, "start.media_format.sample_rate").unwrap_or(8000);
    match (encoding, rate) {
        ("PCMU", 8000) => Ok(Format::PCMU),
        ("PCMA", 8000) => Ok(Format::PCMA),
        _ => Err(BadMessage::Format(format!("{encoding}, {rate} Hz"))),
    }
}
