//! CHIRP's messages and the state of a session. Owns no socket and no clock.

use std::fmt;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::call::{Mark, MarkSource};

/// The longest utterance id that is taken over.
const LONGEST_ID: usize = 256;

/// The codes of `session.error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// Not JSON, not an object, an unknown type, or a `speech.completed` that no `speech.started` came before.
    InvalidMessage,
    /// A required field is not there.
    MissingField,
    /// An audio message that is empty or holds half a sample.
    InvalidAudioFrame,
    /// Something failed on the sender's side; the session ends.
    InternalError,
}

impl ErrorCode {
    /// As it is sent.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidMessage => "INVALID_MESSAGE",
            Self::MissingField => "MISSING_FIELD",
            Self::InvalidAudioFrame => "INVALID_AUDIO_FRAME",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A message that the far side should not have sent. The session goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What goes into `session.error`.
    pub code: ErrorCode,
    /// What was wrong.
    pub message: String,
}

/// A message that makes sense.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// Audio.
    Audio(Vec<i16>),
    /// The far side began to speak: what is played to it stops.
    SpeechStarted(Mark),
    /// The far side stopped.
    SpeechCompleted(Mark),
    /// The far side complains of us.
    Error {
        /// Its code, as it came.
        code: String,
        /// Its words.
        message: String,
        /// The far side is about to close the session.
        fatal: bool,
    },
}

/// What a session knows of the far side.
#[derive(Debug, Default)]
pub struct Session {
    far_utterance: Option<String>,
    our_utterance: Option<String>,
}

impl Session {
    /// Reads a binary message.
    ///
    /// # Errors
    /// A [`Refusal`] for an empty message and for one with half a sample.
    pub fn binary(&self, bytes: &[u8]) -> Result<Incoming, Refusal> {
        let refuse = |message: String| Err(Refusal { code: ErrorCode::InvalidAudioFrame, message });
        match bytes.len() {
            0 => refuse("an audio message must not be empty".to_owned()),
            odd if odd % 2 == 1 => refuse(format!("{odd} bytes are no whole number of 16-bit samples")),
            _ => Ok(Incoming::Audio(crate::audio::from_s16le(bytes))),
        }
    }

    /// Reads a text message.
    ///
    /// # Errors
    /// A [`Refusal`] for what is no event.
    pub fn text(&mut self, text: &str) -> Result<Incoming, Refusal> {
        let invalid = |message: String| Refusal { code: ErrorCode::InvalidMessage, message };
        let event: Value = serde_json::from_str(text).map_err(|error| invalid(format!("not JSON: {error}")))?;
        if !event.is_object() {
            return Err(invalid("an event must be a JSON object".to_owned()));
        }
        let kind = require_str(&event, "type", "type")?.to_owned();
        require(&event, "id")?;
        require(&event, "ts_ms")?;
        let data = require(&event, "data")?;
        match kind.as_str() {
            "speech.started" => {
                let mark = mark(data)?;
                self.far_utterance = Some(mark.utterance.clone());
                Ok(Incoming::SpeechStarted(mark))
            }
            "speech.completed" => {
                let mark = mark(data)?;
                if self.far_utterance.take_if(|open| *open == mark.utterance).is_none() {
                    return Err(invalid(format!("no speech.started came before for utterance {:?}", mark.utterance)));
                }
                Ok(Incoming::SpeechCompleted(mark))
            }
            "session.error" => {
                let code = require_str(data, "code", "data.code")?.to_owned();
                let message = data.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
                let fatal = code == ErrorCode::InternalError.as_str();
                Ok(Incoming::Error { code, message, fatal })
            }
            other => Err(invalid(format!("unknown event type {other:?}"))),
        }
    }

    /// Our side began to speak: the event to send. An utterance that is still open is left behind.
    pub fn start_speech(&mut self, mark: &Mark, ts_ms: u64) -> String {
        self.our_utterance = Some(mark.utterance.clone());
        speech_event("speech.started", mark, ts_ms)
    }

    /// Our side stopped: the event to send, if this utterance is open.
    pub fn complete_speech(&mut self, mark: &Mark, ts_ms: u64) -> Option<String> {
        self.our_utterance.take_if(|open| *open == mark.utterance)?;
        Some(speech_event("speech.completed", mark, ts_ms))
    }

    /// The event that tells the far side of its mistake, or of ours.
    #[must_use]
    pub fn error(code: ErrorCode, message: &str, ts_ms: u64) -> String {
        event("session.error", json!({ "code": code.as_str(), "message": message }), ts_ms)
    }
}

fn speech_event(kind: &str, mark: &Mark, ts_ms: u64) -> String {
    let mut data = json!({ "utterance_id": mark.utterance });
    if let Some(sample) = mark.position {
        data["sample"] = sample.into();
    }
    if let Some(condition) = mark.interruption.filter(|_| kind == "speech.started") {
        data["interruption"] = condition.into();
    }
    event(kind, data, ts_ms)
}

fn event(kind: &str, data: Value, ts_ms: u64) -> String {
    json!({ "type": kind, "id": Uuid::new_v4().to_string(), "ts_ms": ts_ms, "data": data }).to_string()
}

fn mark(data: &Value) -> Result<Mark, Refusal> {
    let utterance: String = require_str(data, "utterance_id", "data.utterance_id")?.chars().take(LONGEST_ID).collect();
    let position = data.get("sample").and_then(Value::as_u64);
    let source = if position.is_some() { MarkSource::Script } else { MarkSource::Signalled };
    let interruption = data.get("interruption").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    Ok(Mark { utterance, position, source, interruption })
}

fn require<'a>(object: &'a Value, field: &str) -> Result<&'a Value, Refusal> {
    let missing = || Refusal { code: ErrorCode::MissingField, message: format!("the field {field:?} is missing") };
    object.get(field).filter(|value| !value.is_null()).ok_or_else(missing)
}

fn require_str<'a>(object: &'a Value, field: &str, shown: &str) -> Result<&'a str, Refusal> {
    let missing = || Refusal { code: ErrorCode::MissingField, message: format!("the field {shown:?} is missing") };
    let value = object.get(field).filter(|value| !value.is_null()).ok_or_else(missing)?;
    let wrong = || Refusal { code: ErrorCode::InvalidMessage, message: format!("the field {shown:?} must be a string") };
    value.as_str().ok_or_else(wrong)
}
