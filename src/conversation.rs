//! A call with its recording: two legs about to talk, the folder that is made for them, and what is left when it is over.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::call::{Call, CallControl, CallEnd, CallIds, CallOutcome, CallTime, EndReason, Leg, Limits, Observer, Side};
use crate::record::{CallInfo, PartyInfo, RecordError, Recorder};
use crate::transport::{ConnectError, SetUp, SetUpTimes};

/// A call that is over.
#[derive(Debug)]
pub struct FinishedCall {
    /// Which.
    pub ids: CallIds,
    /// When it began.
    pub began: DateTime<Utc>,
    /// Its folder.
    pub folder: Option<PathBuf>,
    /// How it went.
    pub outcome: CallOutcome,
    /// What became of the recording; none when none was asked for.
    pub recording: Option<Result<CallInfo, RecordError>>,
    /// The agent could not be reached, and why.
    pub unreachable: Option<String>,
    /// How long it took to reach the agent.
    pub set_up: SetUpTimes,
}

/// A call to an agent that could not be reached.
#[must_use]
pub fn unreachable_agent(ids: CallIds, began: DateTime<Utc>, error: &ConnectError, set_up: &SetUp) -> FinishedCall {
    let end = CallEnd { by: Some(Side::Agent), reason: EndReason::ConnectionLost, detail: error.to_string() };
    FinishedCall { set_up: set_up.times(), ..FinishedCall::unrecorded(ids, began, end, Some(error.to_string())) }
}

impl FinishedCall {
    /// A call that was given up before it was placed.
    #[must_use]
    pub fn cancelled(ids: CallIds, began: DateTime<Utc>) -> Self {
        let end = CallEnd { by: None, reason: EndReason::Cancelled, detail: "cancelled".to_owned() };
        Self::unrecorded(ids, began, end, None)
    }

    /// A call that nobody recorded, because it never began.
    pub(crate) fn unrecorded(ids: CallIds, began: DateTime<Utc>, end: CallEnd, unreachable: Option<String>) -> Self {
        let outcome = CallOutcome { end, duration: Duration::ZERO, first_agent_audio: None };
        Self { ids, began, folder: None, outcome, recording: None, unreachable, set_up: SetUpTimes::default() }
    }
}

/// What a recording must know of this leg.
#[must_use]
pub fn party_info(leg: &dyn Leg) -> PartyInfo {
    PartyInfo { rate: (!leg.abilities().text_only).then(|| leg.rate()), via: leg.via() }
}

/// A call's folder and what writes into it; or why there is nothing that does.
#[derive(Debug)]
pub struct Recording {
    folder: Option<PathBuf>,
    recorder: Option<Result<Recorder, RecordError>>,
}

impl Recording {
    /// Makes the call's folder, named by its id, below `out`; without one nothing is recorded. Off the runtime's threads: a
    /// slow disk holds up no other call.
    pub async fn begin(out: Option<&Path>, ids: &CallIds, caller: PartyInfo, agent: PartyInfo, set_up: &SetUp) -> Self {
        let Some(folder) = out.map(|out| out.join(&ids.call_id)) else { return Self { folder: None, recorder: None } };
        let info = CallInfo { set_up: set_up.times(), ..CallInfo::new(ids.clone(), caller, agent) };
        let place = folder.clone();
        let work = tokio::task::spawn_blocking(move || Recorder::begin(&place, info));
        let recorder = work.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        Self { folder: Some(folder), recorder: Some(recorder) }
    }
}

/// Two legs about to talk.
pub struct Conversation {
    /// The caller.
    pub caller: Box<dyn Leg>,
    /// The agent.
    pub agent: Box<dyn Leg>,
    /// Which call.
    pub ids: CallIds,
    /// When it came in or was placed.
    pub began: DateTime<Utc>,
    /// Its recording.
    pub recording: Recording,
    /// How the agent was reached; its first audio is still to come.
    pub set_up: SetUp,
}

impl Conversation {
    /// Carries the call out.
    pub async fn carry_out(self, limits: Limits, control: CallControl, observer: Observer) -> FinishedCall {
        let Self { caller, agent, ids, began, recording: Recording { folder, recorder }, mut set_up } = self;
        let started = Instant::now();
        let (recorder, mut recording) = match recorder.transpose() {
            Ok(recorder) => (recorder, None),
            Err(error) => (None, Some(Err(error))),
        };
        let outcome = match Call::new(caller, agent, limits) {
            Err(unable) => {
                let end = CallEnd { by: None, reason: EndReason::ProtocolError, detail: unable.to_string() };
                CallOutcome { end, duration: started.elapsed(), first_agent_audio: None }
            }
            Ok(call) => {
                let call = call.controlled_by(control).observe(observer);
                match recorder {
                    None => call.run().await.0,
                    Some(recorder) => {
                        let (outcome, mut recorder) = call.record(recorder).run().await;
                        note_first_audio(&mut set_up, started, &outcome);
                        recorder.set_up(set_up.times());
                        let end = CallTime::after(outcome.duration);
                        recording = Some(recorder.finish(end, outcome.end.clone()).await);
                        outcome
                    }
                }
            }
        };
        note_first_audio(&mut set_up, started, &outcome);
        FinishedCall { ids, began, folder, outcome, recording, unreachable: None, set_up: set_up.times() }
    }
}

fn note_first_audio(set_up: &mut SetUp, started: Instant, outcome: &CallOutcome) {
    if let Some(after) = outcome.first_agent_audio {
        set_up.first_audio(started, after);
    }
}

/// A new call's id: its moment and six random digits, so that folders sort by time.
#[must_use]
pub fn new_call_id() -> String {
    let random = Uuid::new_v4().simple().to_string();
    format!("{}-{}", Utc::now().format("%Y%m%d-%H%M%S"), &random[..6])
}
