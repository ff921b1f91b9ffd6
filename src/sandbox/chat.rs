//! API chats: conversations whose agent fetches and posts its turns over REST (`runs/{id}/chat/`, `runs/{id}/end-chat/`).
//!
//! Turn 0 is the caller's opening line, or null when the agent speaks first. Each content that the agent posts makes the next
//! turn, which is `generating` until the caller has answered, and then `ready`. Content that is posted while the caller is still
//! answering drops the turn before it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::audio::Rate;
use crate::call::{Abilities, EndReason, FunctionCall, FunctionResult, Leg, LegCommand, LegEvent};

/// Above so many, conversations that are over are forgotten.
const SESSIONS_KEPT: usize = 1000;

/// What the agent posts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Post {
    /// What it says.
    pub(super) content: Option<String>,
    /// What it tells of itself: an object.
    pub(super) metadata: Option<Value>,
    /// A function that it calls, or what came of one.
    pub(super) function: Option<LegEvent>,
}

/// The conversations that go on.
#[derive(Debug, Default)]
pub struct ChatDesk {
    sessions: Mutex<HashMap<u64, Arc<Session>>>,
}

#[derive(Debug)]
struct Session {
    posts: mpsc::UnboundedSender<LegEvent>,
    turns: Mutex<Turns>,
}

#[derive(Debug, Default)]
struct Turns {
    turns: Vec<Turn>,
    /// Why the conversation is over.
    ended: Option<String>,
}

#[derive(Debug, Default)]
struct Turn {
    message: Option<String>,
    status: TurnStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum TurnStatus {
    #[default]
    Generating,
    Ready,
    Dropped,
}

/// The conversation has not begun, or is over: HTTP 409.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotNow;

impl ChatDesk {
    /// Opens the conversation of a run: the agent's leg. `caller_opens`: turn 0 is going to be what the caller says first.
    pub(super) fn open(self: &Arc<Self>, run: u64, caller_opens: bool) -> RestAgent {
        let (posts, inbox) = mpsc::unbounded_channel();
        let status = if caller_opens { TurnStatus::Generating } else { TurnStatus::Ready };
        let turns = Turns { turns: vec![Turn { message: None, status }], ended: None };
        let session = Arc::new(Session { posts, turns: Mutex::new(turns) });
        let mut sessions = self.sessions();
        if sessions.len() >= SESSIONS_KEPT {
            sessions.retain(|_, session| session.turns().ended.is_none());
        }
        sessions.insert(run, Arc::clone(&session));
        drop(sessions);
        RestAgent { run, session, inbox, events: VecDeque::new(), hung_up: None }
    }

    /// The agent posts something: the turn that it makes, or the one that is the latest, and that turn's status.
    pub(super) fn post(&self, run: u64, post: Post) -> Result<(usize, &'static str), NotNow> {
        let session = self.session(run)?;
        let mut turns = session.turns();
        if turns.ended.is_some() {
            return Err(NotNow);
        }
        let mut events: Vec<LegEvent> = post.metadata.map(LegEvent::Metadata).into_iter().chain(post.function).collect();
        if let Some(content) = post.content {
            for open in turns.turns.iter_mut().filter(|turn| turn.status == TurnStatus::Generating) {
                open.status = TurnStatus::Dropped;
            }
            turns.turns.push(Turn::default());
            events.push(LegEvent::Text(content));
        }
        for event in events {
            session.posts.send(event).map_err(|_| NotNow)?;
        }
        let latest = turns.turns.len() - 1;
        Ok((latest, turns.turns[latest].status.name()))
    }

    /// What became of a turn; none for one that there is not (yet).
    pub(super) fn turn(&self, run: u64, turn: usize) -> Result<Option<Value>, NotNow> {
        let session = self.session(run)?;
        let turns = session.turns();
        let found = turns.turns.get(turn).map(|found| {
            json!({
                "turn_id": turn,
                "status": found.status.name(),
                "message": found.message,
                "ended": turns.ended.is_some(),
                "ended_reason": turns.ended,
            })
        });
        Ok(found)
    }

    /// The agent ends the conversation.
    pub(super) fn end(&self, run: u64, reason: Option<String>) -> Result<(), NotNow> {
        let session = self.session(run)?;
        if session.turns().ended.is_some() {
            return Err(NotNow);
        }
        let hangup = LegEvent::Hangup { reason: EndReason::HungUp, detail: reason.unwrap_or_default() };
        session.posts.send(hangup).map_err(|_| NotNow)
    }

    fn session(&self, run: u64) -> Result<Arc<Session>, NotNow> {
        self.sessions().get(&run).cloned().ok_or(NotNow)
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<u64, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TurnStatus {
    const fn name(self) -> &'static str {
        match self {
            Self::Generating => "generating",
            Self::Ready => "ready",
            Self::Dropped => "dropped",
        }
    }
}

impl Turns {
    /// The caller says something: it answers the turn that waits, or goes on with its last answer.
    fn say(&mut self, text: &str) {
        let Some(last) = self.turns.last_mut() else { return };
        last.message = Some(match last.message.take() {
            Some(said) => format!("{said}\n{text}"),
            None => text.to_owned(),
        });
        last.status = TurnStatus::Ready;
    }

    fn end(&mut self, why: &str) {
        self.ended.get_or_insert_with(|| why.to_owned());
        for open in self.turns.iter_mut().filter(|turn| turn.status == TurnStatus::Generating) {
            open.status = TurnStatus::Ready;
        }
    }
}

/// The agent of an API chat, as a call's leg.
#[derive(Debug)]
pub(super) struct RestAgent {
    run: u64,
    session: Arc<Session>,
    inbox: mpsc::UnboundedReceiver<LegEvent>,
    events: VecDeque<LegEvent>,
    hung_up: Option<EndReason>,
}

impl Leg for RestAgent {
    /// Of no meaning: a chat has no audio.
    fn rate(&self) -> Rate {
        Rate::HZ_16000
    }

    fn abilities(&self) -> Abilities {
        Abilities { text_only: true, text: true, functions: true, transcripts: true, data: true, ..Abilities::NONE }
    }

    fn via(&self) -> String {
        format!("API chat of run {}", self.run)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        if let Some(reason) = self.hung_up {
            return Poll::Ready(LegEvent::Hangup { reason, detail: String::new() });
        }
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        match self.inbox.poll_recv(cx) {
            Poll::Ready(Some(event)) => {
                if let LegEvent::Hangup { .. } = &event {
                    self.session.turns().end("main-agent-ended-chat");
                }
                Poll::Ready(event)
            }
            // The session keeps the sender for as long as this leg lives.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn command(&mut self, command: LegCommand<'_>) {
        match command {
            LegCommand::Text(text) => self.session.turns().say(text),
            LegCommand::Hangup(reason) => {
                let why = match reason {
                    EndReason::Cancelled => "run-cancelled-by-user",
                    EndReason::MaxDuration => "exceeded-max-duration",
                    EndReason::AgentSilent => "main-agent-silence-timed-out",
                    _ => "testing-agent-ended-chat",
                };
                self.session.turns().end(why);
                self.hung_up = Some(reason);
            }
            // The API has no place for them in this direction.
            _ => {}
        }
    }
}

impl Drop for RestAgent {
    fn drop(&mut self) {
        self.session.turns().end("testing-agent-ended-chat");
    }
}

/// Reads what an agent posts.
pub(super) fn read_post(body: &Value) -> Result<Post, (&'static str, &'static str)> {
    let content = match &body["content"] {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        _ => return Err(("content", "Not a valid string.")),
    };
    let metadata = Some(body["metadata"].clone()).filter(Value::is_object);
    let data = &body["data"];
    let id = || data["id"].as_str().map(str::to_owned).or_else(|| data["id"].as_i64().map(|id| id.to_string()));
    let function = match body["role"].as_str() {
        None => None,
        Some("Function Call") => {
            let name = data["name"].as_str().ok_or(("data", "A function call needs a name."))?.to_owned();
            let call = FunctionCall { id: id().unwrap_or_default(), name, arguments: data["arguments"].clone() };
            Some(LegEvent::FunctionCall(call))
        }
        Some("Function Call Result") => {
            let id = id().ok_or(("data", "A function call's result needs the call's id."))?;
            Some(LegEvent::FunctionResult(FunctionResult { id, result: data["result"].clone() }))
        }
        Some(_) => return Err(("role", "Not a valid choice: \"Function Call\" or \"Function Call Result\".")),
    };
    if content.is_none() && metadata.is_none() && function.is_none() {
        return Err(("content", "One of content, metadata or role with data is required."));
    }
    Ok(Post { content, metadata, function })
}
