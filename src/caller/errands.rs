//! What a script asks for in the middle of a call: REST calls, and words that are known only after one. Done in a task of
//! its own, beside the call's.

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll};
use std::time::Duration;

use reqwest::Url;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::player::{Answer, Request};
use super::prepare::Speaker;
use super::suite::{Function, fill, fill_json, function_and_key};
use crate::call::LegEvent;
use crate::http;

/// The longest answer that is read.
const LARGEST_ANSWER: usize = 1 << 20;

/// The errands of one call; they begin when they are first asked after. Dropping them gives up what is under way.
#[derive(Debug)]
pub(super) struct Errands {
    start: Option<(Vec<Function>, Option<Speaker>)>,
    live: Option<Live>,
}

#[derive(Debug)]
struct Live {
    to: UnboundedSender<Request>,
    from: UnboundedReceiver<Told>,
    task: JoinHandle<()>,
}

/// What the errands tell.
#[derive(Debug)]
enum Told {
    Answer(Answer),
    /// For the call's log.
    Note(String),
}

impl Errands {
    /// The errands of a script that declares `functions`. `speaker` makes speech; without one, words come back as text.
    pub(super) fn new(functions: Vec<Function>, speaker: Option<Speaker>) -> Self {
        Self { start: Some((functions, speaker)), live: None }
    }

    /// Passes `requests` on. What there is to tell goes into `events`; an answer is given one at a time, for what it leads to
    /// comes first.
    pub(super) fn settle(
        &mut self,
        requests: impl Iterator<Item = Request>,
        events: &mut VecDeque<LegEvent>,
        cx: &mut Context<'_>,
    ) -> Option<Answer> {
        let mut requests = requests.fuse();
        while let Poll::Ready(told) = self.poll(&mut requests, cx) {
            match told {
                Told::Note(note) => events.push_back(LegEvent::Log(note)),
                Told::Answer(answer) => return Some(answer),
            }
        }
        None
    }

    /// Passes `requests` on, and waits for what comes of them and of the functions that run by themselves.
    fn poll(&mut self, requests: impl Iterator<Item = Request>, cx: &mut Context<'_>) -> Poll<Told> {
        if let Some((functions, speaker)) = self.start.take() {
            self.live = Some(Live::begin(functions, speaker));
        }
        let Some(live) = &mut self.live else { return Poll::Pending };
        for request in requests {
            // The task ends only with this, or by a panic, which is told of below.
            drop(live.to.send(request));
        }
        let dead = || Told::Answer(Answer::Failed("the caller's errands have ended".to_owned()));
        live.from.poll_recv(cx).map(|told| told.unwrap_or_else(dead))
    }
}

impl Live {
    fn begin(functions: Vec<Function>, speaker: Option<Speaker>) -> Self {
        let (to, requests) = unbounded_channel();
        let (tells, from) = unbounded_channel();
        let runner = Runner { functions, speaker, values: BTreeMap::new(), failures: BTreeMap::new(), tells };
        Self { to, from, task: tokio::spawn(runner.run(requests)) }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Runner {
    functions: Vec<Function>,
    speaker: Option<Speaker>,
    /// By function and key.
    values: BTreeMap<(String, String), String>,
    /// Why a function's last run gave nothing.
    failures: BTreeMap<String, String>,
    tells: UnboundedSender<Told>,
}

impl Runner {
    async fn run(mut self, mut requests: UnboundedReceiver<Request>) {
        let own: Vec<_> = self.functions.iter().filter(|function| function.auto_run).cloned().collect();
        for function in own {
            if let Err(problem) = self.call(&function).await {
                self.note(problem);
            }
        }
        while let Some(request) = requests.recv().await {
            let answer = match request {
                Request::Call(name) => self.called(&name).await,
                Request::Speak { text, delivery } => match (self.filled(&text), &self.speaker) {
                    (Err(problem), _) => Answer::Failed(problem),
                    (Ok(text), None) => Answer::Filled(text),
                    (Ok(text), Some(speaker)) => match speaker.steps(&text, delivery).await {
                        Ok(steps) => Answer::Spoken(steps),
                        Err(error) => Answer::Failed(error.to_string()),
                    },
                },
            };
            // The call may be over.
            drop(self.tells.send(Told::Answer(answer)));
        }
    }

    async fn called(&mut self, name: &str) -> Answer {
        let Some(function) = self.functions.iter().find(|function| function.name == name).cloned() else {
            return Answer::Failed(format!("no function {name:?} is declared"));
        };
        let Err(problem) = self.call(&function).await else { return Answer::Called };
        // As at Cekura, declared defaults stand in for an answer; without them the script cannot go on.
        if function.outputs.is_empty() || function.outputs.iter().any(|output| output.default.is_none()) {
            return Answer::Failed(problem);
        }
        self.note(problem);
        Answer::Called
    }

    /// Makes a call and keeps what its answer gives, or the defaults.
    async fn call(&mut self, function: &Function) -> Result<(), String> {
        let answer = match self.request(function) {
            Ok(request) => exchange(request, function.timeout).await,
            Err(problem) => Err(problem),
        };
        let answer = answer.map_err(|problem| format!("function {:?}: {problem}", function.name));
        let json = answer.as_ref().unwrap_or(&Value::Null);
        for output in &function.outputs {
            let place = (function.name.clone(), output.key.clone());
            match output.of(json) {
                Some(value) => drop(self.values.insert(place, value)),
                None => drop(self.values.remove(&place)),
            }
        }
        match &answer {
            Ok(_) => drop(self.failures.remove(&function.name)),
            Err(problem) => drop(self.failures.insert(function.name.clone(), problem.clone())),
        }
        answer.map(drop)
    }

    fn request(&self, function: &Function) -> Result<reqwest::RequestBuilder, String> {
        let mut url: Url = self.filled(&function.url)?.parse().map_err(|error| format!("its url: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("its url is neither http nor https".to_owned());
        }
        for (name, value) in &function.query {
            url.query_pairs_mut().append_pair(name, &self.filled(value)?);
        }
        let client = http::client(&url).map_err(|error| line(&error))?;
        let mut request = if function.post { client.post(url) } else { client.get(url) };
        for (name, value) in &function.headers.0 {
            request = request.header(name, self.filled(value)?);
        }
        Ok(match &function.body {
            None => request,
            Some(Value::String(text)) => request.body(self.filled(text)?),
            Some(json) => request.json(&fill_json(json, &mut |text| self.filled(text))?),
        })
    }

    /// Puts values where `{{function.name.key}}` stands.
    fn filled(&self, text: &str) -> Result<String, String> {
        fill(text, &mut |name| self.value(name))
    }

    fn value(&self, name: &str) -> Result<String, String> {
        let (function, key) = function_and_key(name).ok_or_else(|| format!("{{{{{name}}}}} is no value of a function"))?;
        let value = self.values.get(&(function.to_owned(), key.to_owned())).cloned();
        value.ok_or_else(|| match self.failures.get(function) {
            Some(problem) => format!("{{{{{name}}}}} has no value and no default: {problem}"),
            None => format!("{{{{{name}}}}} has no value: the answer has none at its path, or there is none yet"),
        })
    }

    fn note(&self, problem: String) {
        drop(self.tells.send(Told::Note(problem)));
    }
}

/// Sends a request and reads its answer: JSON, or none when the body is no JSON.
async fn exchange(request: reqwest::RequestBuilder, timeout: Duration) -> Result<Value, String> {
    let exchange = async {
        let mut response = request.send().await.map_err(|error| line(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("the server answered {status}"));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| line(&error))? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST_ANSWER {
                return Err(format!("the answer is longer than {LARGEST_ANSWER} bytes"));
            }
        }
        Ok(serde_json::from_slice(&body).unwrap_or(Value::Null))
    };
    let late = || format!("no answer within {} s", timeout.as_secs());
    tokio::time::timeout(timeout, exchange).await.unwrap_or_else(|_| Err(late()))
}

/// An error in one line, without the address: it may hold a secret.
fn line(error: &reqwest::Error) -> String {
    let mut cause = std::error::Error::source(error);
    let mut last = None;
    while let Some(inner) = cause {
        last = Some(inner.to_string());
        cause = inner.source();
    }
    last.unwrap_or_else(|| "the request cannot be sent".to_owned())
}
