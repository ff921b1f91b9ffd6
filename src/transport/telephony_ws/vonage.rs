//! Vonage's WebSockets (Voice API and Audio Connector): <https://developer.vonage.com/voice/voice-api/concepts/websockets>.
//!
//! Binary messages carry 16 bits, little-endian, at 8, 16 or 24 kHz, 20 ms in each. Text messages carry JSON: `websocket:connected` with the
//! form of the audio and the call's own headers, `websocket:dtmf`; from a bot `clear`, answered with `websocket:cleared`, and
//! `notify`, answered with `websocket:notify` once the audio before it was played. No message says that a stream stops: the connection
//! closes.

use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::protocol::Message;

use super::dialect::{BadMessage, Dialect, Format, Incoming, Outgoing, Received, Role, Start};
use super::json::{digit, field, object, string};
use crate::audio::Rate;

/// One call with Vonage.
pub(super) struct Vonage {
    role: Role,
    format: Format,
    begun: bool,
}

impl Vonage {
    pub(super) fn new(role: Role, format: Format) -> Self {
        Self { role, format, begun: false }
    }

    fn has_begun(&self, event: &str) -> Result<(), BadMessage> {
        if self.begun { Ok(()) } else { Err(BadMessage::Early(event.to_owned())) }
    }

    fn of_provider(&mut self, message: Map<String, Value>) -> Result<Option<Incoming>, BadMessage> {
        let event = string(&message, "event")?.to_owned();
        if event == "websocket:connected" {
            if self.begun {
                return Err(BadMessage::Twice);
            }
            self.format = format(string(&message, "content-type")?)?;
            self.begun = true;
            let parameters = message.clone();
            return Ok(Some(Incoming::Start(Start::new(Value::Object(message), &parameters))));
        }
        let told = match event.as_str() {
            "websocket:dtmf" if message.contains_key("dtmf") => Some(Incoming::Dtmf(digit(&message, "dtmf.digit")?)),
            "websocket:dtmf" => Some(Incoming::Dtmf(digit(&message, "digit")?)),
            "websocket:notify" => {
                Some(Incoming::Played(field(&message, "payload.mark").and_then(Value::as_str).unwrap_or_default().to_owned()))
            }
            "websocket:cleared" => None,
            "websocket:media:update" => Some(Incoming::Data(Value::Object(message))),
            "websocket:disconnected" => Some(Incoming::Stop("the provider's stream stopped".to_owned())),
            other => return Err(BadMessage::Unknown(other.to_owned())),
        };
        self.has_begun(&event)?;
        Ok(told)
    }

    /// A command of a bot.
    fn of_bot(message: &Map<String, Value>, told: &mut Vec<Incoming>) -> Result<(), BadMessage> {
        match string(message, "action")? {
            "clear" => {
                let cleared = json!({ "event": "websocket:cleared" });
                told.extend([Incoming::Clear, Incoming::Answer(Message::text(cleared.to_string()))]);
            }
            // The payload comes back as it is.
            "notify" => {
                let payload = field(message, "payload").filter(|payload| payload.is_object());
                told.push(Incoming::Mark(payload.ok_or(BadMessage::Field("payload", "object"))?.to_string()));
            }
            other => return Err(BadMessage::Unknown(other.to_owned())),
        }
        Ok(())
    }
}

impl Dialect for Vonage {
    fn format(&self) -> Format {
        self.format
    }

    fn read(&mut self, message: Received<'_>, told: &mut Vec<Incoming>) -> Result<(), BadMessage> {
        match (message, self.role) {
            (Received::Binary(bytes), _) => {
                self.has_begun("audio")?;
                told.push(Incoming::Audio(self.format.decode(bytes)?));
            }
            (Received::Text(text), Role::Bot) => told.extend(self.of_provider(object(text)?)?),
            (Received::Text(text), Role::Provider) => Self::of_bot(&object(text)?, told)?,
        }
        Ok(())
    }

    fn write(&mut self, said: Outgoing<'_>, messages: &mut Vec<Message>) {
        let said = match said {
            Outgoing::Begin(call) => {
                self.begun = true;
                let mut connected = Map::new();
                connected.insert("event".to_owned(), "websocket:connected".into());
                let content_type = format!("audio/l16;rate={}", self.format.rate.hz());
                connected.insert("content-type".to_owned(), content_type.into());
                connected.extend(call.parameters.clone());
                Value::Object(connected)
            }
            Outgoing::Audio(samples) => {
                return messages.extend(samples.chunks(self.format.rate.frame_len()).map(|samples| {
                    let mut frame = self.format.encode(samples);
                    // The end of an utterance is made as long as a message must be.
                    frame.resize(self.format.rate.frame_len() * 2, 0);
                    Message::binary(frame)
                }));
            }
            Outgoing::Dtmf(digit) => json!({ "event": "websocket:dtmf", "digit": digit, "duration": 100 }),
            Outgoing::Clear => json!({ "action": "clear" }),
            Outgoing::Mark(name) => json!({ "action": "notify", "payload": { "mark": name } }),
            Outgoing::Played(payload) => {
                let payload: Value = serde_json::from_str(payload).unwrap_or(Value::Null);
                json!({ "event": "websocket:notify", "payload": payload })
            }
            Outgoing::Stop | Outgoing::Refuse(_) => return,
        };
        messages.push(Message::text(said.to_string()));
    }
}

/// `audio/l16;rate=16000`.
fn format(content_type: &str) -> Result<Format, BadMessage> {
    let rate = content_type.strip_prefix("audio/l16;").and_then(|rest| rest.trim().strip_prefix("rate=")?.parse().ok());
    let known = rate.and_then(|hz: u32| Rate::try_from(hz).ok()).filter(|rate| *rate <= Rate::HZ_24000);
    known.map(Format::l16).ok_or_else(|| BadMessage::Format(content_type.to_owned()))
}
