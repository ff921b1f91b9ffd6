//! Plivo audio streaming, bidirectional:
//! <https://www.plivo.com/docs/voice-agents/audio-streaming/concepts/audio-streaming-reference>.
//!
//! Mu-law at 8 kHz, or 16 bits at 8 or 16 kHz. A bot's `checkpoint` is answered with `playedStream`, its `clearAudio` with
//! `clearedAudio`; its `sendDTMF` presses keys. It need not name the stream: Plivo's own example of a `playAudio` does not. The
//! parameters are one string, `extra_headers`. No message says that a stream stops: the connection closes.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::dialect::{BadMessage, CallDetails, Codec, Format};
use super::json::{field, number};
use super::media_streams::{Naming, Spelling, Words};
use crate::audio::Rate;

pub(super) static SPELLING: Spelling = Spelling {
    stream: "streamId",
    stream_of_start: "start.streamId",
    bot_names_stream: Naming::Often,
    in_order: true,
    least: 0,
    sequence: "sequenceNumber",
    numbers: true,
    words: Words {
        play: "playAudio",
        mark: "checkpoint",
        clear: "clearAudio",
        press: Some("sendDTMF"),
        played: "playedStream",
        cleared: Some("clearedAudio"),
        name: "name",
    },
    begin,
    stop: |_| None,
    stream_id: |call| call.stream.to_string(),
    parameters,
    format,
    media: |format, payload| json!({ "contentType": content_type(format), "sampleRate": format.rate.hz(), "payload": payload }),
    dtmf: |digit, timestamp| json!({ "track": "inbound", "digit": digit, "timestamp": timestamp.to_string() }),
};

fn content_type(format: Format) -> &'static str {
    if format.codec == Codec::L16 { "audio/x-l16" } else { "audio/x-mulaw" }
}

fn begin(call: &CallDetails, format: Format) -> Vec<Value> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let headers: Vec<_> = call.parameters.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
    vec![json!({
        "event": "start",
        "sequenceNumber": 1,
        "start": {
            "callId": call.call.to_string(),
            "streamId": call.stream.to_string(),
            "accountId": format!("MA{}", Uuid::nil().simple()),
            "tracks": ["inbound"],
            "mediaFormat": { "encoding": content_type(format), "sampleRate": format.rate.hz() },
        },
        "extra_headers": headers.join(";"),
    })]
}

/// `name=value` pairs, with a semicolon between them, or a comma where there is none.
fn parameters(start: &Map<String, Value>) -> Map<String, Value> {
    let headers = field(start, "extra_headers").and_then(Value::as_str).unwrap_or_default();
    let between = if headers.contains(';') { ';' } else { ',' };
    let pairs = headers.split(between).filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().into())).collect()
}

fn format(start: &Map<String, Value>) -> Result<Format, BadMessage> {
    let encoding = field(start, "start.mediaFormat.encoding").and_then(Value::as_str).unwrap_or("audio/x-mulaw");
    let rate = number(start, "start.mediaFormat.sampleRate").unwrap_or(8000);
    match (encoding, rate) {
        ("audio/x-mulaw", 8000) => Ok(Format::PCMU),
        ("audio/x-l16", 8000) => Ok(Format::l16(Rate::HZ_8000)),
        ("audio/x-l16", 16_000) => Ok(Format::l16(Rate::HZ_16000)),
        _ => Err(BadMessage::Format(format!("{encoding}, {rate} Hz"))),
    }
}
