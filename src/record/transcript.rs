//! What was said in a chat, in the shape of Cekura's own transcripts (its page on sending calls, `transcript_type: cekura`).

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::call::{Event, LoggedEvent, Side};

/// Who says a line, or what the line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The caller.
    #[serde(rename = "Testing Agent")]
    TestingAgent,
    /// The agent under test.
    #[serde(rename = "Main Agent")]
    MainAgent,
    /// A function is called: `data` has `id`, `name`, `arguments`.
    #[serde(rename = "Function Call")]
    FunctionCall,
    /// A function's result: `data` has `id`, `result`.
    #[serde(rename = "Function Call Result")]
    FunctionCallResult,
}

/// A line of `transcript.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TranscriptLine {
    /// Who.
    pub role: Role,
    /// What; empty for a function call and its result.
    pub content: String,
    /// When, in seconds from the call's start.
    pub start_time: f64,
    /// A message takes no time: as `start_time`.
    pub end_time: f64,
    /// Of a function call or its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// The transcript of a chat's events.
#[must_use]
pub fn transcript(events: &[LoggedEvent]) -> Vec<TranscriptLine> {
    events.iter().filter_map(line).collect()
}

fn line(logged: &LoggedEvent) -> Option<TranscriptLine> {
    let (role, content, data) = match (&logged.event, logged.side?) {
        (Event::Text { text }, Side::Caller) => (Role::TestingAgent, text.clone(), None),
        (Event::Text { text }, Side::Agent) => (Role::MainAgent, text.clone(), None),
        (Event::FunctionCall(call), _) => (Role::FunctionCall, String::new(), Some(json!(call))),
        (Event::FunctionResult(result), _) => (Role::FunctionCallResult, String::new(), Some(json!(result))),
        _ => return None,
    };
    // To the millisecond: finer is noise.
    let at = logged.at_ms.round() / 1000.0;
    Some(TranscriptLine { role, content, start_time: at, end_time: at, data })
}
