//! Genesys AudioHook, version 2, as Audio Connector uses it for bots: <https://developer.genesys.cloud/devapps/audiohook>.
//!
//! Binary messages carry mu-law at 8 kHz. Text messages carry JSON, numbered on both sides: Genesys says `open`, the bot `opened`; then
//! `ping` and `pong`, `dtmf`, `update`; a bot's `event` with `barge_in` throws away what was not heard. Genesys says `close`,
//! answered with `closed`; a bot that wants to end says `disconnect`, and is answered with `close`. There are no marks.

use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::protocol::Message;
use uuid::Uuid;

use super::dialect::{BadMessage, CallDetails, Dialect, Format, Incoming, Outgoing, Received, Role, Start};
use super::json::{digit, field, number, object, string};

/// The version that is spoken.
const VERSION: &str = "2";
/// After so much audio the provider says `ping`: 5 s.
const PING_EVERY: u64 = 5 * 8000;

/// One AudioHook session.
pub(super) struct Genesys {
    role: Role,
    /// The session's id, once it is known.
    id: Option<String>,
    /// The far side has opened it.
    open: bool,
    /// The bot has asked for a pause.
    paused: bool,
    /// The number of our last message, and of the far side's.
    ours: u64,
    theirs: u64,
    /// Samples that the provider has sent.
    samples: u64,
}

impl Genesys {
    pub(super) fn new(role: Role) -> Self {
        Self { role, id: None, open: false, paused: false, ours: 0, theirs: 0, samples: 0 }
    }

    /// A message of ours.
    fn message(&mut self, kind: &str, parameters: Value) -> Message {
        self.ours += 1;
        let theirs = if self.role == Role::Bot { "clientseq" } else { "serverseq" };
        let position = Format::PCMU.rate.duration_of(self.samples).as_secs_f64();
        let message = json!({
            "version": VERSION,
            "id": self.id,
            "type": kind,
            "seq": self.ours,
            theirs: self.theirs,
            "position": format!("PT{position}S"),
            "parameters": parameters,
        });
        Message::text(message.to_string())
    }

    fn answer(&mut self, kind: &str, parameters: Value) -> Incoming {
        Incoming::Answer(self.message(kind, parameters))
    }

    /// What every message must have.
    fn check(&mut self, message: &Map<String, Value>, kind: &str) -> Result<(), BadMessage> {
        let version = string(message, "version")?;
        if version != VERSION {
            return Err(BadMessage::Version(version.to_owned()));
        }
        let theirs = string(message, "id")?;
        let opens = self.role == Role::Bot && kind == "open";
        match &self.id {
            Some(_) if opens => return Err(BadMessage::Twice),
            Some(ours) if ours != theirs => {
                return Err(BadMessage::Stream { theirs: theirs.to_owned(), ours: ours.clone() });
            }
            None if !opens => return Err(BadMessage::Early(kind.to_owned())),
            _ => {}
        }
        let (got, wanted) = (number(message, "seq").ok_or(BadMessage::Field("seq", "number"))?, self.theirs + 1);
        // One that is missing is told of once.
        self.theirs = got.max(self.theirs);
        if got == wanted { Ok(()) } else { Err(BadMessage::Sequence { got, wanted }) }
    }

    fn open(&mut self, message: Map<String, Value>, told: &mut Vec<Incoming>) -> Result<(), BadMessage> {
        let offered = field(&message, "parameters.media").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let media = offered.iter().find(|media| is_ours(media)).cloned();
        let media = media.ok_or_else(|| BadMessage::Format(Value::from(offered).to_string()))?;
        self.id = Some(string(&message, "id")?.to_owned());
        self.open = true;
        told.push(self.answer("opened", json!({ "startPaused": false, "media": [media] })));
        let variables = field(&message, "parameters.inputVariables").and_then(Value::as_object).cloned().unwrap_or_default();
        told.push(Incoming::Start(Start::new(Value::Object(message), &variables)));
        Ok(())
    }

    fn of_provider(&mut self, kind: &str, message: Map<String, Value>, told: &mut Vec<Incoming>) -> Result<(), BadMessage> {
        match kind {
            "open" => return self.open(message, told),
            "ping" => told.push(self.answer("pong", json!({}))),
            "dtmf" => told.push(Incoming::Dtmf(digit(&message, "parameters.digit")?)),
            "close" => {
                let reason = field(&message, "parameters.reason").and_then(Value::as_str).unwrap_or("end").to_owned();
                told.push(self.answer("closed", json!({})));
                told.push(Incoming::Stop(format!("the session was closed: {reason}")));
            }
            "update" | "paused" | "resumed" | "discarded" | "error" | "playback_started" | "playback_completed" => {
                told.push(Incoming::Data(Value::Object(message)));
            }
            other => return Err(BadMessage::Unknown(other.to_owned())),
        }
        Ok(())
    }

    fn of_bot(&mut self, kind: &str, message: Map<String, Value>, told: &mut Vec<Incoming>) -> Result<(), BadMessage> {
        match kind {
            "opened" if self.open => return Err(BadMessage::Twice),
            "opened" => {
                let media = field(&message, "parameters.media.0").or_else(|| first(&message));
                if !media.is_some_and(is_ours) {
                    return Err(BadMessage::Format(media.map_or_else(|| "nothing".to_owned(), Value::to_string)));
                }
                self.open = true;
                self.paused = field(&message, "parameters.startPaused").and_then(Value::as_bool).unwrap_or_default();
                told.push(Incoming::Start(Start::new(Value::Object(message), &Map::new())));
            }
            "pong" | "updated" => {}
            "event" => {
                let entities = field(&message, "parameters.entities").and_then(Value::as_array);
                let entities = entities.ok_or(BadMessage::Field("parameters.entities", "array"))?;
                if entities.iter().any(|entity| entity.get("type").and_then(Value::as_str) == Some("barge_in")) {
                    told.push(Incoming::Clear);
                } else {
                    told.push(Incoming::Data(Value::Object(message)));
                }
            }
            "pause" => {
                self.paused = true;
                told.push(self.answer("paused", json!({})));
            }
            "resume" => {
                self.paused = false;
                told.push(self.answer("resumed", json!({})));
            }
            "disconnect" => {
                let reason = field(&message, "parameters.reason").and_then(Value::as_str).unwrap_or("completed").to_owned();
                told.push(Incoming::Data(Value::Object(message)));
                told.push(self.answer("close", json!({ "reason": "disconnect" })));
                if reason == "error" {
                    told.push(Incoming::Data(json!({ "genesys": "the bot disconnected with an error" })));
                }
            }
            "closed" => told.push(Incoming::Stop(String::new())),
            "error" => told.push(Incoming::Data(Value::Object(message))),
            other => return Err(BadMessage::Unknown(other.to_owned())),
        }
        Ok(())
    }

    fn begin(&mut self, call: &CallDetails) -> Message {
        self.id = Some(call.stream.to_string());
        self.message(
            "open",
            json!({
                "organizationId": Uuid::nil().to_string(),
                "conversationId": call.call.to_string(),
                "participant": { "id": call.call.to_string(), "ani": "trunkline", "aniName": "", "dnis": "agent" },
                "media": [{ "type": "audio", "format": "PCMU", "channels": ["external"], "rate": 8000 }],
                "language": "en-US",
                "inputVariables": call.parameters,
            }),
        )
    }
}

/// The first of the media in a message.
fn first(message: &Map<String, Value>) -> Option<&Value> {
    field(message, "parameters.media")?.get(0)
}

/// Mu-law at 8 kHz of the customer alone.
fn is_ours(media: &Value) -> bool {
    media.get("format").and_then(Value::as_str) == Some("PCMU")
        && media.get("rate").and_then(Value::as_u64) == Some(8000)
        && media.get("channels") == Some(&json!(["external"]))
}

impl Dialect for Genesys {
    fn format(&self) -> Format {
        Format::PCMU
    }

    fn read(&mut self, message: Received<'_>, told: &mut Vec<Incoming>) -> Result<(), BadMessage> {
        let text = match message {
            Received::Text(text) => text,
            Received::Binary(_) if !self.open => return Err(BadMessage::Early("audio".to_owned())),
            Received::Binary(bytes) => {
                told.push(Incoming::Audio(Format::PCMU.decode(bytes)?));
                return Ok(());
            }
        };
        let message = object(text)?;
        let kind = string(&message, "type")?.to_owned();
        self.check(&message, &kind)?;
        match self.role {
            Role::Bot => self.of_provider(&kind, message, told),
            Role::Provider => self.of_bot(&kind, message, told),
        }
    }

    fn write(&mut self, said: Outgoing<'_>, messages: &mut Vec<Message>) {
        match (self.role, said) {
            (Role::Provider, Outgoing::Begin(call)) => messages.push(self.begin(call)),
            (Role::Provider, Outgoing::Audio(_)) if self.paused || !self.open => {}
            (Role::Provider, Outgoing::Audio(samples)) => {
                messages.push(Message::binary(Format::PCMU.encode(samples)));
                let before = self.samples / PING_EVERY;
                self.samples += samples.len() as u64;
                if self.samples / PING_EVERY > before {
                    messages.push(self.message("ping", json!({})));
                }
            }
            (Role::Provider, Outgoing::Dtmf(digit)) => messages.push(self.message("dtmf", json!({ "digit": digit }))),
            (Role::Provider, Outgoing::Stop) => messages.push(self.message("close", json!({ "reason": "end" }))),
            (Role::Bot, Outgoing::Audio(samples)) => messages.push(Message::binary(Format::PCMU.encode(samples))),
            (Role::Bot, Outgoing::Clear) => {
                messages.push(self.message("event", json!({ "entities": [{ "type": "barge_in", "data": {} }] })));
            }
            (Role::Bot, Outgoing::Stop) => messages.push(self.message("disconnect", json!({ "reason": "completed" }))),
            (Role::Bot, Outgoing::Refuse(info)) => {
                messages.push(self.message("disconnect", json!({ "reason": "error", "info": info })));
            }
            _ => {}
        }
    }
}
