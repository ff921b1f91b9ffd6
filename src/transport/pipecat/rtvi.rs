//! RTVI: what a Pipecat bot tells of itself and is told, JSON beside the audio
//! (<https://docs.pipecat.ai/client/rtvi-standard>): `{"label": "rtvi-ai", "type", "id", "data"}`.
//!
//! A sans-IO core: messages in, a call's events out. What has no event of its own becomes data, `{"rtvi": type, …}` with the
//! message's data beside it.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::call::{FunctionCall, FunctionResult, LegEvent, Mark, MarkSource};

/// The protocol that we announce. Every bot takes it: one of another version says so and goes on.
pub const VERSION: &str = "2.2.0";
/// The label of every message.
pub(super) const LABEL: &str = "rtvi-ai";
/// The fault of a bot that says that something went wrong in it.
pub const BOT_ERROR: &str = "BOT_ERROR";

/// A message that cannot be read. The call goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// No JSON.
    #[error("a message is not JSON: {0}")]
    NotJson(String),
    /// An RTVI message without what it must have.
    #[error("an RTVI message{}: the field {field:?} is missing or no {wanted}", of(kind))]
    Field {
        /// Its type; empty where that is what is missing.
        kind: String,
        /// Which field.
        field: &'static str,
        /// What it must be.
        wanted: &'static str,
    },
}

fn of(kind: &str) -> String {
    if kind.is_empty() { String::new() } else { format!(" {kind:?}") }
}

/// What is known of a bot.
#[derive(Debug, Default)]
pub struct Rtvi {
    /// The version that the bot speaks; none until it is ready.
    version: Option<String>,
    utterances: u64,
    /// The utterance that has not ended.
    speaking: Option<String>,
    /// What of a sentence has been spoken, where the bot tells it word by word.
    spoken: Option<String>,
}

/// What a message means beside the call's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The bot has said what it had to say: the event that was given last.
    Stops,
    /// What of the bot's audio waits to be played is to be thrown away.
    Interrupted,
}

impl Rtvi {
    /// The bot has answered that it is ready.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.version.is_some()
    }

    /// Takes a message; what it means for the call goes into `out`.
    ///
    /// # Errors
    /// [`BadMessage`].
    pub fn take(&mut self, text: &str, out: &mut impl Extend<LegEvent>) -> Result<Option<Turn>, BadMessage> {
        let message: Value = serde_json::from_str(text).map_err(|error| BadMessage::NotJson(error.to_string()))?;
        if message.get("label").and_then(Value::as_str) != Some(LABEL) {
            out.extend([LegEvent::Data(message)]);
            return Ok(None);
        }
        let kind = message.get("type").and_then(Value::as_str);
        let kind = kind.ok_or(BadMessage::Field { kind: String::new(), field: "type", wanted: "string" })?;
        let field = |name: &str| message.get(name).unwrap_or(&Value::Null);
        let message = Message { kind, id: field("id"), data: field("data") };
        match kind {
            "bot-ready" => {
                self.version = Some(message.text("version")?.to_owned());
                out.extend([message.as_data()]);
            }
            "bot-started-speaking" => out.extend(self.starts()),
            "bot-stopped-speaking" => {
                let Some(utterance) = self.speaking.take() else { return Ok(None) };
                out.extend([LegEvent::SpeechStopped(mark(utterance))]);
                return Ok(Some(Turn::Stops));
            }
            "bot-interrupted" => {
                out.extend(self.spoken.take().map(LegEvent::Transcript));
                out.extend([message.as_data()]);
                return Ok(Some(Turn::Interrupted));
            }
            // Since version 2 as it was spoken, before that as the model wrote it, a sentence at a time.
            "bot-output" if self.tells_what_is_spoken() => out.extend(self.output(&message)?),
            "bot-transcription" if !self.tells_what_is_spoken() => {
                out.extend([LegEvent::Transcript(message.text("text")?.to_owned())]);
            }
            "llm-function-call-in-progress" => out.extend([message.call()?]),
            "llm-function-call-stopped" => out.extend([message.result()?]),
            "error" | "error-response" => {
                let detail = message.text("error")?.to_owned();
                out.extend([LegEvent::Fault { code: BOT_ERROR.to_owned(), detail }]);
            }
            // Said again elsewhere, by the word or the token, or audio once more.
            "bot-output"
            | "bot-transcription"
            | "bot-llm-text"
            | "bot-tts-text"
            | "bot-tts-audio"
            | "llm-raw-text"
            | "tts-raw-text"
            | "stt-raw-text"
            | "llm-function-call-started"
            | "llm-function-call" => {}
            _ => out.extend([message.as_data()]),
        }
        Ok(None)
    }

    fn tells_what_is_spoken(&self) -> bool {
        let major = self.version.as_deref().and_then(|version| version.split('.').next());
        major.and_then(|major| major.parse().ok()).is_some_and(|major: u32| major >= 2)
    }

    /// A sentence comes when it is begun, as far as it is spoken, and when it is over; what is not spoken comes once.
    fn output(&mut self, message: &Message<'_>) -> Result<Option<LegEvent>, BadMessage> {
        let text = message.text("text")?.to_owned();
        let told = |field: &str| message.data.get(field);
        Ok(match told("spoken_status").and_then(Value::as_str) {
            Some("completed") => {
                self.spoken = None;
                Some(LegEvent::Transcript(text))
            }
            Some("in-progress") => {
                let so_far = told("spoken_progress").and_then(|progress| progress.get("accumulated_text")?.as_str());
                self.spoken = so_far.map(str::trim).filter(|words| !words.is_empty()).map(str::to_owned);
                None
            }
            _ if told("will_be_spoken") == Some(&Value::Bool(false)) => Some(LegEvent::Text(text)),
            _ => None,
        })
    }

    fn starts(&mut self) -> Option<LegEvent> {
        if self.speaking.is_some() {
            return None;
        }
        self.utterances += 1;
        let utterance = format!("bot-{}", self.utterances);
        self.speaking = Some(utterance.clone());
        Some(LegEvent::SpeechStarted(mark(utterance)))
    }
}

/// What is sent first: asks the bot to say when it is ready.
#[must_use]
pub fn client_ready() -> String {
    let about = json!({"library": "trunkline", "library_version": env!("CARGO_PKG_VERSION")});
    message("client-ready", json!({"version": VERSION, "about": about}))
}

/// Text for the bot, which answers it at once and aloud.
#[must_use]
pub fn send_text(text: &str) -> String {
    message("send-text", json!({"content": text, "options": {"run_immediately": true, "audio_response": true}}))
}

/// A keypad digit.
#[must_use]
pub fn dtmf(digit: char) -> String {
    message("dtmf", json!({"buttons": [digit.to_string()]}))
}

/// Other data: an RTVI message as it is, anything else as a client message of the type `data`.
#[must_use]
pub fn data(data: &Value) -> String {
    if data.get("label").and_then(Value::as_str) == Some(LABEL) {
        return data.to_string();
    }
    message("client-message", json!({"t": "data", "d": data}))
}

pub(super) fn message(kind: &str, data: Value) -> String {
    json!({"label": LABEL, "type": kind, "id": Uuid::new_v4().to_string(), "data": data}).to_string()
}

fn mark(utterance: String) -> Mark {
    Mark { utterance, position: None, source: MarkSource::Signalled, interruption: None }
}

/// A message of RTVI.
struct Message<'a> {
    kind: &'a str,
    /// Of an answer: that of what it answers.
    id: &'a Value,
    data: &'a Value,
}

impl Message<'_> {
    fn text(&self, field: &'static str) -> Result<&str, BadMessage> {
        let missing = || BadMessage::Field { kind: self.kind.to_owned(), field, wanted: "string" };
        self.data.get(field).and_then(Value::as_str).ok_or_else(missing)
    }

    fn as_data(&self) -> LegEvent {
        let mut told = Map::new();
        match self.data {
            Value::Null => {}
            Value::Object(data) => told.extend(data.clone()),
            other => drop(told.insert("data".to_owned(), other.clone())),
        }
        told.insert("rtvi".to_owned(), self.kind.into());
        if self.kind == "server-response" {
            told.insert("id".to_owned(), self.id.clone());
        }
        LegEvent::Data(Value::Object(told))
    }

    /// A bot tells the name of its function where its `function_call_report_level` is above `none`.
    fn call(&self) -> Result<LegEvent, BadMessage> {
        let id = self.text("tool_call_id")?.to_owned();
        let Some(name) = self.data.get("function_name").and_then(Value::as_str) else { return Ok(self.as_data()) };
        let arguments = self.data.get("arguments").cloned().unwrap_or(Value::Null);
        Ok(LegEvent::FunctionCall(FunctionCall { id, name: name.to_owned(), arguments }))
    }

    fn result(&self) -> Result<LegEvent, BadMessage> {
        let id = self.text("tool_call_id")?.to_owned();
        Ok(match self.data.get("result").filter(|result| !result.is_null()) {
            Some(result) => LegEvent::FunctionResult(FunctionResult { id, result: result.clone() }),
            None => self.as_data(),
        })
    }
}
