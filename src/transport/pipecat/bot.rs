//! RTVI from the bot's side: what a Pipecat client says and is told of the agent behind us.
//!
//! A sans-IO core, as [`super::rtvi`] is of the client's side: messages in, a call's events and answers out; a call's commands in,
//! messages out. What another bot behind us told passes as it came.

use serde_json::{Map, Value, json};

use super::rtvi::{BadMessage, LABEL, VERSION, message};
use crate::call::{FunctionResult, LegCommand, LegEvent};

/// The major version whose clients know `bot-output` in another form, or not at all.
const OLD: &str = "1.";

/// What is known of a client.
#[derive(Debug, Default)]
pub struct Bot {
    /// The version that is spoken with it; none until it says that it is ready.
    version: Option<String>,
    /// The id of its `client-ready`, while it waits for an answer.
    asks: Option<Value>,
    /// The call has begun: who asks is told that the bot is ready.
    begun: bool,
    sentences: u64,
}

/// What came of a client's message.
#[derive(Debug, Default, PartialEq)]
pub struct Understood {
    /// For the call.
    pub events: Vec<LegEvent>,
    /// For the client.
    pub answers: Vec<String>,
    /// It wants the call to end.
    pub leaves: bool,
}

impl Bot {
    /// Takes a message.
    ///
    /// # Errors
    /// [`BadMessage`], of which the client is to be told.
    pub fn take(&mut self, text: &str) -> Result<Understood, BadMessage> {
        let message: Value = serde_json::from_str(text).map_err(|error| BadMessage::NotJson(error.to_string()))?;
        let mut taken = Understood::default();
        if message.get("label").and_then(Value::as_str) != Some(LABEL) {
            taken.events.push(LegEvent::Data(message));
            return Ok(taken);
        }
        let kind = message.get("type").and_then(Value::as_str);
        let kind = kind.ok_or(BadMessage::Field { kind: String::new(), field: "type", wanted: "string" })?.to_owned();
        let data = message.get("data").unwrap_or(&Value::Null);
        let missing = |field, wanted| BadMessage::Field { kind: kind.clone(), field, wanted };
        let text = |field: &'static str| data.get(field).and_then(Value::as_str).ok_or_else(|| missing(field, "string"));
        match kind.as_str() {
            "client-ready" => {
                // An old client is spoken to in its own version, as Pipecat does.
                let version = data.get("version").and_then(Value::as_str).filter(|version| version.starts_with(OLD));
                self.version = Some(version.unwrap_or(VERSION).to_owned());
                self.asks = Some(message.get("id").cloned().unwrap_or_default());
                taken.answers.extend(self.ready());
            }
            "send-text" => taken.events.push(LegEvent::Text(text("content")?.to_owned())),
            "dtmf" => {
                let buttons = data.get("buttons").and_then(Value::as_array).ok_or_else(|| missing("buttons", "list"))?;
                let keys: Option<Vec<char>> = buttons.iter().map(key).collect();
                let keys = keys.ok_or_else(|| missing("buttons", "list of keys, 0-9, * and #"))?;
                taken.events.extend(keys.into_iter().map(LegEvent::Dtmf));
            }
            "llm-function-call-result" => {
                let (id, result) = (text("tool_call_id")?.to_owned(), data.get("result").cloned().unwrap_or_default());
                taken.events.push(LegEvent::FunctionResult(FunctionResult { id, result }));
            }
            "disconnect-bot" => taken.leaves = true,
            "raw-audio" | "raw-audio-batch" => {
                let problem = format!("{kind}: audio is taken as frames");
                taken.answers.push(complaint(message.get("id"), &problem));
            }
            // A client-message, and what else a bot may know.
            _ => taken.events.push(LegEvent::Data(message)),
        }
        Ok(taken)
    }

    /// The call begins: the answer to a client that asked before.
    pub fn begin(&mut self) -> Option<String> {
        self.begun = true;
        self.ready()
    }

    fn ready(&mut self) -> Option<String> {
        let id = self.asks.take_if(|_| self.begun)?;
        let about = json!({"library": "trunkline", "library_version": env!("CARGO_PKG_VERSION")});
        let data = json!({"version": self.version, "about": about});
        Some(json!({"label": LABEL, "type": "bot-ready", "id": id, "data": data}).to_string())
    }

    /// What a client is told when the call's leg is told `command`.
    pub fn tell(&mut self, command: &LegCommand<'_>) -> Vec<String> {
        match command {
            LegCommand::SpeechStarted(_) => vec![bare("bot-started-speaking")],
            LegCommand::SpeechStopped(_) => vec![bare("bot-stopped-speaking")],
            LegCommand::Clear => vec![bare("bot-interrupted")],
            LegCommand::Transcript(text) => self.output(text, true),
            LegCommand::Text(text) => self.output(text, false),
            LegCommand::FunctionCall(call) => vec![
                message("llm-function-call-started", json!({"function_name": call.name})),
                message(
                    "llm-function-call-in-progress",
                    json!({"tool_call_id": call.id, "function_name": call.name, "arguments": call.arguments}),
                ),
            ],
            LegCommand::FunctionResult(FunctionResult { id, result }) => {
                vec![message("llm-function-call-stopped", json!({"tool_call_id": id, "cancelled": false, "result": result}))]
            }
            LegCommand::Data(data) => passed_on(data).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Words of the agent's: what it speaks, or what it only writes.
    fn output(&mut self, text: &str, spoken: bool) -> Vec<String> {
        self.sentences += 1;
        let old = self.version.as_ref().is_some_and(|version| version.starts_with(OLD));
        let data = if old {
            json!({"text": text, "spoken": spoken, "aggregated_by": "sentence"})
        } else {
            let progress = spoken.then(|| json!({"accumulated_text": text, "remaining_text": ""}));
            let status = if spoken { "completed" } else { "new" };
            json!({
                "text": text, "output_type": "sentence", "segment_id": self.sentences, "will_be_spoken": spoken,
                "spoken_status": status, "spoken_progress": progress,
            })
        };
        vec![message("bot-transcription", json!({"text": text})), message("bot-output", data)]
    }
}

/// Tells the client that its message cannot be read, or that it asks for what is not there.
pub(super) fn complaint(id: Option<&Value>, problem: &str) -> String {
    json!({"label": LABEL, "type": "error-response", "id": id, "data": {"error": problem}}).to_string()
}

/// Tells the client that the call cannot go on.
pub(super) fn failure(problem: &str) -> String {
    message("error", json!({"error": problem, "fatal": true}))
}

/// Data of the agent's. What another bot told is told again as it came, but for what only concerns that bot and us.
fn passed_on(data: &Value) -> Option<String> {
    let Some(kind) = data.get("rtvi").and_then(Value::as_str) else { return Some(message("server-message", data.clone())) };
    // Told from the call's own events.
    if matches!(kind, "bot-ready" | "bot-interrupted") {
        return None;
    }
    let mut rest = data.as_object().cloned().unwrap_or_default();
    rest.remove("rtvi");
    let id = rest.remove("id");
    let mut told = Map::from_iter([("label".to_owned(), LABEL.into()), ("type".to_owned(), kind.into())]);
    told.extend(id.map(|id| ("id".to_owned(), id)));
    if !rest.is_empty() {
        told.insert("data".to_owned(), rest.into());
    }
    Some(Value::Object(told).to_string())
}

fn bare(kind: &str) -> String {
    json!({"label": LABEL, "type": kind}).to_string()
}

/// A key of a keypad, as a client names it.
fn key(button: &Value) -> Option<char> {
    let mut characters = button.as_str()?.chars();
    let key = characters.next().filter(|key| key.is_ascii_digit() || matches!(key, '*' | '#'))?;
    characters.next().is_none().then_some(key)
}
