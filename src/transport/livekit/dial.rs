//! The dial: a room is made, an agent asked for, and the caller joins as a participant.

use std::time::Duration;

use livekit_protocol::CreateRoomRequest;
use serde_json::json;
use uuid::Uuid;

use super::leg::{RoomLeg, delete_room};
use super::{Grants, JoinError, Participant, ParticipantKind, Room, RoomEvent, RoomOptions, Server, ServerError};
use crate::audio::opus::OpusError;
use crate::call::{EndReason, LegEvent};
use crate::transport::{SetUp, Stage};

/// How long the caller's token is valid; the server renews it while the call lasts.
const TOKEN_VALID: Duration = Duration::from_secs(600);
/// How long a room that nobody came into stays, in seconds: for a call that is killed while it is set up.
const EMPTY_S: u32 = 60;

/// A call into a room that could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("LiveKit, {}: {problem}", stage.name().replace('_', " "))]
pub struct RoomCallError {
    /// The step that failed.
    pub stage: Stage,
    /// Why.
    #[source]
    pub problem: RoomCallProblem,
}

/// What went wrong in a step.
#[derive(Debug, thiserror::Error)]
pub enum RoomCallProblem {
    /// The server's API.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Joining.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The codec.
    #[error(transparent)]
    Opus(#[from] OpusError),
    /// The room ended meanwhile.
    #[error("{0}")]
    Ended(String),
    /// It took too long.
    #[error("not within {waited_s} s{hint}")]
    TimedOut {
        /// How long was waited.
        waited_s: f64,
        /// What the server knows of it.
        hint: String,
    },
}

/// Whom to call, and how.
#[derive(Debug, Clone)]
pub struct RoomCall {
    /// The server.
    pub server: Server,
    /// The room; none: one of its own for the call.
    pub room: Option<String>,
    /// The agent to be asked for; none: it comes by itself.
    pub agent_name: Option<String>,
    /// What the agent is told.
    pub metadata: String,
    /// The caller's identity.
    pub identity: String,
    /// How long each step may take.
    pub step_time: Duration,
}

/// Sets a call up: the leg hears the agent, and the agent can hear it.
///
/// # Errors
/// [`RoomCallError`], which names the step.
pub async fn dial(call: &RoomCall, set_up: &mut SetUp) -> Result<RoomLeg, RoomCallError> {
    let mut setup = Setup { call, set_up };
    let name = call.room.clone().unwrap_or_else(|| format!("trunkline-{}", Uuid::new_v4().simple()));
    setup.room(&name).await?;
    let made = RoomGuard::new(call, &name);
    let room = setup.join(&name).await?;
    setup.dispatch(&name).await?;
    let mut leg = setup.agent(room, &name).await?;
    setup.hear(&mut leg, &name).await?;
    if let Some(cleanup) = made.hand_over() {
        leg.at_the_end(cleanup);
    }
    let metadata = json!({"livekit": {"room": name, "sid": leg.room().sid()}});
    leg.tell_first(LegEvent::Metadata(metadata));
    Ok(leg)
}

/// Ends the room of a call that was not set up.
struct RoomGuard {
    ours: Option<(Server, String)>,
}

impl RoomGuard {
    fn new(call: &RoomCall, name: &str) -> Self {
        Self { ours: call.room.is_none().then(|| (call.server.clone(), name.to_owned())) }
    }

    fn hand_over(mut self) -> Option<super::leg::Cleanup> {
        self.ours.take().map(|(server, room)| delete_room(server, room))
    }
}

impl Drop for RoomGuard {
    fn drop(&mut self) {
        if let Some((server, room)) = self.ours.take() {
            tokio::spawn(delete_room(server, room));
        }
    }
}

struct Setup<'a> {
    call: &'a RoomCall,
    set_up: &'a mut SetUp,
}

impl Setup<'_> {
    async fn room(&mut self, name: &str) -> Result<(), RoomCallError> {
        self.set_up.enter(Stage::Room);
        let request = CreateRoomRequest { name: name.to_owned(), empty_timeout: EMPTY_S, ..Default::default() };
        let made = self.call.server.create_room(request).await;
        made.map_err(|error| RoomCallError { stage: Stage::Room, problem: error.into() })?;
        Ok(())
    }

    async fn join(&mut self, name: &str) -> Result<Room, RoomCallError> {
        self.set_up.enter(Stage::Join);
        let failed = |problem: RoomCallProblem| RoomCallError { stage: Stage::Join, problem };
        let token = self.call.server.room_token(name, &self.call.identity, TOKEN_VALID, &Grants::default());
        let token = token.map_err(|error| failed(error.into()))?;
        let joined = Room::join(self.call.server.url(), &token, RoomOptions::default()).await;
        let mut room = joined.map_err(|error| failed(error.into()))?;
        room.publish_microphone("caller");
        Ok(room)
    }

    async fn dispatch(&mut self, name: &str) -> Result<(), RoomCallError> {
        self.set_up.enter(Stage::Dispatch);
        if let Some(agent) = &self.call.agent_name {
            let asked = self.call.server.dispatch(name, agent, &self.call.metadata).await;
            asked.map_err(|error| RoomCallError { stage: Stage::Dispatch, problem: error.into() })?;
        }
        Ok(())
    }

    /// Waits for the agent to come.
    async fn agent(&mut self, mut room: Room, name: &str) -> Result<RoomLeg, RoomCallError> {
        let stage = Stage::AgentJoined;
        self.set_up.enter(stage);
        let failed = |problem: RoomCallProblem| RoomCallError { stage, problem };
        let waited = tokio::time::timeout(self.call.step_time, async {
            let mut kept = Vec::new();
            loop {
                if let Some(agent) = room.participants().find(|participant| self.is_agent(participant)) {
                    return Ok((agent.identity.clone(), kept));
                }
                match std::future::poll_fn(|cx| room.poll_event(cx)).await {
                    RoomEvent::Disconnected { reason, detail } => return Err(ended(&reason.to_string(), &detail)),
                    event => kept.push(event),
                }
            }
        });
        let waited = waited.await;
        let (party, kept) = match waited {
            Ok(found) => found.map_err(failed)?,
            Err(_) => return Err(failed(self.timed_out(name).await)),
        };
        let via = format!("livekit://{name}");
        let mut leg = RoomLeg::new(room, via, party).map_err(|error| failed(error.into()))?;
        kept.into_iter().for_each(|event| leg.take(event));
        Ok(leg)
    }

    /// Waits until the agent's track, and the first audio on it, is here.
    async fn hear(&mut self, leg: &mut RoomLeg, name: &str) -> Result<(), RoomCallError> {
        for stage in [Stage::TrackSubscribed, Stage::FirstAudio] {
            self.set_up.enter(stage);
            let failed = |problem: RoomCallProblem| RoomCallError { stage, problem };
            let there = |leg: &RoomLeg| if stage == Stage::TrackSubscribed { leg.is_subscribed() } else { leg.hears() };
            let waited = tokio::time::timeout(self.call.step_time, async {
                while !there(leg) {
                    let event = std::future::poll_fn(|cx| leg.room().poll_event(cx)).await;
                    leg.take(event);
                    if let Some((reason, detail)) = leg.ended() {
                        return Err(ended(if *reason == EndReason::HungUp { "the agent left" } else { "the room ended" }, detail));
                    }
                }
                Ok(())
            });
            match waited.await {
                Ok(heard) => heard.map_err(failed)?,
                Err(_) => return Err(failed(self.timed_out(name).await)),
            }
        }
        self.set_up.done();
        Ok(())
    }

    fn is_agent(&self, participant: &Participant) -> bool {
        match &self.call.agent_name {
            None => participant.kind == ParticipantKind::Agent,
            Some(name) => {
                let told = participant.attributes.get("lk.agent_name").is_none_or(|told| told == name);
                participant.kind == ParticipantKind::Agent && told
            }
        }
    }

    /// What the server knows of an agent that does not come: the usual cause is a name under which no worker is registered.
    async fn timed_out(&self, name: &str) -> RoomCallProblem {
        let waited_s = self.call.step_time.as_secs_f64();
        let hint = match (&self.call.agent_name, self.call.server.dispatches(name).await) {
            (None, _) => ": no agent was asked for (agent=NAME), and none came by itself".to_owned(),
            (Some(_), Err(error)) => format!("; the server does not tell why: {error}"),
            (Some(agent), Ok(dispatches)) => {
                let jobs = dispatches.iter().filter_map(|dispatch| dispatch.state.as_ref()).flat_map(|state| &state.jobs);
                let states: Vec<_> = jobs.filter_map(|job| job.state.as_ref()).collect();
                match states.iter().find(|state| !state.error.is_empty()) {
                    Some(state) => format!(": the agent's job failed: {}", state.error),
                    None if states.is_empty() => {
                        format!(": no worker has taken the job; is one registered as {agent:?} at {}?", self.call.server.shown())
                    }
                    None => format!(": a worker of {agent:?} has taken the job, and its agent has not come so far"),
                }
            }
        };
        RoomCallProblem::TimedOut { waited_s, hint }
    }
}

fn ended(what: &str, detail: &str) -> RoomCallProblem {
    RoomCallProblem::Ended(if detail.is_empty() { what.to_owned() } else { format!("{what}: {detail}") })
}
