//! Twilio Media Streams, bidirectional (`<Connect><Stream>`): <https://www.twilio.com/docs/voice/media-streams/websocket-messages>.
//!
//! Mu-law at 8 kHz. A `mark` is answered when the audio before it was played, or at once when a `clear` throws it away.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::dialect::{BadMessage, CallDetails, Format};
use super::json::{field, members, number};
use super::media_streams::{Naming, Spelling, Words};

pub(super) static SPELLING: Spelling = Spelling {
    stream: "streamSid",
    stream_of_start: "start.streamSid",
    bot_names_stream: Naming::Always,
    in_order: true,
    least: 0,
    sequence: "sequenceNumber",
    numbers: false,
    words: Words::TWILIO,
    begin,
    stop: |call| Some(json!({ "accountSid": sid("AC", Uuid::nil()), "callSid": sid("CA", call.call) })),
    stream_id,
    parameters: |start| members(start, "start.customParameters"),
    format,
    media: |_, payload| json!({ "payload": payload }),
    dtmf: |digit, _| json!({ "track": "inbound_track", "digit": digit }),
};

fn sid(kind: &str, id: Uuid) -> String {
    format!("{kind}{}", id.simple())
}

fn stream_id(call: &CallDetails) -> String {
    sid("MZ", call.stream)
}

fn begin(call: &CallDetails, _: Format) -> Vec<Value> {
    let connected = json!({ "event": "connected", "protocol": "Call", "version": "1.0.0" });
    let start = json!({
        "event": "start",
        "sequenceNumber": "1",
        "start": {
            "accountSid": sid("AC", Uuid::nil()),
            "streamSid": stream_id(call),
            "callSid": sid("CA", call.call),
            "tracks": ["inbound"],
            "mediaFormat": { "encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1 },
            "customParameters": call.parameters,
        },
        "streamSid": stream_id(call),
    });
    vec![connected, start]
}

fn format(start: &Map<String, Value>) -> Result<Format, BadMessage> {
    let encoding = field(start, "start.mediaFormat.encoding").and_then(Value::as_str).unwrap_or("audio/x-mulaw");
    let rate = number(start, "start.mediaFormat.sampleRate").unwrap_or(8000);
    match (encoding, rate) {
        ("audio/x-mulaw", 8000) => Ok(Format::PCMU),
        _ => Err(BadMessage::Format(format!("{encoding}, {rate} Hz"))),
    }
}
