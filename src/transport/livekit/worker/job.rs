//! One job: the room is joined, and whoever calls there becomes a call.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use url::Url;

use super::leg::AgentLeg;
use super::protocol::Assignment;
use crate::audio::opus::OpusError;
use crate::call::LegEvent;
use crate::transport::Arrival;
use crate::transport::livekit::leg::RoomLeg;
use crate::transport::livekit::{Disconnect, JoinError, Participant, ParticipantKind, Room, RoomEvent, RoomOptions};

/// How long somebody may take to come into the room. A room that is deleted before its job has come is made again by the
/// joining, and stays empty.
const PARTY_TIME: Duration = Duration::from_secs(60);

/// How long the way for data may take, once somebody is there.
const DATA_TIME: Duration = Duration::from_secs(5);

/// A job that did not become a call.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
    #[error("the server's address for the room cannot be read: {0}")]
    Address(url::ParseError),
    #[error("the room cannot be joined: {0}")]
    Join(#[from] JoinError),
    #[error(transparent)]
    Opus(#[from] OpusError),
    #[error("nobody came into the room within {} s", PARTY_TIME.as_secs())]
    Nobody,
    #[error("the room ended before anybody came: {0}")]
    Ended(Disconnect),
    #[error("the server ended the job before anybody came")]
    Terminated,
}

/// How long the worker may take to tell the server that a job is over, before its room is left.
const TELL_TIME: Duration = Duration::from_secs(1);

/// A job that is over.
pub(super) struct JobOver {
    pub(super) job_id: String,
    pub(super) result: Result<(), String>,
    /// Dropped when the server has been told, or cannot be.
    pub(super) told: oneshot::Sender<()>,
}

/// The duty to tell when a job is over. One that is dropped tells that the job broke down.
pub(super) struct JobEnd {
    job_id: Option<String>,
    over: mpsc::UnboundedSender<JobOver>,
}

impl JobEnd {
    pub(super) fn new(job_id: &str, over: mpsc::UnboundedSender<JobOver>) -> Self {
        Self { job_id: Some(job_id.to_owned()), over }
    }

    /// Tells how the job went, and waits until the server knows it: of an agent that leaves before, it takes the job for failed.
    pub(super) async fn tell(mut self, result: Result<(), String>) {
        if let Some(told) = self.send(result) {
            drop(tokio::time::timeout(TELL_TIME, told).await);
        }
    }

    fn send(&mut self, result: Result<(), String>) -> Option<oneshot::Receiver<()>> {
        let job_id = self.job_id.take()?;
        let (tell, told) = oneshot::channel();
        // The worker may be gone: then there is nobody to be told.
        drop(self.over.send(JobOver { job_id, result, told: tell }));
        Some(told)
    }
}

impl Drop for JobEnd {
    fn drop(&mut self) {
        self.send(Err("the call broke down".to_owned()));
    }
}

/// Carries a job out, up to the call that comes of it.
pub(super) async fn bring(
    assignment: Assignment,
    url: Url,
    end: JobEnd,
    mut stop: oneshot::Receiver<()>,
    arrivals: mpsc::Sender<Arrival>,
) {
    let waited = tokio::select! {
        leg = wait(&assignment, url) => leg,
        () = told(&mut stop) => Err(JobError::Terminated),
    };
    match waited {
        Ok((leg, party)) => {
            let metadata = Metadata::read(&assignment.metadata);
            let peer = format!("{party} in the LiveKit room {}", assignment.room);
            let arrival = Arrival {
                leg: Box::new(AgentLeg::new(leg, end, stop)),
                peer,
                run_id: metadata.run_id,
                result_id: metadata.result_id,
                scenario_id: metadata.scenario_id,
                agent_speaks_first: None,
                metadata: metadata.text,
            };
            // Nobody takes calls any more: the leg is dropped and tells so.
            drop(arrivals.send(arrival).await);
        }
        Err(error) => {
            tracing::warn!(job = assignment.job_id, room = assignment.room, "no call came of a job: {error}");
            end.tell(Err(error.to_string())).await;
        }
    }
}

/// Waits until the server ends the job. That the worker is gone ends nothing.
async fn told(stop: &mut oneshot::Receiver<()>) {
    if stop.await.is_err() {
        std::future::pending().await
    }
}

/// Joins the room and waits for somebody to talk to.
async fn wait(assignment: &Assignment, url: Url) -> Result<(RoomLeg, String), JobError> {
    let url = assignment.url.as_deref().map(Url::parse).transpose().map_err(JobError::Address)?.unwrap_or(url);
    let mut room = Room::join(&url, &assignment.token, RoomOptions::default()).await?;
    room.publish_microphone("agent");
    let (party, mut kept) =
        tokio::time::timeout(PARTY_TIME, find_party(&mut room)).await.map_err(|_| JobError::Nobody)?.map_err(JobError::Ended)?;
    // Who writes to an agent that listens must not write to nobody. Media may have no way: the room tells so itself.
    if let Ok(ended) = tokio::time::timeout(DATA_TIME, data_ready(&mut room, &mut kept)).await {
        ended.map_err(JobError::Ended)?;
    }
    let told = json!({"livekit": {"room": room.name(), "sid": room.sid(), "job": assignment.job_id, "caller": party}});
    let mut leg = RoomLeg::new(room, format!("livekit://{}", assignment.room), party.clone())?;
    kept.into_iter().for_each(|event| leg.take(event));
    leg.tell_first(LegEvent::Metadata(Metadata::read(&assignment.metadata).beside(told)));
    Ok((leg, party))
}

/// Waits until data of others can be received.
async fn data_ready(room: &mut Room, kept: &mut Vec<RoomEvent>) -> Result<(), Disconnect> {
    while !room.hears_data() {
        match std::future::poll_fn(|cx| room.poll_event(cx)).await {
            RoomEvent::Disconnected { reason, .. } => return Err(reason),
            RoomEvent::Rtp { .. } | RoomEvent::SenderReport { .. } => {}
            event => kept.push(event),
        }
    }
    Ok(())
}

/// The first participant who is no agent, and what happened meanwhile.
async fn find_party(room: &mut Room) -> Result<(String, Vec<RoomEvent>), Disconnect> {
    let mut kept = Vec::new();
    loop {
        let calls = |other: &&Participant| matches!(other.kind, ParticipantKind::Standard | ParticipantKind::Sip);
        if let Some(party) = room.participants().find(calls) {
            return Ok((party.identity.clone(), kept));
        }
        match std::future::poll_fn(|cx| room.poll_event(cx)).await {
            RoomEvent::Disconnected { reason, .. } => return Err(reason),
            // Nobody listens yet.
            RoomEvent::Rtp { .. } | RoomEvent::SenderReport { .. } => {}
            event => kept.push(event),
        }
    }
}

/// What a job's metadata says. Cekura writes a JSON object with `scenario_id`, `run_id` and `test_profile_data`
/// (<https://docs.cekura.ai/documentation/integrations/livekit>).
#[derive(Default)]
struct Metadata {
    /// As it came; none: empty.
    text: Option<String>,
    json: Option<Value>,
    run_id: Option<String>,
    result_id: Option<String>,
    scenario_id: Option<String>,
}

impl Metadata {
    fn read(text: &str) -> Self {
        if text.is_empty() {
            return Self::default();
        }
        let json: Option<Value> = serde_json::from_str(text).ok();
        let id = |name: &str| match json.as_ref()?.get(name)? {
            Value::String(id) => Some(id.clone()).filter(|id| !id.is_empty()),
            Value::Number(id) => Some(id.to_string()),
            _ => None,
        };
        let (run_id, result_id, scenario_id) = (id("run_id"), id("result_id"), id("scenario_id"));
        Self { text: Some(text.to_owned()), json, run_id, result_id, scenario_id }
    }

    /// Put into the object `told`, under `metadata`.
    fn beside(self, mut told: Value) -> Value {
        if let Some(metadata) = self.json.or(self.text.map(Value::String)) {
            told["metadata"] = metadata;
        }
        told
    }
}
