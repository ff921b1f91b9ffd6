//! Carries runs out with the scripted caller: over CHIRP, Cekura's text WebSocket, or REST, in LiveKit rooms, or to Pipecat bots.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::Utc;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use url::Url;

use super::carrier::{CancelToken, Carrier, RunEnd, RunOrder, RunOutcome, SPEECH, Target};
use super::chat::ChatDesk;
use super::project::FIRST_SPEC_SCENARIO;
use crate::call::{CallControl, CallIds, EndReason, Event, Leg, LegCommand, LoggedEvent, Side};
use crate::caller::personality::{Personalities, Personality};
use crate::caller::speech::SpeechStore;
use crate::caller::suite::{PersonalityKey, Problem};
use crate::caller::{Patience, PreparedScript, TEXT_PATIENCE, TextScript};
use crate::cekura::call_ended_reason;
use crate::conversation::{Conversation, FinishedCall, Recording, new_call_id, party_info};
use crate::measure::{Measures, measure};
use crate::record::{Role, TranscriptLine};
use crate::transport::chirp::{DialOptions, RATE, dial};
use crate::transport::livekit::{self, Entrance, RoomCall};
use crate::transport::web_socket::{RESULT_ID_HEADER, RUN_ID_HEADER, SCENARIO_ID_HEADER};
use crate::transport::{ConnectOptions, SetUp, WayOut, chat};

/// The metadata key under which a run tells how much the caller's own pacing slipped, in ms.
pub const PACING_SLIP_KEY: &str = "pacing_slip_ms";
/// The metadata key under which a run tells how fast the agent's audio came, where it was slowest: below 1 it was starved.
pub const RECEIVED_RATE_KEY: &str = "agent_received_rate";

/// Plays each run's scenario to its agent, and records it.
#[derive(Clone)]
pub struct ScriptedCarrier {
    speech: SpeechStore,
    chats: Arc<ChatDesk>,
    /// The folder of the suites, for the recordings that they play.
    beside: PathBuf,
    personalities: Personalities,
    patience: Patience,
    /// Tells the run's ids in a CHIRP upgrade request.
    tells_ids: bool,
    /// The project's scripts that have been spoken.
    spoken: Arc<Mutex<Spoken>>,
}

/// Scripts by their scenario's id, the test profile's and the personality's.
type Spoken = HashMap<(u64, Option<u64>, Option<u64>), PreparedScript>;

/// What a call's events tell of it.
#[derive(Debug, Default)]
struct Heard {
    transcript: Vec<TranscriptLine>,
    metadata: serde_json::Map<String, Value>,
    slip_ms: f64,
}

impl ScriptedCarrier {
    /// A carrier that speaks with `speech` and holds API chats at `chats`. `tells_ids`: a CHIRP run's upgrade request carries
    /// the run's, the result's and the scenario's id. Cekura documents these headers for its text WebSockets and not for CHIRP.
    #[must_use]
    pub fn new(speech: SpeechStore, chats: Arc<ChatDesk>, patience: Patience, tells_ids: bool) -> Self {
        Self {
            speech,
            chats,
            beside: PathBuf::new(),
            personalities: Personalities::default(),
            patience,
            tells_ids,
            spoken: Arc::default(),
        }
    }

    /// The same carrier, for suites that lie in `folder`.
    #[must_use]
    pub fn beside(mut self, folder: &Path) -> Self {
        self.beside = folder.to_owned();
        self
    }

    /// The same carrier, for callers of these personalities, which scenarios and starts name. Without any, a personality is
    /// Cekura's own affair, and every caller behaves in the same way.
    #[must_use]
    pub fn with_personalities(self, personalities: Personalities) -> Self {
        Self { personalities, ..self }
    }

    /// How the run's caller behaves: as the start says, else as the scenario does.
    fn personality(&self, order: &RunOrder) -> Result<Option<&Personality>, String> {
        if self.personalities.all().is_empty() {
            return Ok(None);
        }
        let key = order.personality_id.map(PersonalityKey::Id).or_else(|| order.scenario.personality.clone());
        key.map(|key| self.personalities.find(&key)).transpose()
    }

    /// The caller of a run: it speaks, or writes.
    async fn caller(&self, order: &RunOrder) -> Result<Box<dyn Leg>, String> {
        let personality = self.personality(order)?;
        if matches!(order.target, Target::Chirp { .. } | Target::Room { .. } | Target::Pipecat { .. }) {
            return Ok(Box::new(self.spoken_script(order, personality).await?.caller(self.patience)));
        }
        let script = order.scenario.script().map_err(|problems| list(&problems))?;
        let script = TextScript::new(&script, &order.scenario.name, "a chat").map_err(|problems| list(&problems))?;
        let script = personality.map_or(script.clone(), |personality| script.cast(personality));
        Ok(Box::new(script.caller(TEXT_PATIENCE)))
    }

    /// The run's script with its speech. It is made off the threads on which calls keep their pace; that of a project's
    /// scenario is kept, that of a suite's in a request, whose ids never come again, is not.
    async fn spoken_script(&self, order: &RunOrder, personality: Option<&Personality>) -> Result<PreparedScript, String> {
        let key = (order.scenario.number, order.test_profile_id, personality.map(|personality| personality.id));
        if let Some(known) = self.spoken.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(known.clone());
        }
        let script = order.scenario.script().map_err(|problems| list(&problems))?;
        let (scenario, speech, beside) = (Arc::clone(&order.scenario), self.speech.clone(), self.beside.clone());
        let (personality, runtime) = (personality.cloned(), tokio::runtime::Handle::current());
        let work = tokio::task::spawn_blocking(move || {
            runtime.block_on(async {
                let prepared = PreparedScript::prepare(&script, &scenario.name, &speech, RATE, &beside).await?;
                match personality {
                    Some(personality) => prepared.cast(&personality).await,
                    None => Ok(prepared),
                }
            })
        });
        let prepared = work.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let prepared = prepared.map_err(|error| error.to_string())?;
        if order.scenario.number < FIRST_SPEC_SCENARIO {
            self.spoken.lock().unwrap_or_else(PoisonError::into_inner).insert(key, prepared.clone());
        }
        Ok(prepared)
    }

    /// The agent of a run.
    async fn agent(&self, order: &RunOrder, set_up: &mut SetUp) -> Result<Box<dyn Leg>, String> {
        let ids = [(RUN_ID_HEADER, order.run_id), (RESULT_ID_HEADER, order.result_id), (SCENARIO_ID_HEADER, order.scenario.number)];
        let ids = ids.into_iter().map(|(name, id)| (name.to_owned(), id.to_string()));
        match &order.target {
            Target::Chirp { url, headers } => {
                let address = Url::parse(url).map_err(|error| format!("the agent's address: {error}"))?;
                let headers = headers.iter().cloned().chain(ids.filter(|_| self.tells_ids)).collect();
                let options = DialOptions { headers, ..DialOptions::default() };
                Ok(Box::new(dial(&address, &options, set_up).await.map_err(|error| error.to_string())?))
            }
            Target::Chat { url, headers, secret } => {
                let address = Url::parse(url).map_err(|error| format!("the agent's address: {error}"))?;
                let headers: Vec<_> = headers.iter().cloned().chain(ids).collect();
                let agent = chat::dial(&address, secret.as_ref(), &headers, false, set_up).await;
                Ok(Box::new(agent.map_err(|error| error.to_string())?))
            }
            Target::Room { call, profile } => {
                let call = told_of_run(call, profile, order);
                Ok(Box::new(livekit::dial(&call, set_up).await.map_err(|error| error.to_string())?))
            }
            Target::RoomChat { call } => Ok(Box::new(livekit::dial_chat(call, set_up).await.map_err(|error| error.to_string())?)),
            Target::Pipecat { to, connect, publish } => bot(order, to, connect, publish.as_ref(), set_up).await,
            Target::ApiChat { .. } => {
                let caller_opens = order.scenario.script().is_ok_and(|script| script.opening.is_some());
                Ok(Box::new(self.chats.open(order.run_id, caller_opens)))
            }
        }
    }
}

/// A Pipecat bot, and the message that the start has for it.
async fn bot(
    order: &RunOrder,
    to: &WayOut,
    connect: &ConnectOptions,
    publish: Option<&Value>,
    set_up: &mut SetUp,
) -> Result<Box<dyn Leg>, String> {
    let ids = ids_of(order, String::new());
    let mut leg = to.connect(connect, &ids, set_up).await.map_err(|error| error.to_string())?;
    publish.iter().for_each(|message| leg.command(LegCommand::Data(message)));
    Ok(leg)
}

fn ids_of(order: &RunOrder, call_id: String) -> CallIds {
    CallIds {
        call_id,
        run_id: Some(order.run_id.to_string()),
        result_id: Some(order.result_id.to_string()),
        scenario_id: Some(order.scenario.number.to_string()),
        scenario: Some(order.scenario.name.clone()),
    }
}

/// The call, with what Cekura tells a dispatched agent: the job's metadata has the run, the scenario and the test profile
/// (<https://docs.cekura.ai/documentation/integrations/livekit/automated>).
fn told_of_run(call: &RoomCall, profile: &BTreeMap<String, String>, order: &RunOrder) -> RoomCall {
    let mut call = call.clone();
    if let Entrance::Made { metadata, .. } = &mut call.entrance {
        let told = json!({
            "scenario_id": order.scenario.number, "run_id": order.run_id, "test_profile_data": profile,
        });
        *metadata = told.to_string();
    }
    call
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Carrier for ScriptedCarrier {
    fn carry(&self, order: RunOrder, cancel: CancelToken) -> BoxFuture<'static, RunOutcome> {
        let carrier = self.clone();
        Box::pin(async move {
            let legs = async {
                let caller = carrier.caller(&order).await?;
                let mut set_up = SetUp::default();
                let agent = carrier.agent(&order, &mut set_up).await?;
                Ok::<_, String>((caller, agent, set_up))
            };
            let legs = tokio::select! {
                legs = legs => legs,
                () = cancel.cancelled() => return RunOutcome::cancelled(),
            };
            match legs {
                Ok((caller, agent, set_up)) => converse(order, caller, agent, set_up, cancel).await,
                Err(error) => RunOutcome::failed(error),
            }
        })
    }
}

/// Carries the call out, recorded, and measures it.
async fn converse(order: RunOrder, caller: Box<dyn Leg>, agent: Box<dyn Leg>, set_up: SetUp, cancel: CancelToken) -> RunOutcome {
    let ids = ids_of(&order, new_call_id());
    let recording = Recording::begin(Some(&order.recordings), &ids, party_info(&*caller), party_info(&*agent), &set_up).await;
    order.progress.recording(order.recordings.join(&ids.call_id));
    let heard = Arc::new(Mutex::new(Heard::default()));
    let told = Arc::clone(&heard);
    let observer = move |event: &LoggedEvent| told.lock().unwrap_or_else(PoisonError::into_inner).note(event);
    let control = CallControl::default();
    let limits = order.limits();
    let conversation = Conversation { caller, agent, ids, began: Utc::now(), recording, set_up };
    let calling = conversation.carry_out(limits, control.clone(), Box::new(observer));
    let mut calling = std::pin::pin!(calling);
    let finished = tokio::select! {
        finished = &mut calling => finished,
        () = cancel.cancelled() => {
            control.cancel();
            calling.await
        }
    };
    order.progress.evaluating();
    let heard = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
    let measures = measured(&finished).await;
    judged(finished, heard, measures)
}

/// The recording's numbers; none where there is no recording.
async fn measured(finished: &FinishedCall) -> Option<Result<Box<Measures>, String>> {
    match (&finished.folder, &finished.recording) {
        (Some(folder), Some(Ok(_))) => {
            let folder: PathBuf = folder.clone();
            let work = tokio::task::spawn_blocking(move || measure(&folder).map(Box::new).map_err(|error| error.to_string()));
            Some(work.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())))
        }
        (_, Some(Err(error))) => Some(Err(error.to_string())),
        _ => None,
    }
}

/// What the API would say of a call that ended so.
fn judged(finished: FinishedCall, heard: Heard, measures: Option<Result<Box<Measures>, String>>) -> RunOutcome {
    let ended = &finished.outcome.end;
    let (end, success) = match (ended.reason, ended.by) {
        (EndReason::ScriptFinished, _) => (RunEnd::Completed, true),
        // The script was over, or the reason would be another.
        (EndReason::HungUp, _) => (RunEnd::Completed, true),
        (EndReason::AgentHungUp | EndReason::AgentSilent | EndReason::UnexpectedReply, _) => (RunEnd::Completed, false),
        (EndReason::MaxDuration, _) => (RunEnd::Timeout, false),
        (EndReason::Cancelled, _) => (RunEnd::Cancelled, false),
        (EndReason::ConnectionLost | EndReason::ProtocolError | EndReason::IdleTimeout, Some(Side::Agent)) => {
            (RunEnd::Completed, false)
        }
        _ => (RunEnd::Failed, false),
    };
    let lost = matches!(ended.reason, EndReason::ConnectionLost | EndReason::ProtocolError | EndReason::IdleTimeout);
    let mut outcome = RunOutcome {
        end,
        error_message: (!success && !ended.detail.is_empty()).then(|| ended.detail.clone()),
        call_ended_reason: Some(call_ended_reason(ended).to_owned()),
        duration: Some(finished.outcome.duration),
        provider_call_id: Some(finished.ids.call_id.clone()),
        transcript: heard.transcript,
        metadata: heard.metadata,
        connection_lost: lost,
        recording: finished.folder,
        measures,
        ..RunOutcome::completed(success)
    };
    outcome.metadata.insert(PACING_SLIP_KEY.to_owned(), Value::from(heard.slip_ms));
    let rate = outcome.measures.as_ref().and_then(|measures| measures.as_ref().ok()?.agent.received_rate.value);
    if let Some(rate) = rate {
        outcome.metadata.insert(RECEIVED_RATE_KEY.to_owned(), Value::from(rate));
    }
    outcome
}

impl Heard {
    /// Keys less than 2 s apart are one line, and `#` ends one, as in Cekura's transcripts.
    fn note_key(&mut self, digit: char, at: f64) {
        let role = Role::MainAgent;
        if let Some(line) = self.transcript.last_mut()
            && line.role == role
            && line.content.starts_with("DTMF: ")
            && !line.content.ends_with('#')
            && at - line.end_time < 2.0
        {
            line.content.push(digit);
            line.end_time = at;
        } else {
            self.say(role, format!("DTMF: {digit}"), at);
        }
    }

    fn note(&mut self, logged: &LoggedEvent) {
        let at = logged.at_ms / 1000.0;
        let role = if logged.side == Some(Side::Agent) { Role::MainAgent } else { Role::TestingAgent };
        match &logged.event {
            Event::ScriptLine { text, .. } => self.say(Role::TestingAgent, text.clone(), at),
            Event::Dtmf { digit } if role == Role::MainAgent => self.note_key(*digit, at),
            // What an agent says is not recognised here: its turns are in the transcript, its words only where it tells them.
            Event::SpeechStarted { .. } if role == Role::MainAgent => self.say(role, SPEECH.to_owned(), at),
            Event::SpeechStopped { .. } => {
                if let Some(line) = self.transcript.iter_mut().rev().find(|line| line.role == role) {
                    line.end_time = at;
                }
            }
            Event::Text { text } if role == Role::MainAgent => self.words(text.clone(), at),
            Event::FunctionCall(call) => self.data(Role::FunctionCall, json!(call), at),
            Event::FunctionResult(result) => self.data(Role::FunctionCallResult, json!(result), at),
            // The last write wins, key by key.
            Event::Metadata { metadata: Value::Object(metadata) } if role == Role::MainAgent => {
                self.metadata.extend(metadata.clone());
            }
            Event::PacingSlipped { slipped_ms } => self.slip_ms = self.slip_ms.max(*slipped_ms),
            _ => {}
        }
    }

    /// The agent's words are those of its last turn, where that has none.
    fn words(&mut self, text: String, at: f64) {
        match self.transcript.iter_mut().rfind(|line| line.role == Role::MainAgent) {
            Some(line) if line.content == SPEECH => line.content = text,
            _ => self.say(Role::MainAgent, text, at),
        }
    }

    fn say(&mut self, role: Role, content: String, at: f64) {
        self.transcript.push(TranscriptLine { role, content, start_time: at, end_time: at, data: None });
    }

    fn data(&mut self, role: Role, data: Value, at: f64) {
        self.transcript.push(TranscriptLine { role, content: String::new(), start_time: at, end_time: at, data: Some(data) });
    }
}
