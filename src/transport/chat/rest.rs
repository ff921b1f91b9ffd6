//! The caller of an `api_chat` run as a call's leg: its turns are polled, and the agent's are posted, over Cekura's REST
//! interface. No address of ours is dialled.

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};

use super::protocol::{self, fault};
use super::{ABILITIES, NO_RATE};
use crate::audio::Rate;
use crate::call::{Abilities, EndReason, Leg, LegCommand, LegEvent};
use crate::cekura::{ApiError, ChatTurn, Client, Status, TurnStatus};
use crate::transport::{Arrival, Arrivals, CallerLeg};

/// Between two looks at a turn that is being generated.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two looks while it is the agent's turn: only an end of the conversation is to be seen.
const REST: Duration = Duration::from_secs(3);
/// How long a run may be starting (409) after it says that it is in progress.
const STARTING: Duration = Duration::from_secs(60);
/// How long the last words and the end of the chat may take to reach the API, with the client's repeats.
pub(crate) const FAREWELL: Duration = Duration::from_secs(30);
/// Messages of the agent that may wait to be posted.
const MOST_QUEUED: usize = 1000;
/// Between two looks at the runs of a result.
const RUNS_EVERY: Duration = Duration::from_secs(2);

/// The caller of an `api_chat` run.
pub struct ApiChatLeg {
    client: Client,
    run_id: u64,
    began: Instant,
    /// The API has given a turn or taken a post: the run is past its start.
    up: bool,
    outgoing: VecDeque<Value>,
    /// Messages of the agent that were dropped, for too many waited.
    not_taken: u64,
    /// Turns that are still to come.
    awaited: VecDeque<u64>,
    /// The newest turn.
    last: u64,
    events: VecDeque<LegEvent>,
    doing: Option<Doing>,
    rest: Pin<Box<Sleep>>,
    /// The agent's side ends the conversation: what the API is told, and what the call.
    leaving: Option<(String, EndReason)>,
    crash: Option<String>,
    /// Why the chat cannot go on.
    lost: Option<String>,
    end: Option<(EndReason, String)>,
}

/// A request under way.
type Doing = Pin<Box<dyn Future<Output = Done> + Send>>;

enum Done {
    Turn(Result<ChatTurn, ApiError>),
    Posted(Value, Result<Option<u64>, ApiError>),
    Ended(Result<(), ApiError>),
}

impl ApiChatLeg {
    /// The caller of the run `run_id`, which is in progress.
    #[must_use]
    pub fn new(client: Client, run_id: u64) -> Self {
        Self {
            client,
            run_id,
            began: Instant::now(),
            up: false,
            outgoing: VecDeque::new(),
            not_taken: 0,
            awaited: VecDeque::from([0]),
            last: 0,
            events: VecDeque::new(),
            doing: None,
            rest: Box::pin(tokio::time::sleep(Duration::ZERO)),
            leaving: None,
            crash: None,
            lost: None,
            end: None,
        }
    }

    /// Waits for the opening line. True: there is none, the agent is to say the first word.
    pub async fn opening(&mut self) -> bool {
        let opened = std::future::poll_fn(|cx| {
            while self.end.is_none() && self.awaited.contains(&0) {
                let done = ready!(self.poll_done(cx));
                self.take(done);
            }
            Poll::Ready(())
        });
        opened.await;
        self.end.is_none() && self.events.is_empty()
    }

    /// The next request: a post goes before a look, an end comes last.
    fn next(&mut self) -> Doing {
        let (client, run_id) = (self.client.clone(), self.run_id);
        // Before turn 0 is known a post could be taken for an answer to it.
        let may_post = self.up || self.leaving.is_some();
        if let Some(body) = self.outgoing.pop_front_if(|_| may_post) {
            return Box::pin(async move {
                let posted = client.post_chat(run_id, &body).await;
                Done::Posted(body, posted)
            });
        }
        if let Some((reason, _)) = &self.leaving {
            let reason = reason.clone();
            return Box::pin(async move { Done::Ended(client.end_chat(run_id, &reason).await) });
        }
        let turn = self.awaited.front().copied().unwrap_or(self.last);
        Box::pin(async move { Done::Turn(client.chat_turn(run_id, turn).await) })
    }

    fn take(&mut self, done: Done) {
        match done {
            Done::Turn(Ok(turn)) => self.take_turn(turn),
            Done::Posted(body, Ok(turn)) => {
                self.up = true;
                match turn {
                    _ if body.get("content").is_none() => {}
                    Some(turn) => {
                        self.awaited.push_back(turn);
                        self.last = turn;
                    }
                    None => {
                        let detail = "the API took a message of the agent and named no turn that answers it (turn_id)".to_owned();
                        // The run would wait for ever: its chat is ended there too.
                        self.outgoing.clear();
                        self.leaving.get_or_insert((detail.clone(), EndReason::ConnectionLost));
                        self.lost = Some(detail);
                    }
                }
            }
            Done::Turn(Err(error)) if is_conflict(&error) => self.conflict(None),
            Done::Posted(body, Err(error)) if is_conflict(&error) => self.conflict(Some(body)),
            Done::Ended(ended) => {
                if let Err(error) = &ended
                    && !is_conflict(error)
                {
                    tracing::warn!(run = self.run_id, "the chat may go on: {error}");
                }
                let reason = self.leaving.as_ref().map_or(EndReason::HungUp, |(_, reason)| *reason);
                self.end = Some((reason, self.lost.take().unwrap_or_default()));
            }
            Done::Turn(Err(error)) | Done::Posted(_, Err(error)) => {
                self.end = Some((EndReason::ConnectionLost, error.to_string()));
            }
        }
    }

    fn take_turn(&mut self, turn: ChatTurn) {
        self.up = true;
        let news = !self.awaited.is_empty() && turn.status != TurnStatus::Generating;
        if news {
            self.awaited.pop_front();
            match (turn.status, &turn.message) {
                (TurnStatus::Error, message) => {
                    self.events.push_back(fault("TURN_ERROR", format!("the API could not make the caller's turn: {message}")));
                }
                (TurnStatus::Ready, Value::String(text)) if !text.trim().is_empty() => {
                    self.events.push_back(LegEvent::Text(text.clone()));
                }
                (TurnStatus::Ready, message @ Value::Object(_)) => {
                    self.events.extend(protocol::read(&message.to_string()).events);
                }
                _ => {}
            }
        }
        // A later turn may have the caller's last words.
        if turn.ended && (self.awaited.is_empty() || !news) {
            self.end = Some((EndReason::HungUp, turn.ended_reason.unwrap_or_default()));
        } else if self.awaited.is_empty() || !news {
            let pause = if self.awaited.is_empty() { REST } else { LOOK_EVERY };
            self.rest.as_mut().reset(Instant::now() + pause);
        }
    }

    /// 409: the run is starting still, or it has ended.
    fn conflict(&mut self, post: Option<Value>) {
        if self.up && post.is_some() && !self.awaited.is_empty() {
            // The caller's last words are still to be fetched.
            self.not_taken += 1 + self.outgoing.len() as u64;
            self.outgoing.clear();
        } else if self.up {
            self.end = Some((EndReason::HungUp, "the run has ended".to_owned()));
        } else if self.began.elapsed() >= STARTING {
            let detail = format!("the run's chat has not started within {} s", STARTING.as_secs());
            self.end = Some((EndReason::ConnectionLost, detail));
        } else {
            if let Some(post) = post {
                self.outgoing.push_front(post);
            }
            self.rest.as_mut().reset(Instant::now() + LOOK_EVERY);
        }
    }

    fn leave(&mut self, reason: EndReason) {
        if self.leaving.is_some() {
            return;
        }
        let said = match self.crash.take() {
            Some(detail) => {
                self.outgoing.push_back(protocol::metadata(&protocol::crashed(&detail)));
                format!("the agent crashed: {detail}")
            }
            None => "the agent ended the chat".to_owned(),
        };
        self.leaving = Some((said, reason));
    }

    fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        if self.doing.is_none() {
            let hurry = self.leaving.is_some() || (self.up && !self.outgoing.is_empty());
            if !hurry {
                ready!(self.rest.as_mut().poll(cx));
            }
            self.doing = Some(self.next());
        }
        let doing = self.doing.as_mut().expect("just made");
        let done = ready!(doing.as_mut().poll(cx));
        self.doing = None;
        Poll::Ready(done)
    }
}

/// The chats of the `api_chat` runs of a result, each as its run comes into progress. Ends with the result.
#[must_use]
pub fn chats_of(client: Client, result_id: u64) -> Arrivals {
    Arrivals::from_task(|arrivals| watch_runs(client, result_id, arrivals))
}

async fn watch_runs(client: Client, result_id: u64, arrivals: mpsc::Sender<Arrival>) {
    let mut known = HashSet::new();
    let mut opening = JoinSet::new();
    loop {
        match client.result(result_id).await {
            Ok(result) => {
                for run in result.runs.iter().filter(|run| run.status == Status::InProgress) {
                    if known.insert(run.id) {
                        opening.spawn(open(client.clone(), result_id, run.id, run.scenario_id, arrivals.clone()));
                    }
                }
                if result.status.is_terminal() {
                    break;
                }
            }
            // Whoever follows the result to its end meets the same error.
            Err(error) if !error.is_transient() => break,
            Err(error) => tracing::warn!("the runs of result {result_id} cannot be seen: {error}"),
        }
        tokio::time::sleep(RUNS_EVERY).await;
    }
    while opening.join_next().await.is_some() {}
}

async fn open(client: Client, result_id: u64, run_id: u64, scenario_id: Option<u64>, arrivals: mpsc::Sender<Arrival>) {
    let mut leg = ApiChatLeg::new(client, run_id);
    let agent_speaks_first = Some(leg.opening().await);
    let (peer, scenario_id) = (leg.via(), scenario_id.map(|id| id.to_string()));
    let (run_id, result_id) = (Some(run_id.to_string()), Some(result_id.to_string()));
    // Nobody may take calls any more: then the API waits in vain, and ends the run.
    let leg = Box::new(leg);
    let arrival = Arrival { leg, peer, run_id, result_id, scenario_id, agent_speaks_first, metadata: None };
    drop(arrivals.send(arrival).await);
}

fn is_conflict(error: &ApiError) -> bool {
    matches!(error, ApiError::Refused { status: 409, .. })
}

impl CallerLeg for ApiChatLeg {
    fn fail(&mut self, detail: &str) {
        self.crash = Some(detail.to_owned());
        self.leave(EndReason::ConnectionLost);
    }

    fn resume(&mut self, mut kept: VecDeque<LegEvent>, _: u64) {
        kept.append(&mut self.events);
        self.events = kept;
    }
}

impl Leg for ApiChatLeg {
    fn rate(&self) -> Rate {
        NO_RATE
    }

    fn abilities(&self) -> Abilities {
        ABILITIES
    }

    fn via(&self) -> String {
        format!("api_chat run {}", self.run_id)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            if self.not_taken > 0 && self.outgoing.is_empty() {
                return Poll::Ready(LegEvent::NotRead(std::mem::take(&mut self.not_taken)));
            }
            if let Some((reason, detail)) = self.end.take() {
                return Poll::Ready(LegEvent::Hangup { reason, detail });
            }
            let done = ready!(self.poll_done(cx));
            self.take(done);
        }
    }

    fn farewell(&self) -> Duration {
        FAREWELL
    }

    fn command(&mut self, command: LegCommand<'_>) {
        match command {
            LegCommand::Ending(end) => self.crash = protocol::crash_of(end),
            LegCommand::Hangup(reason) => self.leave(reason),
            _ if self.outgoing.len() >= MOST_QUEUED => self.not_taken += 1,
            _ => self.outgoing.extend(protocol::frame_of(command)),
        }
    }
}
