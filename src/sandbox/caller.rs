//! Carries runs out with the scripted caller over CHIRP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;
use url::Url;

use super::carrier::{CancelToken, Carrier, RunEnd, RunOrder, RunOutcome, Speaker, TranscriptLine};
use crate::call::{Call, CallControl, EndReason, Event, Limits, LoggedEvent, Side};
use crate::caller::{Patience, PreparedScript};
use crate::transport::chirp::{DialOptions, RESULT_ID_HEADER, RUN_ID_HEADER, SCENARIO_ID_HEADER, dial};

/// The metadata key under which a run tells how much the caller's own pacing slipped, in ms.
pub const PACING_SLIP_KEY: &str = "pacing_slip_ms";

/// Plays each scenario's script to the run's address.
pub struct ScriptedCarrier {
    scripts: HashMap<u64, PreparedScript>,
    /// By scenario and personality.
    casts: HashMap<(u64, u64), PreparedScript>,
    patience: Patience,
    /// Tells the run's ids in the upgrade request.
    tells_ids: bool,
}

/// What a call's events tell of it.
#[derive(Debug, Default)]
struct Heard {
    transcript: Vec<TranscriptLine>,
    slip_ms: f64,
}

impl ScriptedCarrier {
    /// A carrier of these scripts, by their scenario's id. `tells_ids`: the upgrade request carries the run's, the
    /// result's and the scenario's id. Cekura documents these headers for its text WebSockets and not for CHIRP.
    #[must_use]
    pub fn new(scripts: HashMap<u64, PreparedScript>, patience: Patience, tells_ids: bool) -> Self {
        Self { scripts, casts: HashMap::new(), patience, tells_ids }
    }

    /// The scripts from callers of other personalities, by scenario and personality: a start may ask for one. Without any, a
    /// personality is Cekura's own affair, and every caller behaves in the same way.
    #[must_use]
    pub fn with_personalities(self, casts: HashMap<(u64, u64), PreparedScript>) -> Self {
        Self { casts, ..self }
    }

    fn script(&self, order: &RunOrder) -> Result<PreparedScript, String> {
        let scenario = order.scenario_id;
        match order.personality_id.filter(|_| !self.casts.is_empty()) {
            Some(id) => self.casts.get(&(scenario, id)).cloned().ok_or_else(|| format!("there is no personality {id}")),
            None => self.scripts.get(&scenario).cloned().ok_or_else(|| format!("scenario {scenario} has no script")),
        }
    }
}

impl Carrier for ScriptedCarrier {
    fn carry(&self, order: RunOrder, cancel: CancelToken) -> BoxFuture<'static, RunOutcome> {
        let script = self.script(&order);
        let (patience, tells_ids) = (self.patience, self.tells_ids);
        Box::pin(async move {
            match script {
                Err(problem) => RunOutcome::failed(problem),
                Ok(script) => call(order, &script, patience, tells_ids, cancel).await,
            }
        })
    }
}

async fn call(order: RunOrder, script: &PreparedScript, patience: Patience, tells_ids: bool, cancel: CancelToken) -> RunOutcome {
    let url = match Url::parse(&order.websocket_url) {
        Ok(url) => url,
        Err(error) => return RunOutcome::failed(format!("{}: {error}", order.websocket_url)),
    };
    let ids = [(RUN_ID_HEADER, order.run_id), (RESULT_ID_HEADER, order.result_id), (SCENARIO_ID_HEADER, order.scenario_id)];
    let headers = ids.into_iter().filter(|_| tells_ids).map(|(name, id)| (name.to_owned(), id.to_string())).collect();
    let options = DialOptions { headers, ..DialOptions::default() };
    let agent = tokio::select! {
        connected = dial(&url, &options) => match connected {
            Ok(agent) => agent,
            Err(error) => return RunOutcome::failed(error),
        },
        () = cancel.cancelled() => return RunOutcome::cancelled(),
    };
    let limits = order.max_duration.map_or_else(Limits::default, |max_duration| Limits { max_duration });
    let call = match Call::new(Box::new(script.caller(patience)), Box::new(agent), limits) {
        Ok(call) => call,
        Err(unable) => return RunOutcome::failed(unable),
    };
    let heard = Arc::new(Mutex::new(Heard::default()));
    let told = Arc::clone(&heard);
    let observer = move |event: &LoggedEvent| told.lock().unwrap_or_else(PoisonError::into_inner).note(event);
    let control = CallControl::default();
    let calling = call.controlled_by(control.clone()).observe(Box::new(observer)).run();
    let mut calling = std::pin::pin!(calling);
    let outcome = tokio::select! {
        (outcome, ()) = &mut calling => outcome,
        () = cancel.cancelled() => {
            control.cancel();
            calling.await.0
        }
    };
    order.progress.evaluating();
    let heard = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
    judged(outcome.end.reason, outcome.end.by, &outcome.end.detail, outcome.duration, heard)
}

/// What the API would say of a call that ended so.
fn judged(reason: EndReason, by: Option<Side>, detail: &str, duration: Duration, heard: Heard) -> RunOutcome {
    let (end, success, words) = match (reason, by) {
        (EndReason::ScriptFinished, _) => (RunEnd::Completed, true, "Testing agent-ended-call"),
        // The script was over, or the reason would be another.
        (EndReason::HungUp, _) => (RunEnd::Completed, true, "Main agent-ended-call"),
        (EndReason::AgentHungUp, _) => (RunEnd::Completed, false, "Main agent-ended-call"),
        // A caller that is not answered, or not with what it can go on from, waits until its time is up.
        (EndReason::AgentSilent | EndReason::UnexpectedReply, _) => (RunEnd::Completed, false, "Main agent-silence-timed-out"),
        (EndReason::MaxDuration, _) => (RunEnd::Timeout, false, "exceeded-max-duration"),
        (EndReason::Cancelled, _) => (RunEnd::Cancelled, false, "run-cancelled-by-user"),
        (EndReason::ConnectionLost | EndReason::ProtocolError | EndReason::IdleTimeout, Some(Side::Agent)) => {
            (RunEnd::Completed, false, "Main agent-ended-call")
        }
        _ => (RunEnd::Failed, false, "Testing agent-pipeline-error"),
    };
    let mut outcome = RunOutcome {
        end,
        error_message: (!success && !detail.is_empty()).then(|| detail.to_owned()),
        call_ended_reason: Some(words.to_owned()),
        duration: Some(duration),
        transcript: heard.transcript,
        ..RunOutcome::completed(success)
    };
    outcome.metadata.insert(PACING_SLIP_KEY.to_owned(), Value::from(heard.slip_ms));
    outcome
}

impl Heard {
    /// Keys less than 2 s apart are one line, and `#` ends one, as in Cekura's transcripts.
    fn note_key(&mut self, digit: char, at: f64) {
        let role = Speaker::MainAgent;
        if let Some(line) = self.transcript.last_mut()
            && line.role == role
            && line.content.starts_with("DTMF: ")
            && !line.content.ends_with('#')
            && at - line.end_time < 2.0
        {
            line.content.push(digit);
            line.end_time = at;
        } else {
            self.transcript.push(TranscriptLine { role, content: format!("DTMF: {digit}"), start_time: at, end_time: at });
        }
    }

    fn note(&mut self, logged: &LoggedEvent) {
        let at = logged.at_ms / 1000.0;
        match &logged.event {
            Event::ScriptLine { text, .. } => {
                let content = text.clone();
                self.transcript.push(TranscriptLine { role: Speaker::TestingAgent, content, start_time: at, end_time: at });
            }
            Event::Dtmf { digit } if logged.side == Some(Side::Agent) => self.note_key(*digit, at),
            // What an agent says is not recognised here: its turns are in the transcript, its words are not.
            Event::SpeechStarted { .. } if logged.side == Some(Side::Agent) => {
                let content = "[speech]".to_owned();
                self.transcript.push(TranscriptLine { role: Speaker::MainAgent, content, start_time: at, end_time: at });
            }
            Event::SpeechStopped { .. } => {
                let role = if logged.side == Some(Side::Agent) { Speaker::MainAgent } else { Speaker::TestingAgent };
                if let Some(line) = self.transcript.iter_mut().rev().find(|line| line.role == role) {
                    line.end_time = at;
                }
            }
            Event::PacingSlipped { slipped_ms } => self.slip_ms = self.slip_ms.max(*slipped_ms),
            _ => {}
        }
    }
}
