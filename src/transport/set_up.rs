//! How long it takes to reach an agent, stage by stage.
//!
//! A dial is given a [`SetUp`] and says when it enters each of its stages. What was timed goes with the call: into `call.json`, the
//! report, and over many calls into their percentiles.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::call::CallTime;

/// A stage of reaching an agent. The names are stable: reports and scripts may rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Tries that failed before the one that is told of, and the pauses between them.
    EarlierTries,
    /// The name is looked up and the TCP connection stands.
    Tcp,
    /// The TLS handshake.
    Tls,
    /// The WebSocket's upgrade request and its answer.
    WebSocket,
    /// The process is started.
    Process,
    /// The agent's server has begun a session.
    Session,
    /// Our WebRTC offer is answered.
    Offer,
    /// The WebRTC connection stands.
    Connection,
    /// The room is there.
    Room,
    /// We are in it.
    Join,
    /// The agent's dispatch is asked for and taken.
    Dispatch,
    /// The agent is in the room.
    AgentJoined,
    /// The agent says that it is ready, or reads what is written to it.
    AgentReady,
    /// The agent's audio track is subscribed to.
    TrackSubscribed,
    /// The agent's first audio, be it silence. It is no part of the set-up: an agent may wait for the caller to speak.
    FirstAudio,
}

impl Stage {
    /// All of them, in the order in which they come.
    pub const ALL: [Self; 15] = [
        Self::EarlierTries,
        Self::Tcp,
        Self::Tls,
        Self::WebSocket,
        Self::Process,
        Self::Session,
        Self::Offer,
        Self::Connection,
        Self::Room,
        Self::Join,
        Self::Dispatch,
        Self::AgentJoined,
        Self::AgentReady,
        Self::TrackSubscribed,
        Self::FirstAudio,
    ];

    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EarlierTries => "earlier_tries",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::WebSocket => "web_socket",
            Self::Process => "process",
            Self::Session => "session",
            Self::Offer => "offer",
            Self::Connection => "connection",
            Self::Room => "room",
            Self::Join => "join",
            Self::Dispatch => "dispatch",
            Self::AgentJoined => "agent_joined",
            Self::AgentReady => "agent_ready",
            Self::TrackSubscribed => "track_subscribed",
            Self::FirstAudio => "first_audio",
        }
    }
}

/// A stage that was passed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    /// Which.
    pub stage: Stage,
    /// How long it took, in milliseconds: each begins where the one before it ended.
    pub took_ms: f64,
}

/// The stages of one call.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SetUpTimes {
    /// The stages that were passed, in order.
    pub stages: Vec<StageTime>,
    /// The stage in which the set-up failed or was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_in: Option<Stage>,
}

impl SetUpTimes {
    /// Nothing was timed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty() && self.failed_in.is_none()
    }

    /// From the dial's start to an agent that is reached, in milliseconds: all stages but [`Stage::FirstAudio`]. None where the
    /// set-up failed, or none of it was timed.
    #[must_use]
    pub fn total_ms(&self) -> Option<f64> {
        let before_audio = || self.stages.iter().filter(|passed| passed.stage != Stage::FirstAudio);
        let timed = self.failed_in.is_none() && before_audio().next().is_some();
        timed.then(|| before_audio().map(|passed| passed.took_ms).sum())
    }
}

/// The watch of one dial. It starts when it is made.
#[derive(Debug, Clone)]
pub struct SetUp {
    began: Instant,
    last: Instant,
    under_way: Option<Stage>,
    stages: Vec<StageTime>,
}

impl Default for SetUp {
    fn default() -> Self {
        let now = Instant::now();
        Self { began: now, last: now, under_way: None, stages: Vec::new() }
    }
}

impl SetUp {
    /// The dial enters `stage`; the one before it is passed.
    pub fn enter(&mut self, stage: Stage) {
        self.done();
        self.under_way = Some(stage);
    }

    /// The stage under way is passed. A dial that succeeds ends with this.
    pub fn done(&mut self) {
        if let Some(stage) = self.under_way.take() {
            self.pass(stage, self.last.elapsed());
        }
    }

    /// The dial starts over: all that was so far, and the pause after it, is [`Stage::EarlierTries`].
    pub fn again(&mut self) {
        self.stages.clear();
        self.under_way = None;
        self.last = self.began;
        self.pass(Stage::EarlierTries, self.began.elapsed());
    }

    /// The agent's first audio came, `after` the start of its call at `call`. Counts from the last stage that was passed; not
    /// where no stage was timed, nor where the dial itself has waited for it.
    pub(crate) fn first_audio(&mut self, call: Instant, after: Duration) {
        if !self.stages.is_empty() && self.stages.iter().all(|passed| passed.stage != Stage::FirstAudio) {
            self.pass(Stage::FirstAudio, (call + after).saturating_duration_since(self.last));
        }
    }

    /// What was timed so far. A stage under way is one that was not passed.
    #[must_use]
    pub fn times(&self) -> SetUpTimes {
        SetUpTimes { stages: self.stages.clone(), failed_in: self.under_way }
    }

    fn pass(&mut self, stage: Stage, took: Duration) {
        self.last += took;
        self.stages.push(StageTime { stage, took_ms: CallTime::after(took).millis() });
    }
}
