//! Exotel's Voicebot applet: <https://developer.exotel.com/docs/agentstream/websocket-protocol>.
//!
//! 16 bits, little-endian, at 8, 16 or 24 kHz.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::dialect::{BadMessage, CallDetails, Format};
use super::json::{members, number};
use super::media_streams::{Naming, Spelling, Words};
use crate::audio::Rate;

/// What Exotel asks for, in bytes: less "risks audio distortion", whatever the rate
/// (<https://developer.exotel.com/docs/agentstream/stream-voicebot-applet>). At 8 kHz it is 200 ms.
const LEAST: usize = 3200;

pub(super) static SPELLING: Spelling = Spelling {
    stream: "stream_sid",
    stream_of_start: "start.stream_sid",
    bot_names_stream: Naming::Always,
    in_order: true,
    least: LEAST,
    sequence: "sequence_number",
    numbers: false,
    words: Words::TWILIO,
    begin,
    stop: |call| {
        Some(
            json!({ "call_sid": call.call.simple().to_string(), "account_sid": Uuid::nil().simple().to_string(), "reason": "callended" }),
        )
    },
    stream_id: |call| call.stream.simple().to_string(),
    parameters: |start| members(start, "start.custom_parameters"),
    format,
    media: |_, payload| json!({ "payload": payload }),
    dtmf: |digit, _| json!({ "digit": digit, "duration": "100" }),
};

fn begin(call: &CallDetails, format: Format) -> Vec<Value> {
    let stream = call.stream.simple().to_string();
    let start = json!({
        "event": "start",
        "sequence_number": "1",
        "stream_sid": stream,
        "start": {
            "stream_sid": stream,
            "call_sid": call.call.simple().to_string(),
            "account_sid": Uuid::nil().simple().to_string(),
            "from": "trunkline",
            "to": "agent",
            "custom_parameters": call.parameters,
            "media_format": { "encoding": "base64", "sample_rate": format.rate.hz().to_string(), "bit_rate": "16" },
        },
    });
    vec![json!({ "event": "connected" }), start]
}

fn format(start: &Map<String, Value>) -> Result<Format, BadMessage> {
    let rate = number(start, "start.media_format.sample_rate").unwrap_or(8000);
    let known = u32::try_from(rate).ok().and_then(|hz| Rate::try_from(hz).ok());
    known.map(Format::l16).ok_or_else(|| BadMessage::Format(format!("{rate} Hz")))
}
