//! What a LiveKit agent tells of its session: `livekit.agent.AgentSessionMessage`, as `livekit-agents` sends it to a console over
//! TCP and into a room as byte streams of the topic `lk.agent.session`
//! (<https://github.com/livekit/protocol>, `protobufs/agent/livekit_agent_session.proto`).
//!
//! A sans-IO core: messages in, a call's events out. The agent's own latencies are kept as it reports them, in seconds.

use std::collections::VecDeque;

use livekit_protocol::agent::agent_session_event::tool_execution_updated::Update;
use livekit_protocol::agent::agent_session_event::{Event, FunctionToolsExecuted};
use livekit_protocol::agent::agent_session_message::Message;
use livekit_protocol::agent::chat_context::chat_item::Item;
use livekit_protocol::agent::chat_message::chat_content::Payload;
use livekit_protocol::agent::session_request::Request;
use livekit_protocol::agent::session_response::Response;
use livekit_protocol::agent::{
    self, AgentSessionEvent, AgentSessionMessage, AgentState, ChatMessage, ChatRole, SessionRequest, SessionResponse, UserState,
};
use prost::Message as _;
use serde_json::{Map, Value, json};

use crate::call::{FunctionCall, FunctionResult, LegEvent, Mark, MarkSource};

/// Of so many function calls the ids are kept, to tell each call once.
const MOST_CALLS: usize = 256;

/// The fault of an agent that says that something went wrong in it.
pub const AGENT_ERROR: &str = "AGENT_ERROR";

/// What is known of an agent's session.
#[derive(Debug, Default)]
pub struct AgentSession {
    state: Option<AgentState>,
    utterances: u64,
    /// The utterance that has not ended.
    speaking: Option<String>,
    /// The function calls that were told.
    told: VecDeque<String>,
}

/// What a message means beside the call's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The agent began to speak.
    Speaks,
    /// The agent speaks no more: it listens again.
    Stops,
    /// The agent goes on with what it had stopped: nobody had interrupted it.
    GoesOn,
}

/// The request that asks an agent for its state. It is answered once the session has begun.
#[must_use]
pub fn ask_for_state(request_id: &str) -> AgentSessionMessage {
    ask(request_id, Request::GetSessionState(agent::session_request::GetSessionState {}))
}

/// The request that asks an agent for the version of its framework.
#[must_use]
pub fn ask_for_framework(request_id: &str) -> AgentSessionMessage {
    ask(request_id, Request::GetFrameworkInfo(agent::session_request::GetFrameworkInfo {}))
}

/// The request that asks an agent for what has been said so far.
#[must_use]
pub(super) fn ask_for_history(request_id: &str) -> AgentSessionMessage {
    ask(request_id, Request::GetChatHistory(agent::session_request::GetChatHistory {}))
}

/// The agent's own messages in an answer to [`ask_for_history`]: when each was made, in seconds since 1970 by the agent's clock, and
/// its text. None: the answer is to another request.
#[must_use]
pub(super) fn said_before(response: &SessionResponse) -> Option<Vec<(i64, String)>> {
    let Some(Response::GetChatHistory(history)) = &response.response else { return None };
    let messages = history.items.iter().filter_map(|item| match &item.item {
        Some(Item::Message(message)) if message.role() == ChatRole::Assistant => Some(message),
        _ => None,
    });
    let made = |message: &ChatMessage| message.created_at.as_ref().map(|at| at.seconds);
    Some(messages.filter_map(|message| Some((made(message)?, text_of(message)))).collect())
}

fn ask(request_id: &str, request: Request) -> AgentSessionMessage {
    let request = SessionRequest { request_id: request_id.to_owned(), request: Some(request) };
    AgentSessionMessage { message: Some(Message::Request(request)) }
}

/// Reads one message.
///
/// # Errors
/// In words, for bytes that are none.
pub fn decode(bytes: &[u8]) -> Result<AgentSessionMessage, String> {
    AgentSessionMessage::decode(bytes).map_err(|error| error.to_string())
}

impl AgentSession {
    /// The session has begun: the agent is in some state other than the first.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.state.is_some_and(|state| state != AgentState::AsInitializing)
    }

    /// The agent has told some state.
    #[must_use]
    pub(super) const fn is_told(&self) -> bool {
        self.state.is_some()
    }

    /// The agent says that it listens: it has said what it had to say.
    #[must_use]
    pub(super) fn is_listening(&self) -> bool {
        self.state == Some(AgentState::AsListening)
    }

    /// Takes an event; what it means for the call goes into `out`.
    pub fn event(&mut self, event: &AgentSessionEvent, out: &mut impl Extend<LegEvent>) -> Option<Turn> {
        match event.event.as_ref()? {
            Event::AgentStateChanged(change) => return self.state(change.old_state(), change.new_state(), out),
            Event::UserStateChanged(change) => {
                tell(out, "caller_state", json!({"from": user(change.old_state()), "to": user(change.new_state())}));
            }
            Event::ConversationItemAdded(added) => {
                if let Some(Item::Message(message)) = added.item.as_ref().and_then(|item| item.item.as_ref()) {
                    self.message(message, out);
                }
            }
            // What comes between is replaced by what is final.
            Event::UserInputTranscribed(heard) if heard.is_final => tell(out, "heard", json!({"text": heard.transcript})),
            Event::FunctionToolsStarted(started) => started.function_calls.iter().for_each(|call| self.call(call, out)),
            Event::FunctionToolsExecuted(executed) => self.executed(executed, out),
            Event::ToolExecutionUpdated(updated) => match updated.update.as_ref()? {
                Update::Started(started) => started.function_call.iter().for_each(|call| self.call(call, out)),
                Update::CallUpdated(update) => {
                    tell(out, "tool_progress", json!({"id": update.call_id, "text": update.message}));
                }
                Update::Ended(_) | Update::ReplyUpdated(_) => {}
            },
            Event::Error(error) => out.extend([LegEvent::Fault { code: AGENT_ERROR.to_owned(), detail: error.message.clone() }]),
            Event::OverlappingSpeech(overlap) => tell(
                out,
                "overlapping_speech",
                json!({"is_interruption": overlap.is_interruption, "detection_delay": overlap.detection_delay}),
            ),
            Event::EotPrediction(end) => {
                tell(out, "end_of_turn_prediction", json!({"probability": end.probability, "threshold": end.threshold}));
            }
            Event::AmdPrediction(machine) => {
                let category = machine.category().as_str_name().trim_start_matches("AMD_").to_lowercase();
                tell(out, "answering_machine", json!({"category": category, "reason": machine.reason}));
            }
            Event::AgentFalseInterruption(stop) => {
                tell(out, "false_interruption", json!({"resumed": stop.resumed}));
                return stop.resumed.then_some(Turn::GoesOn);
            }
            // Counted twice a second; and what only the framework's own debugger reads.
            Event::UserInputTranscribed(_) | Event::SessionUsageUpdated(_) | Event::DebugMessage(_) => {}
        }
        None
    }

    /// Takes the state that the agent's attribute `lk.agent.state` names: the same as the messages', and sooner.
    pub fn attribute(&mut self, state: &str, out: &mut impl Extend<LegEvent>) -> Option<Turn> {
        let new = AgentState::from_str_name(&format!("AS_{}", state.to_uppercase()))?;
        self.state(self.state.unwrap_or(AgentState::AsInitializing), new, out)
    }

    /// Takes the answer to a request.
    pub fn response(&mut self, response: &SessionResponse, out: &mut impl Extend<LegEvent>) {
        match &response.response {
            Some(Response::GetSessionState(answer)) => {
                self.state.get_or_insert(answer.agent_state());
            }
            Some(Response::GetFrameworkInfo(answer)) => {
                let framework = json!({"sdk": answer.sdk, "version": answer.sdk_version});
                out.extend([LegEvent::Metadata(json!({ "livekit_agents": framework }))]);
            }
            _ => {}
        }
    }

    fn state(&mut self, old: AgentState, new: AgentState, out: &mut impl Extend<LegEvent>) -> Option<Turn> {
        // The attribute has told it already.
        if self.state.replace(new) == Some(new) {
            return None;
        }
        tell(out, "agent_state", json!({"from": agent(old), "to": agent(new)}));
        if new == AgentState::AsSpeaking {
            if self.speaking.is_none() {
                self.utterances += 1;
                let utterance = format!("agent-{}", self.utterances);
                out.extend([LegEvent::SpeechStarted(mark(&utterance))]);
                self.speaking = Some(utterance);
            }
            return Some(Turn::Speaks);
        }
        let utterance = self.speaking.take()?;
        out.extend([LegEvent::SpeechStopped(mark(&utterance))]);
        Some(Turn::Stops)
    }

    fn message(&self, message: &ChatMessage, out: &mut impl Extend<LegEvent>) {
        let text = text_of(message);
        let role = match message.role() {
            ChatRole::Assistant => "assistant",
            ChatRole::User => "user",
            // Instructions are not said.
            ChatRole::Developer | ChatRole::System => return,
        };
        if role == "assistant" && !text.is_empty() {
            out.extend([LegEvent::Transcript(text.clone())]);
        }
        let mut told = json!({"id": message.id, "role": role, "text": text, "interrupted": message.interrupted});
        if let Some(metrics) = message.metrics.as_ref() {
            told["metrics"] = latencies(metrics);
        }
        tell(out, "message", told);
    }

    fn executed(&mut self, executed: &FunctionToolsExecuted, out: &mut impl Extend<LegEvent>) {
        executed.function_calls.iter().for_each(|call| self.call(call, out));
        for output in &executed.function_call_outputs {
            let result = read(&output.output);
            let result = if output.is_error { json!({ "error": result }) } else { result };
            out.extend([LegEvent::FunctionResult(FunctionResult { id: output.call_id.clone(), result })]);
        }
    }

    /// A call is told when it starts, or else when it is done.
    fn call(&mut self, call: &agent::FunctionCall, out: &mut impl Extend<LegEvent>) {
        if self.told.contains(&call.call_id) {
            return;
        }
        if self.told.len() == MOST_CALLS {
            self.told.pop_front();
        }
        self.told.push_back(call.call_id.clone());
        let (id, name, arguments) = (call.call_id.clone(), call.name.clone(), read(&call.arguments));
        out.extend([LegEvent::FunctionCall(FunctionCall { id, name, arguments })]);
    }
}

fn text_of(message: &ChatMessage) -> String {
    let text = message.content.iter().filter_map(|content| content.payload.as_ref());
    text.map(|Payload::Text(text)| text.as_str()).collect::<Vec<_>>().join("\n")
}

fn tell(out: &mut impl Extend<LegEvent>, kind: &str, more: Value) {
    out.extend([LegEvent::Data(of_kind(kind, more))]);
}

/// As data of the call: `{"livekit": kind, …}`.
pub(super) fn of_kind(kind: &str, more: Value) -> Value {
    let mut data = Map::from_iter([("livekit".to_owned(), kind.into())]);
    if let Value::Object(more) = more {
        data.extend(more);
    }
    Value::Object(data)
}

/// JSON, or the text itself.
fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// What the agent measured of one message, in seconds (tokens a second for `llm_node_tps`).
fn latencies(metrics: &agent::MetricsReport) -> Value {
    let named = [
        ("e2e_latency", metrics.e2e_latency),
        ("end_of_turn_delay", metrics.end_of_turn_delay),
        ("transcription_delay", metrics.transcription_delay),
        ("on_user_turn_completed_delay", metrics.on_user_turn_completed_delay),
        ("llm_node_ttft", metrics.llm_node_ttft),
        ("llm_node_ttfs", metrics.llm_node_ttfs),
        ("llm_node_tps", metrics.llm_node_tps),
        ("tts_node_ttfb", metrics.tts_node_ttfb),
    ];
    named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?)))).collect::<Map<_, _>>().into()
}

fn mark(utterance: &str) -> Mark {
    Mark { utterance: utterance.to_owned(), position: None, source: MarkSource::Signalled, interruption: None }
}

fn agent(state: AgentState) -> String {
    state.as_str_name().trim_start_matches("AS_").to_lowercase()
}

fn user(state: UserState) -> String {
    state.as_str_name().trim_start_matches("US_").to_lowercase()
}
