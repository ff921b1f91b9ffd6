//! The dial: a room is made, an agent asked for, and the caller joins as a participant.

use std::time::{Duration, Instant};

use livekit_protocol::{AgentDispatch, CreateRoomRequest};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::chat::{RoomChat, text_mode};
use super::leg::RoomLeg;
use super::party::{Cleanup, Party, TRANSCRIPTION, delete_room};
use super::{Data, Grants, JoinError, Participant, ParticipantKind, Room, RoomEvent, RoomOptions, Server, ServerError};
use crate::audio::opus::OpusError;
use crate::call::{EndReason, LegEvent};
use crate::transport::{Secret, SetUp, Stage};

/// How long the caller's token is valid; the server renews it while the call lasts.
const TOKEN_VALID: Duration = Duration::from_secs(600);
/// How long a room that nobody came into stays, in seconds: for a call that is killed while it is set up.
const EMPTY_S: u32 = 60;
/// An agent that tells no state of its session in this time has none: it reads what is written to it from the beginning on.
const STATELESS: Duration = Duration::from_secs(5);
/// By then the server has told everybody of somebody who publishes nothing: every 3 s, and a little for the way.
const UPDATES_EVERY: Duration = Duration::from_millis(3200);

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
    /// Which room.
    pub entrance: Entrance,
    /// The caller's identity, in a room that we make a token for.
    pub identity: String,
    /// Sent into the room, once the agent is heard.
    pub publish: Option<Value>,
    /// Media goes over the server's TURN service or not at all.
    pub relay_only: bool,
    /// How long each step may take.
    pub step_time: Duration,
}

/// How the caller gets into a room.
#[derive(Debug, Clone)]
pub enum Entrance {
    /// With our own key: the room is made, and the agent asked for.
    Made {
        /// The server.
        server: Server,
        /// The room; none: one of its own for the call, which is deleted after it.
        room: Option<String>,
        /// The room's metadata, where it is made.
        room_metadata: String,
        /// The agent to be asked for; none: it comes by itself.
        agent_name: Option<String>,
        /// What the agent is told, as its job's metadata.
        metadata: String,
    },
    /// With a token that somebody gave us. The agent is there or comes by itself.
    Given {
        /// The server.
        url: Url,
        /// The token.
        token: Secret,
    },
}

/// Sets a call up: the leg hears the agent, and the agent can hear it.
///
/// # Errors
/// [`RoomCallError`], which names the step.
pub async fn dial(call: &RoomCall, set_up: &mut SetUp) -> Result<RoomLeg, RoomCallError> {
    let mut setup = Setup { call, set_up, writes: false };
    let (room, made) = setup.enter().await?;
    let (room, identity, kept) = setup.agent(room).await?;
    let failed = |error: OpusError| RoomCallError { stage: Stage::AgentJoined, problem: error.into() };
    let via = format!("livekit://{}", room.name());
    let mut leg = RoomLeg::new(room, via, identity).map_err(failed)?;
    kept.into_iter().for_each(|event| leg.take(event));
    setup.hear(&mut leg).await?;
    setup.begin(leg.party(), made);
    Ok(leg)
}

/// Sets a chat up: the agent reads what is written to it. An agent that is asked for is told `"text_mode": true`.
///
/// # Errors
/// [`RoomCallError`], which names the step.
pub async fn dial_chat(call: &RoomCall, set_up: &mut SetUp) -> Result<RoomChat, RoomCallError> {
    let mut setup = Setup { call, set_up, writes: true };
    let (room, made) = setup.enter().await?;
    let (joined, there) = (Instant::now(), room.participants().map(|other| other.identity.clone()).collect::<Vec<_>>());
    let (room, identity, kept) = setup.agent(room).await?;
    let knows_us = !there.contains(&identity);
    let via = format!("livekit-chat://{}", room.name());
    let mut leg = RoomChat::new(Party::new(room, via, identity));
    kept.into_iter().for_each(|event| leg.take(event));
    setup.ready(&mut leg).await?;
    if !knows_us {
        introduced(&mut leg, joined).await;
        leg.ask_for_history();
    }
    setup.set_up.done();
    setup.begin(leg.party(), made);
    Ok(leg)
}

/// Takes what happens in the room until `done`.
async fn until(leg: &mut RoomChat, done: impl Fn(&mut RoomChat) -> bool) -> Result<(), RoomCallProblem> {
    while !done(leg) {
        let event = std::future::poll_fn(|cx| leg.party().room.poll_event(cx)).await;
        leg.take(event);
        still_there(leg.party().ended())?;
    }
    Ok(())
}

/// Ends the room of a call that was not set up.
struct RoomGuard {
    ours: Option<(Server, String)>,
}

impl RoomGuard {
    fn hand_over(mut self) -> Option<Cleanup> {
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
    /// The call is a chat.
    writes: bool,
}

impl Setup<'_> {
    /// Into the room, with the agent asked for.
    async fn enter(&mut self) -> Result<(Room, Option<RoomGuard>), RoomCallError> {
        match &self.call.entrance {
            Entrance::Given { url, token } => Ok((self.join(url, token.reveal()).await?, None)),
            Entrance::Made { server, room, room_metadata, agent_name, metadata } => {
                let name = room.clone().unwrap_or_else(|| format!("trunkline-{}", Uuid::new_v4().simple()));
                self.room(server, &name, room_metadata).await?;
                let made = RoomGuard { ours: room.is_none().then(|| (server.clone(), name.clone())) };
                let token = server.room_token(&name, &self.call.identity, TOKEN_VALID, &Grants::default());
                let token = token.map_err(|error| RoomCallError { stage: Stage::Join, problem: error.into() })?;
                let joined = self.join(server.url(), &token).await?;
                self.dispatch(server, &name, agent_name.as_deref(), metadata).await?;
                Ok((joined, Some(made)))
            }
        }
    }

    /// The call begins.
    fn begin(&self, party: &mut Party, made: Option<RoomGuard>) {
        if let Some(message) = &self.call.publish {
            party.room.send_packet(&[], None, message.to_string().as_bytes(), true);
        }
        if let Some(cleanup) = made.and_then(RoomGuard::hand_over) {
            party.at_the_end(cleanup);
        }
        let metadata = json!({"livekit": {"room": party.room.name(), "sid": party.room.sid()}});
        party.events.push_front(LegEvent::Metadata(metadata));
    }

    async fn room(&mut self, server: &Server, name: &str, metadata: &str) -> Result<(), RoomCallError> {
        self.set_up.enter(Stage::Room);
        let (name, metadata) = (name.to_owned(), metadata.to_owned());
        let request = CreateRoomRequest { name, metadata, empty_timeout: EMPTY_S, ..Default::default() };
        let made = server.create_room(request).await;
        made.map_err(|error| RoomCallError { stage: Stage::Room, problem: error.into() })?;
        Ok(())
    }

    async fn join(&mut self, url: &Url, token: &str) -> Result<Room, RoomCallError> {
        self.set_up.enter(Stage::Join);
        let options = RoomOptions { subscribe: !self.writes, relay_only: self.call.relay_only };
        let joined = Room::join(url, token, options).await;
        let mut room = joined.map_err(|error| RoomCallError { stage: Stage::Join, problem: error.into() })?;
        if !self.writes {
            room.publish_microphone("caller");
        }
        Ok(room)
    }

    async fn dispatch(
        &mut self,
        server: &Server,
        name: &str,
        agent_name: Option<&str>,
        metadata: &str,
    ) -> Result<(), RoomCallError> {
        if let Some(agent) = agent_name {
            self.set_up.enter(Stage::Dispatch);
            let told = if self.writes { text_mode(metadata) } else { metadata.to_owned() };
            let asked = server.dispatch(name, agent, &told).await;
            asked.map_err(|error| RoomCallError { stage: Stage::Dispatch, problem: error.into() })?;
        }
        Ok(())
    }

    /// Waits for the agent to come: who it is, and what happened meanwhile.
    async fn agent(&mut self, mut room: Room) -> Result<(Room, String, Vec<RoomEvent>), RoomCallError> {
        let stage = Stage::AgentJoined;
        self.set_up.enter(stage);
        let failed = |problem: RoomCallProblem| RoomCallError { stage, problem };
        let waited = tokio::time::timeout(self.call.step_time, async {
            let mut kept = Vec::new();
            loop {
                if let Some(agent) = self.find_agent(&room, &kept) {
                    return Ok((agent, kept));
                }
                match std::future::poll_fn(|cx| room.poll_event(cx)).await {
                    RoomEvent::Disconnected { reason, detail } => return Err(ended(&reason.to_string(), &detail)),
                    event => kept.push(event),
                }
            }
        });
        let waited = waited.await;
        match waited {
            Ok(found) => found.map(|(agent, kept)| (room, agent, kept)).map_err(failed),
            Err(_) => Err(failed(self.timed_out(room.name()).await)),
        }
    }

    /// Waits until the agent reads what is written to it, and its answer can be read: what comes before that is lost.
    async fn ready(&mut self, leg: &mut RoomChat) -> Result<(), RoomCallError> {
        let stage = Stage::AgentReady;
        self.set_up.enter(stage);
        let failed = |problem: RoomCallProblem| RoomCallError { stage, problem };
        match tokio::time::timeout(self.call.step_time, until(leg, |leg| leg.party().room.hears_data())).await {
            Ok(hears) => hears.map_err(failed)?,
            Err(_) => {
                let hint = ": the server's way for data to us does not open".to_owned();
                let waited_s = self.call.step_time.as_secs_f64();
                return Err(failed(RoomCallProblem::TimedOut { waited_s, hint }));
            }
        }
        let reads = async |leg: &mut RoomChat| until(leg, |leg| leg.is_ready() == Some(true)).await;
        let mut waited = tokio::time::timeout(self.call.step_time.min(STATELESS), reads(leg)).await;
        if waited.is_err() && leg.is_ready().is_some() {
            waited = tokio::time::timeout(self.call.step_time.saturating_sub(STATELESS), reads(leg)).await;
        }
        match waited {
            Ok(ready) => ready.map_err(failed)?,
            // It tells no state: it is taken to read from the beginning on.
            Err(_) if leg.is_ready().is_none() => {}
            Err(_) => {
                let hint = ": the agent is still initializing, as it says itself".to_owned();
                let waited_s = self.call.step_time.as_secs_f64();
                return Err(failed(RoomCallProblem::TimedOut { waited_s, hint }));
            }
        }
        Ok(())
    }

    /// Waits until the agent's track, and the first audio on it, is here.
    async fn hear(&mut self, leg: &mut RoomLeg) -> Result<(), RoomCallError> {
        for stage in [Stage::TrackSubscribed, Stage::FirstAudio] {
            self.set_up.enter(stage);
            let failed = |problem: RoomCallProblem| RoomCallError { stage, problem };
            let there = |leg: &RoomLeg| if stage == Stage::TrackSubscribed { leg.is_subscribed() } else { leg.hears() };
            let waited = tokio::time::timeout(self.call.step_time, async {
                while !there(leg) {
                    let event = std::future::poll_fn(|cx| leg.room().poll_event(cx)).await;
                    leg.take(event);
                    still_there(leg.ended())?;
                }
                Ok(())
            });
            match waited.await {
                Ok(heard) => heard.map_err(failed)?,
                Err(_) => return Err(failed(self.timed_out(leg.room().name()).await)),
            }
        }
        self.set_up.done();
        Ok(())
    }

    /// The agent: in a room that somebody else made, whoever speaks or writes there, if none says that it is one.
    fn find_agent(&self, room: &Room, kept: &[RoomEvent]) -> Option<String> {
        let agent_name = match &self.call.entrance {
            Entrance::Made { agent_name, .. } => agent_name.as_deref(),
            Entrance::Given { .. } => None,
        };
        let is_agent = |participant: &&Participant| {
            let told = participant.attributes.get("lk.agent_name");
            let named = agent_name.is_none_or(|name| told.is_none_or(|told| told == name));
            participant.kind == ParticipantKind::Agent && named
        };
        let has_written = |identity: &str| {
            let written = |event: &RoomEvent| matches!(event, RoomEvent::Data { from, data: Data::Text { topic, .. } } if from == identity && topic == TRANSCRIPTION);
            kept.iter().any(written)
        };
        let speaks = |participant: &&Participant| match self.call.entrance {
            Entrance::Made { .. } => false,
            Entrance::Given { .. } if self.writes => has_written(&participant.identity),
            Entrance::Given { .. } => participant.tracks.values().any(|track| track.audio),
        };
        let found = room.participants().find(is_agent).or_else(|| room.participants().find(speaks));
        found.map(|participant| participant.identity.clone())
    }

    /// What the server knows of an agent that does not come: the usual cause is a name under which no worker is registered.
    async fn timed_out(&self, name: &str) -> RoomCallProblem {
        let waited_s = self.call.step_time.as_secs_f64();
        let hint = match &self.call.entrance {
            Entrance::Given { .. } if self.writes => ": nobody in the room is an agent, and nobody has written".to_owned(),
            Entrance::Given { .. } => ": nobody else in the room sends audio".to_owned(),
            Entrance::Made { agent_name: None, .. } => ": no agent was asked for (agent=NAME), and none came by itself".to_owned(),
            Entrance::Made { server, agent_name: Some(agent), .. } => match server.dispatches(name).await {
                Ok(dispatches) => what_became(&dispatches, agent, server),
                Err(error) => format!("; the server does not tell why: {error}"),
            },
        };
        RoomCallProblem::TimedOut { waited_s, hint }
    }
}

fn ended(what: &str, detail: &str) -> RoomCallProblem {
    RoomCallProblem::Ended(if detail.is_empty() { what.to_owned() } else { format!("{what}: {detail}") })
}

/// Waits until an agent that was in the room before us knows us: else it takes no message of ours.
async fn introduced(leg: &mut RoomChat, joined: Instant) {
    // Whoever leaves meanwhile is gone when the call begins.
    drop(tokio::time::timeout_at((joined + UPDATES_EVERY).into(), until(leg, |leg| leg.is_introduced())).await);
}

/// Neither the agent nor we have left.
fn still_there(end: Option<&(EndReason, String)>) -> Result<(), RoomCallProblem> {
    match end {
        None => Ok(()),
        Some((EndReason::HungUp, detail)) => Err(ended("the agent left", detail)),
        Some((_, detail)) => Err(ended("the room ended", detail)),
    }
}

/// What the server says of an agent's dispatch.
fn what_became(dispatches: &[AgentDispatch], agent: &str, server: &Server) -> String {
    let jobs = dispatches.iter().filter_map(|dispatch| dispatch.state.as_ref()).flat_map(|state| &state.jobs);
    let states: Vec<_> = jobs.filter_map(|job| job.state.as_ref()).collect();
    match states.iter().find(|state| !state.error.is_empty()) {
        Some(state) => format!(": the agent's job failed: {}", state.error),
        None if states.is_empty() => {
            format!(
                ": no worker has taken the job; is one registered as {agent:?} at {}, and is it free? (livekit-server sends no \
                 job to a worker that tells a load of 0.7 or more; `livekit-agents` tells its machine's processor load)",
                server.shown()
            )
        }
        None => format!(": a worker of {agent:?} has taken the job, and its agent has not come so far"),
    }
}
