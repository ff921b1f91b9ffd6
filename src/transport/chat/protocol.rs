//! The frames of a chat. Owns no socket and no clock.

use serde_json::{Map, Value, json};

use crate::call::{CallEnd, EndReason, FunctionCall, FunctionResult, LegCommand, LegEvent, Side};

/// The code of a fault: text that is no JSON object.
pub const NOT_JSON: &str = "NOT_JSON";
/// The code of a fault: a frame of an older dialect, which is not taken.
pub const LEGACY_DIALECT: &str = "LEGACY_DIALECT";
/// The code of a fault: a frame that means nothing here.
pub const UNKNOWN_FRAME: &str = "UNKNOWN_FRAME";
/// The code of a fault: a field that is missing or of the wrong kind.
pub const BAD_FIELD: &str = "BAD_FIELD";

/// The `type` of the frames that Cekura's pages showed before February 2026.
const LEGACY_TYPES: [&str; 4] = ["response", "function_call", "function_result", "end_of_conversation"];
/// The longest piece of a frame that a fault shows, in characters.
const SHOWN: usize = 120;

/// What a frame says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Frame {
    /// In order.
    pub events: Vec<LegEvent>,
    /// The sender ends the session.
    pub ends: bool,
}

/// Reads a frame. What makes no sense becomes a [`LegEvent::Fault`], and the session goes on.
#[must_use]
pub fn read(text: &str) -> Frame {
    match serde_json::from_str(text) {
        Ok(Value::Object(frame)) => read_object(&frame).unwrap_or_else(|fault| Frame { events: vec![fault], ends: false }),
        Ok(other) => fault(NOT_JSON, format!("a frame must be a JSON object, not {}", shortened(&other.to_string(), SHOWN))).into(),
        Err(error) if text.trim_start().starts_with(['{', '[']) => fault(NOT_JSON, format!("not JSON: {error}")).into(),
        Err(_) => {
            let detail = format!("bare text is an older dialect; send {{\"content\": \"…\"}}: {}", shortened(text, SHOWN));
            fault(LEGACY_DIALECT, detail).into()
        }
    }
}

impl From<LegEvent> for Frame {
    fn from(event: LegEvent) -> Self {
        Self { events: vec![event], ends: false }
    }
}

fn read_object(frame: &Map<String, Value>) -> Result<Frame, LegEvent> {
    let present = |key: &str| frame.get(key).filter(|value| !value.is_null());
    let kind = present("type").and_then(Value::as_str).unwrap_or_default();
    if LEGACY_TYPES.contains(&kind) {
        let detail = format!("type {kind:?} is of an older dialect; send {{\"content\": \"…\"}}, a role with data, or end_call");
        return Err(fault(LEGACY_DIALECT, detail));
    }
    let mut events = Vec::new();
    match present("content") {
        Some(Value::String(content)) if content.trim().is_empty() => {}
        Some(Value::String(content)) => events.push(LegEvent::Text(content.clone())),
        Some(other) => {
            return Err(fault(BAD_FIELD, format!("content must be a string, not {}", shortened(&other.to_string(), SHOWN))));
        }
        None => {}
    }
    let role = present("role").and_then(Value::as_str).unwrap_or_default();
    match role {
        "Function Call" => events.push(function_call(data(frame, role)?)?),
        "Function Call Result" => events.push(function_result(data(frame, role)?)?),
        _ => {}
    }
    // What is no object is ignored, as Cekura does.
    if let Some(metadata) = present("metadata").filter(|metadata| metadata.is_object()) {
        events.push(LegEvent::Metadata(metadata.clone()));
    }
    let ends = kind == "end_call";
    let says_something = ends || ["content", "metadata"].iter().any(|key| frame.contains_key(*key)) || !events.is_empty();
    if says_something {
        Ok(Frame { events, ends })
    } else {
        let keys: Vec<_> = frame.keys().map(String::as_str).collect();
        Err(fault(
            UNKNOWN_FRAME,
            format!("no content, metadata, role with data or end_call; its keys: {}", shortened(&keys.join(", "), SHOWN)),
        ))
    }
}

fn data<'a>(frame: &'a Map<String, Value>, role: &str) -> Result<&'a Map<String, Value>, LegEvent> {
    let data = frame.get("data").and_then(Value::as_object);
    data.ok_or_else(|| fault(BAD_FIELD, format!("{role}: data must be an object")))
}

fn function_call(data: &Map<String, Value>) -> Result<LegEvent, LegEvent> {
    let name = data.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| fault(BAD_FIELD, "Function Call: data.name must be a string".to_owned()))?;
    let arguments = data.get("arguments").cloned().unwrap_or_else(|| json!({}));
    Ok(LegEvent::FunctionCall(FunctionCall { id: id(data, "Function Call")?, name: name.to_owned(), arguments }))
}

fn function_result(data: &Map<String, Value>) -> Result<LegEvent, LegEvent> {
    let result = data.get("result").cloned().unwrap_or(Value::Null);
    Ok(LegEvent::FunctionResult(FunctionResult { id: id(data, "Function Call Result")?, result }))
}

/// The id that ties a result to its call; numbers are taken too.
fn id(data: &Map<String, Value>, role: &str) -> Result<String, LegEvent> {
    match data.get("id") {
        Some(Value::String(id)) => Ok(id.clone()),
        Some(Value::Number(id)) => Ok(id.to_string()),
        _ => Err(fault(BAD_FIELD, format!("{role}: data.id must be a string"))),
    }
}

pub(super) fn fault(code: &str, detail: String) -> LegEvent {
    LegEvent::Fault { code: code.to_owned(), detail }
}

/// The first `most` characters of a text, and a mark where there are more.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let mut short: String = text.chars().take(most).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The frame that tells the far side of a command; none for what a chat does not carry.
#[must_use]
pub fn frame_of(command: LegCommand<'_>) -> Option<Value> {
    match command {
        LegCommand::Text(text) => Some(content(text)),
        LegCommand::Metadata(object) => Some(metadata(object)),
        LegCommand::FunctionCall(function) => Some(call(function)),
        LegCommand::FunctionResult(value) => Some(result(value)),
        _ => None,
    }
}

/// How a caller is to be told of a call's end: what the agent crashed of; none where it did not.
pub(super) fn crash_of(end: &CallEnd) -> Option<String> {
    let broke = matches!(end.reason, EndReason::ConnectionLost | EndReason::ProtocolError);
    (broke && end.by == Some(Side::Agent)).then(|| end.detail.clone())
}

/// A content frame.
#[must_use]
pub fn content(text: &str) -> Value {
    json!({ "content": text })
}

/// A metadata frame.
#[must_use]
pub fn metadata(metadata: &Value) -> Value {
    json!({ "metadata": metadata })
}

/// A function call frame. The arguments go on as they came.
#[must_use]
pub fn call(call: &FunctionCall) -> Value {
    json!({ "role": "Function Call", "data": { "id": call.id, "name": call.name, "arguments": call.arguments } })
}

/// A function call result frame.
#[must_use]
pub fn result(result: &FunctionResult) -> Value {
    json!({ "role": "Function Call Result", "data": { "id": result.id, "result": result.result } })
}

/// The frame that ends a session.
#[must_use]
pub fn end_call() -> Value {
    json!({ "type": "end_call" })
}

/// The metadata that tells a caller that the agent did not hang up but crashed.
#[must_use]
pub fn crashed(detail: &str) -> Value {
    json!({ "trunkline": { "agent_crashed": detail } })
}
