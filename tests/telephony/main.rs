//! The dialects of telephony providers: fixtures, Pipecat's own serializers as the oracle both ways, real Pipecat bots, our doors and
//! dials against each other, and hostile peers.

#[path = "../common/mod.rs"]
mod common;

mod bots;
mod doors;
mod hostile;
mod messages;
mod oracle;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use trunkline::transport::telephony_ws::{BadMessage, Dialect, Format, Incoming, Provider, Received, Role};

/// The level of the tones: sines of 8000.
const TONE_DBFS: f64 = -15.3;

/// A fixture's messages.
fn fixture(provider: Provider, file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/telephony").join(provider.name()).join(file);
    serde_json::from_slice(&std::fs::read(path).expect("a fixture")).expect("messages")
}

/// A message of a fixture as it goes over the wire.
fn wire(message: &Value) -> Message {
    match message["binary"].as_str() {
        Some(base64) => Message::binary(STANDARD.decode(base64).expect("base64")),
        None => Message::text(message.to_string()),
    }
}

/// A message as a fixture shows it.
fn shown(message: &Message) -> Value {
    match message {
        Message::Binary(bytes) => json!({ "binary": STANDARD.encode(bytes) }),
        Message::Text(text) => serde_json::from_str(text).expect("JSON"),
        other => panic!("{other:?}"),
    }
}

fn read(dialect: &mut dyn Dialect, message: &Message, told: &mut Vec<Incoming>) -> Result<(), BadMessage> {
    let received = match message {
        Message::Text(text) => Received::Text(text),
        Message::Binary(bytes) => Received::Binary(bytes),
        other => panic!("{other:?}"),
    };
    dialect.read(received, told)
}

/// What messages mean to this side. None of them is wrong.
fn understood(dialect: &mut dyn Dialect, messages: &[Value]) -> Vec<Incoming> {
    let mut told = Vec::new();
    for message in messages {
        read(dialect, &wire(message), &mut told).unwrap_or_else(|problem| panic!("{problem}: {message}"));
    }
    told
}

fn audio_of(told: &[Incoming]) -> Vec<i16> {
    let audio = told.iter().filter_map(|told| match told {
        Incoming::Audio(samples) => Some(samples.clone()),
        _ => None,
    });
    audio.flatten().collect()
}

fn usual(provider: Provider, role: Role) -> Box<dyn Dialect> {
    provider.dialect(role, provider.formats()[0])
}

/// A tone of 500 Hz from its sample `from` on.
fn tone(rate: u32, from: usize, samples: usize) -> Vec<i16> {
    let sample = |at: usize| 8000.0 * (std::f64::consts::TAU * 500.0 * at as f64 / f64::from(rate)).sin();
    (from..from + samples).map(|at| sample(at) as i16).collect()
}

/// The two are the same but for what the coding loses: of G.711 a thirty-second part, and a little where it is quiet.
fn assert_alike(format: Format, got: &[i16], sent: &[i16]) {
    assert_eq!(got.len(), sent.len(), "{format}");
    for (at, (got, sent)) in got.iter().zip(sent).enumerate() {
        let lost = match format.codec {
            trunkline::transport::telephony_ws::Codec::L16 => 0,
            _ => i32::from(sent.unsigned_abs()) / 32 + 16,
        };
        assert!((i32::from(*got) - i32::from(*sent)).abs() <= lost, "{format}, sample {at}: {got} for {sent}");
    }
}
