//! Opens the doors and connects each call that comes in to the agent under test, recorded.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::audio::Rate;
use crate::call::{Call, CallControl, CallEnd, CallIds, CallOutcome, EndReason, Leg, LegEvent, Limits, LoggedEvent, Side};
use crate::record::{CallInfo, RecordError, Recorder, TrackInfo};
use crate::transport::chirp::{Arrival, Door};
use crate::transport::{ConnectError, ConnectOptions, WayOut};

/// Whom to connect the calls to, and where to record them.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The agent under test.
    pub agent: WayOut,
    /// How to reach it.
    pub connect: ConnectOptions,
    /// The folder that gets one folder a call; none: not recorded.
    pub out: Option<PathBuf>,
    /// What a call may not exceed.
    pub limits: Limits,
}

/// What happens at the doors.
#[derive(Debug)]
pub enum Happening {
    /// A call came in.
    Began(CallIds),
    /// Something happened in it.
    Event(CallIds, LoggedEvent),
    /// It is over.
    Over(Box<FinishedCall>),
}

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
    /// The agent could not be reached, and why.
    pub unreachable: Option<String>,
}

/// Takes calls from `door` until `stop` is done; then those that go on are ended and waited for.
pub async fn serve(mut door: Door, desk: Desk, happenings: mpsc::UnboundedSender<Happening>, stop: impl Future<Output = ()>) {
    let desk = Arc::new(desk);
    let control = CallControl::default();
    let mut calls = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            arrival = door.next() => {
                calls.spawn(take(arrival, Arc::clone(&desk), happenings.clone(), control.clone()));
            }
            Some(_) = calls.join_next() => {}
        }
    }
    drop(door);
    control.cancel();
    while calls.join_next().await.is_some() {}
}

/// Carries out one call from the door.
async fn take(arrival: Arrival, desk: Arc<Desk>, happenings: mpsc::UnboundedSender<Happening>, control: CallControl) {
    let Arrival { mut leg, run_id, result_id, scenario_id, peer } = arrival;
    let ids = CallIds { call_id: new_call_id(), run_id, result_id, scenario_id, scenario: None };
    tracing::info!(call = ids.call_id, %peer, "a call comes in");
    let began = Utc::now();
    // Nobody may be left to hear what happens: then nobody misses it.
    drop(happenings.send(Happening::Began(ids.clone())));
    let caller = PartyInfo::of(&leg);
    let ready = leg.wait_for(async {
        let agent = desk.agent.connect(&desk.connect, &ids).await?;
        let recording = Recording::begin(desk.out.as_deref(), &ids, caller, PartyInfo::of(&*agent)).await;
        Ok::<_, ConnectError>((agent, recording))
    });
    let ready = ready.await;
    let finished = match ready {
        Ok(Ok((agent, recording))) => {
            let (sender, told) = (happenings.clone(), ids.clone());
            let observe = move |event: &LoggedEvent| drop(sender.send(Happening::Event(told.clone(), event.clone())));
            let conversation = Conversation { caller: Box::new(leg), agent, ids: ids.clone(), began, recording };
            conversation.carry_out(desk.limits, control, Box::new(observe)).await
        }
        Ok(Err(error)) => {
            leg.fail("the agent cannot be reached");
            close(&mut leg).await;
            unreachable_agent(ids.clone(), began, &error)
        }
        Err(left) => {
            let reason = match left {
                LegEvent::Hangup { reason, .. } => reason,
                _ => EndReason::ConnectionLost,
            };
            let detail = "the caller left before the agent answered".to_owned();
            let end = CallEnd { by: Some(Side::Caller), reason, detail };
            FinishedCall::unrecorded(ids.clone(), began, end, None)
        }
    };
    drop(happenings.send(Happening::Over(Box::new(finished))));
}

async fn close(leg: &mut dyn Leg) {
    let closed = std::future::poll_fn(|cx| {
        loop {
            match leg.poll_event(cx) {
                std::task::Poll::Ready(LegEvent::Hangup { .. }) => return std::task::Poll::Ready(()),
                std::task::Poll::Ready(_) => {}
                std::task::Poll::Pending => return std::task::Poll::Pending,
            }
        }
    });
    // A leg closes within its own time; this is for one that does not.
    drop(tokio::time::timeout(Duration::from_secs(3), closed).await);
}

/// A call to an agent that could not be reached.
#[must_use]
pub fn unreachable_agent(ids: CallIds, began: DateTime<Utc>, error: &ConnectError) -> FinishedCall {
    let end = CallEnd { by: Some(Side::Agent), reason: EndReason::ConnectionLost, detail: error.to_string() };
    FinishedCall::unrecorded(ids, began, end, Some(error.to_string()))
}

impl FinishedCall {
    /// A call that was given up before it was placed.
    #[must_use]
    pub fn cancelled(ids: CallIds, began: DateTime<Utc>) -> Self {
        let end = CallEnd { by: None, reason: EndReason::Cancelled, detail: "cancelled".to_owned() };
        Self::unrecorded(ids, began, end, None)
    }

    fn unrecorded(ids: CallIds, began: DateTime<Utc>, end: CallEnd, unreachable: Option<String>) -> Self {
        let outcome = CallOutcome { end, duration: Duration::ZERO, recording: None };
        Self { ids, began, folder: None, outcome, unreachable }
    }
}

/// What a recording must know of a party.
#[derive(Debug)]
pub struct PartyInfo {
    rate: Rate,
    via: String,
}

impl PartyInfo {
    /// Of this leg.
    #[must_use]
    pub fn of(leg: &dyn Leg) -> Self {
        Self { rate: leg.rate(), via: leg.via() }
    }
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
    pub async fn begin(out: Option<&Path>, ids: &CallIds, caller: PartyInfo, agent: PartyInfo) -> Self {
        let Some(folder) = out.map(|out| out.join(&ids.call_id)) else { return Self { folder: None, recorder: None } };
        let track = |rate: Rate| TrackInfo { rate, samples: 0, parts: Vec::new() };
        let info = CallInfo {
            version: 1,
            ids: ids.clone(),
            started_at: Utc::now(),
            caller: track(caller.rate),
            agent: track(agent.rate),
            caller_via: caller.via,
            agent_via: agent.via,
            stereo: None,
            duration_ms: None,
            end: None,
            repaired: false,
        };
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
}

impl Conversation {
    /// Carries the call out.
    pub async fn carry_out(self, limits: Limits, control: CallControl, observer: crate::call::Observer) -> FinishedCall {
        let Self { caller, agent, ids, began, recording: Recording { folder, recorder } } = self;
        let started = Instant::now();
        let (recorder, failure) = match recorder.transpose() {
            Ok(recorder) => (recorder, None),
            Err(error) => (None, Some(error)),
        };
        let outcome = match Call::new(caller, agent, limits) {
            Err(unable) => {
                let end = CallEnd { by: None, reason: EndReason::ProtocolError, detail: unable.to_string() };
                CallOutcome { end, duration: started.elapsed(), recording: None }
            }
            Ok(call) => {
                let call = call.controlled_by(control).observe(observer);
                let call = if let Some(recorder) = recorder { call.record(recorder) } else { call };
                call.run().await
            }
        };
        let recording = failure.map(Err).or(outcome.recording);
        FinishedCall { ids, began, folder, outcome: CallOutcome { recording, ..outcome }, unreachable: None }
    }
}

/// A new call's id: its moment and six random digits, so that folders sort by time.
#[must_use]
pub fn new_call_id() -> String {
    let random = Uuid::new_v4().simple().to_string();
    format!("{}-{}", Utc::now().format("%Y%m%d-%H%M%S"), &random[..6])
}
