//! An agent that is a server of OpenAI's chat completions interface
//! (<https://platform.openai.com/docs/api-reference/chat>), whole or streamed. The history is kept here, one a conversation.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use url::Url;

use super::protocol::fault;
use super::{ABILITIES, NO_RATE, completion};
use crate::audio::Rate;
use crate::call::{Abilities, EndReason, FunctionCall, Leg, LegCommand, LegEvent};
use crate::http;
use crate::transport::Secret;

/// How long a whole answer may take where nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(120);
/// The largest answer that is read, in bytes.
const LARGEST_ANSWER: usize = 16 << 20;
/// The most of an error's body that is read, in bytes.
const LARGEST_ERROR: usize = 16 << 10;
/// The settings of the address.
const SETTINGS: [&str; 4] = ["model", "stream", "system", "timeout_s"];

/// Which server, and how it is asked: `http://HOST:PORT/v1?model=NAME&stream=true&system=…&timeout_s=120`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenAi {
    /// With its settings, as it was given.
    shown: Url,
    endpoint: Url,
    model: String,
    stream: bool,
    system: Option<String>,
    timeout: Duration,
}

/// A conversation that cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("cannot ask {url}: {problem}")]
pub struct OpenAiError {
    url: Url,
    problem: String,
}

impl OpenAi {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(in crate::transport) fn parse(text: &str) -> Result<Self, String> {
        let shown = Url::parse(text).map_err(|error| format!("{error}; use openai:http://HOST:PORT/v1?model=NAME"))?;
        if !matches!(shown.scheme(), "http" | "https") || shown.fragment().is_some() {
            return Err("use openai:http://HOST:PORT/v1?model=NAME or openai:https://…".to_owned());
        }
        if shown.password().is_some() || !shown.username().is_empty() {
            return Err("credentials do not belong into an address: set OPENAI_API_KEY".to_owned());
        }
        let mut settings: [Option<String>; 4] = Default::default();
        for (name, value) in shown.query_pairs() {
            match SETTINGS.iter().position(|known| *known == name) {
                Some(place) if settings[place].is_none() => settings[place] = Some(value.into_owned()),
                Some(_) => return Err(format!("{name} is there twice")),
                None if name.contains("key") => return Err("a key does not belong into an address: set OPENAI_API_KEY".to_owned()),
                None => return Err(format!("unknown setting {name:?}; there are {}", SETTINGS.join(", "))),
            }
        }
        let [model, stream, system, timeout] = settings;
        let model = model.filter(|model| !model.is_empty()).ok_or("model=NAME is missing")?;
        let stream = match stream.as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => return Err(format!("stream is true or false, not {other:?}")),
        };
        let timeout = match timeout {
            None => TIMEOUT,
            Some(text) => {
                let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                seconds.filter(|time| !time.is_zero()).ok_or_else(|| format!("timeout_s {text:?} is no time"))?
            }
        };
        let mut endpoint = shown.clone();
        endpoint.set_query(None);
        endpoint.set_path(&format!("{}/chat/completions", shown.path().trim_end_matches('/')));
        Ok(Self { shown, endpoint, model, stream, system, timeout })
    }
}

impl fmt::Display for OpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "openai:{}", self.shown)
    }
}

type Asking = Pin<Box<dyn Future<Output = Result<Answer, String>> + Send>>;

/// What came back.
struct Answer {
    completion: completion::Completion,
    first_token: Option<Duration>,
    whole: Duration,
}

/// A conversation with the server.
pub struct OpenAiLeg {
    server: Arc<Server>,
    history: Vec<Value>,
    /// Function calls of the last answer that have no result.
    open_calls: Vec<String>,
    /// What the caller has said since the last request.
    waiting: Vec<String>,
    /// Something was said that is to be answered.
    owed: bool,
    asking: Option<Asking>,
    events: VecDeque<LegEvent>,
    end: Option<(EndReason, String)>,
}

struct Server {
    settings: OpenAi,
    http: reqwest::Client,
    key: Option<Secret>,
}

impl OpenAiLeg {
    /// Begins a conversation; where the agent `speaks_first`, by asking for its first word.
    ///
    /// # Errors
    /// [`OpenAiError`] when HTTP cannot be set up.
    pub fn begin(settings: &OpenAi, key: Option<Secret>, speaks_first: bool) -> Result<Self, OpenAiError> {
        let url = settings.endpoint.clone();
        let http = http::client(&url).map_err(|error| OpenAiError { url, problem: http::detail(&error) })?;
        let system = settings.system.as_ref().map(|system| json!({ "role": "system", "content": system }));
        Ok(Self {
            server: Arc::new(Server { settings: settings.clone(), http, key }),
            history: system.into_iter().collect(),
            open_calls: Vec::new(),
            waiting: Vec::new(),
            owed: speaks_first,
            asking: None,
            events: VecDeque::new(),
            end: None,
        })
    }

    fn take(&mut self, answer: Result<Answer, String>) {
        let Answer { completion, first_token, whole } = match answer {
            Ok(answer) => answer,
            Err(problem) => {
                self.end = Some((EndReason::ConnectionLost, format!("{}: {problem}", self.server.settings.endpoint)));
                return;
            }
        };
        let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let mut told = json!({ "whole_ms": ms(whole), "usage": completion.usage });
        if let Some(first) = first_token {
            told["first_token_ms"] = ms(first).into();
        }
        self.events.push_back(LegEvent::Note(json!({ "openai": told })));
        self.history.extend(completion.message());
        for call in completion.calls {
            self.open_calls.push(call.id.clone());
            self.events.push_back(LegEvent::FunctionCall(call));
        }
        if !completion.content.trim().is_empty() {
            self.events.push_back(LegEvent::Text(completion.content));
        } else if self.open_calls.is_empty() {
            self.events.push_back(fault("EMPTY_ANSWER", "the answer has neither content nor function calls".to_owned()));
        }
    }

    /// Puts what the caller has said behind the last answer. True: there is something to ask.
    fn next_request(&mut self) -> bool {
        if !self.waiting.is_empty() {
            // The interface wants a result for each call before anything else is said.
            for id in std::mem::take(&mut self.open_calls) {
                self.result_of(&id, &Value::Null);
            }
            let said = std::mem::take(&mut self.waiting);
            self.history.extend(said.into_iter().map(|text| json!({ "role": "user", "content": text })));
            self.owed = true;
        }
        std::mem::take(&mut self.owed)
    }

    fn result_of(&mut self, id: &str, result: &Value) {
        let text = result.as_str().map_or_else(|| result.to_string(), str::to_owned);
        self.history.push(json!({ "role": "tool", "tool_call_id": id, "content": text }));
    }
}

impl Leg for OpenAiLeg {
    fn rate(&self) -> Rate {
        NO_RATE
    }

    fn abilities(&self) -> Abilities {
        ABILITIES
    }

    fn via(&self) -> String {
        self.server.settings.to_string()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            if let Some((reason, detail)) = self.end.take() {
                return Poll::Ready(LegEvent::Hangup { reason, detail });
            }
            if self.asking.is_none() && self.next_request() {
                let (server, history) = (Arc::clone(&self.server), self.history.clone());
                self.asking = Some(Box::pin(async move { server.ask(history).await }));
            }
            let Some(asking) = &mut self.asking else { return Poll::Pending };
            let Poll::Ready(answer) = asking.as_mut().poll(cx) else { return Poll::Pending };
            self.asking = None;
            self.take(answer);
        }
    }

    fn command(&mut self, command: LegCommand<'_>) {
        match command {
            LegCommand::Text(text) => self.waiting.push(text.to_owned()),
            LegCommand::FunctionResult(result) if self.open_calls.contains(&result.id) => {
                self.open_calls.retain(|id| *id != result.id);
                self.result_of(&result.id, &result.result);
                self.owed |= self.open_calls.is_empty();
            }
            LegCommand::Hangup(reason) => {
                (self.asking, self.owed) = (None, false);
                self.waiting.clear();
                self.end.get_or_insert((reason, String::new()));
            }
            _ => {}
        }
    }
}

impl Server {
    async fn ask(&self, messages: Vec<Value>) -> Result<Answer, String> {
        let OpenAi { model, stream, timeout, .. } = &self.settings;
        let asked =
            tokio::time::timeout(*timeout, self.exchange(json!({ "model": model, "messages": messages, "stream": stream })));
        let answer = asked.await.unwrap_or_else(|_| Err(format!("no whole answer within {} s", timeout.as_secs_f64())));
        answer.map_err(|problem| match &self.key {
            // A server may repeat the key in its complaint.
            Some(key) => problem.replace(key.reveal(), "…"),
            None => problem,
        })
    }

    async fn exchange(&self, body: Value) -> Result<Answer, String> {
        let begun = Instant::now();
        let mut request = self.http.post(self.settings.endpoint.clone()).json(&body);
        if let Some(key) = &self.key {
            // reqwest marks it as sensitive.
            request = request.bearer_auth(key.reveal());
        }
        let mut response = request.send().await.map_err(|error| http::detail(&error))?;
        let status = response.status();
        if !status.is_success() {
            let mut body = Vec::new();
            while let Ok(Some(chunk)) = response.chunk().await
                && body.len() < LARGEST_ERROR
            {
                body.extend_from_slice(&chunk);
            }
            return Err(format!("HTTP {}: {}", status.as_u16(), completion::complaint(&body)));
        }
        let (mut reader, mut first_token) = (completion::Reader::new(self.settings.stream), None);
        let mut read = 0;
        // Some servers keep the connection open behind the answer.
        while !reader.is_done()
            && let Some(chunk) =
                response.chunk().await.map_err(|error| format!("the answer broke off: {}", http::detail(&error)))?
        {
            read += chunk.len();
            if read > LARGEST_ANSWER {
                return Err(format!("the answer is larger than {} MiB", LARGEST_ANSWER >> 20));
            }
            if reader.push(&chunk)? && self.settings.stream {
                first_token.get_or_insert(begun.elapsed());
            }
        }
        let completion = reader.finish()?;
        Ok(Answer { completion, first_token, whole: begun.elapsed() })
    }
}

impl completion::Completion {
    /// As it stands in the history; none where there is nothing in it.
    fn message(&self) -> Option<Value> {
        let content = Some(&self.content).filter(|content| !content.trim().is_empty());
        if content.is_none() && self.calls.is_empty() {
            return None;
        }
        let mut message = json!({ "role": "assistant", "content": content });
        if !self.calls.is_empty() {
            let call = |call: &FunctionCall| {
                let arguments = call.arguments.as_str().map_or_else(|| call.arguments.to_string(), str::to_owned);
                json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": arguments } })
            };
            message["tool_calls"] = self.calls.iter().map(call).collect();
        }
        Some(message)
    }
}
