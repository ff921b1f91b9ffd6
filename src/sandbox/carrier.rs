//! Who carries a run out: the seam between the sandbox's API and the scripted caller.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use url::Url;

use crate::call::Limits;
use crate::caller::suite::Scenario;
use crate::measure::Measures;
use crate::record::TranscriptLine;
use crate::transport::livekit::{Entrance, RoomCall};
use crate::transport::web_socket::shown;
use crate::transport::{ConnectOptions, Secret, WayOut};

/// What a transcript says of speech whose words are not known.
pub(super) const SPEECH: &str = "[speech]";

/// Carries runs out: for each it dials the run's address with a scripted caller and says how it went.
pub trait Carrier: Send + Sync + 'static {
    /// Carries one run out. When `cancel` fires the call is to be ended; a carrier that goes on for more than 10 s after that
    /// is dropped.
    fn carry(&self, order: RunOrder, cancel: CancelToken) -> BoxFuture<'static, RunOutcome>;
}

/// One run to be carried out.
#[derive(Debug, Clone)]
pub struct RunOrder {
    /// The run's id.
    pub run_id: u64,
    /// The result that it belongs to.
    pub result_id: u64,
    /// The scenario, with the variables of the run's test profile. Its number is its id.
    pub scenario: Arc<Scenario>,
    /// How the agent is reached.
    pub target: Target,
    /// The agent's id as the start request has it.
    pub agent_id: Option<u64>,
    /// The personality that the start request puts in place of the scenario's own.
    pub personality_id: Option<u64>,
    /// The test profile that the start request puts in place of the scenario's own.
    pub test_profile_id: Option<u64>,
    /// The folder that gets one folder a call.
    pub recordings: PathBuf,
    /// To be told how far the run is.
    pub progress: Progress,
}

impl RunOrder {
    /// What the call may not exceed.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let own = self.scenario.max_duration.unwrap_or(Limits::default().max_duration);
        match self.target {
            Target::ApiChat { timeout } => Limits { max_duration: own.min(timeout) },
            _ => Limits { max_duration: own },
        }
    }
}

/// How a run reaches the agent.
#[derive(Clone)]
pub enum Target {
    /// Over CHIRP.
    Chirp {
        /// A `ws://` or `wss://` address.
        url: String,
        /// Headers of the upgrade request, by name.
        headers: Vec<(String, String)>,
    },
    /// Over Cekura's text WebSocket.
    Chat {
        /// A `ws://` or `wss://` address.
        url: String,
        /// Headers of the upgrade request, by name. They may be secret.
        headers: Vec<(String, String)>,
        /// The agent's secret, for `X-VOCERA-SECRET`.
        secret: Option<Secret>,
    },
    /// In a LiveKit room.
    Room {
        /// Which, and what goes into it. The agent is told the run's ids and `profile` beside what the call says.
        call: Box<RoomCall>,
        /// What the agent gets to know: `test_profile_data` of its job's metadata.
        profile: BTreeMap<String, String>,
    },
    /// In writing in a LiveKit room.
    RoomChat {
        /// Which, and what goes into it.
        call: Box<RoomCall>,
    },
    /// A Pipecat bot.
    Pipecat {
        /// Where it is, or the runner that starts it.
        to: Box<WayOut>,
        /// How it is connected, and what its session is told.
        connect: Box<ConnectOptions>,
        /// A message that it gets once it is there.
        publish: Option<Value>,
    },
    /// Nobody is dialled: the agent fetches and posts its turns over REST.
    ApiChat {
        /// The longest conversation.
        timeout: Duration,
    },
}

impl Target {
    /// The address that is dialled, without what may be secret in it; empty where nobody is dialled.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Chirp { url, .. } | Self::Chat { url, .. } => Url::parse(url).map_or_else(|_| String::new(), |url| shown(&url)),
            Self::Room { call, .. } | Self::RoomChat { call } => match &call.entrance {
                Entrance::Made { server, .. } => server.shown(),
                Entrance::Given { url, .. } => shown(url),
            },
            Self::Pipecat { to, .. } => to.to_string(),
            Self::ApiChat { .. } => String::new(),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Chirp { .. } => "Chirp",
            Self::Chat { .. } => "Chat",
            Self::Room { .. } => "Room",
            Self::RoomChat { .. } => "RoomChat",
            Self::Pipecat { .. } => "Pipecat",
            Self::ApiChat { .. } => "ApiChat",
        };
        f.debug_struct(name).field("url", &self.shown()).finish_non_exhaustive()
    }
}

/// A run's test profile.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TestProfile {
    /// Its id at the API; none for one that is written into the suite.
    #[serde(default)]
    pub id: Option<u64>,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// What it holds: the caller's variables, by name.
    #[serde(default)]
    pub information: BTreeMap<String, Value>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// The call took place.
    Completed,
    /// The infrastructure failed: for example nobody answered.
    Failed,
    /// Time ran out.
    Timeout,
    /// The user ended it.
    Cancelled,
}

impl RunEnd {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Completed, Self::Failed, Self::Timeout, Self::Cancelled].into_iter().find(|end| end.as_str() == text)
    }
}

/// How a run went.
#[derive(Debug, Clone, PartialEq)]
pub struct RunOutcome {
    /// How it ended.
    pub end: RunEnd,
    /// Whether it passed. Counts only where the call took place.
    pub success: bool,
    /// Why no call took place, or why it is void.
    pub error_message: Option<String>,
    /// Why the call ended, in Cekura's words, for example `Testing agent-ended-call`.
    pub call_ended_reason: Option<String>,
    /// The call's length.
    pub duration: Option<Duration>,
    /// The caller's own id of the call.
    pub provider_call_id: Option<String>,
    /// Who said what.
    pub transcript: Vec<TranscriptLine>,
    /// Anything else, for the run's `metadata`.
    pub metadata: serde_json::Map<String, Value>,
    /// The agent's connection broke, or its process or server failed.
    pub connection_lost: bool,
    /// The call's folder below the order's `recordings`.
    pub recording: Option<PathBuf>,
    /// What was measured; or why nothing was.
    pub measures: Option<Result<Box<Measures>, String>>,
}

impl RunOutcome {
    /// A call that took place.
    #[must_use]
    pub fn completed(success: bool) -> Self {
        Self::bare(RunEnd::Completed, success)
    }

    /// No call, because the infrastructure failed.
    #[must_use]
    pub fn failed(error: impl fmt::Display) -> Self {
        Self { error_message: Some(error.to_string()), ..Self::bare(RunEnd::Failed, false) }
    }

    /// Time ran out.
    #[must_use]
    pub fn timeout(error: impl fmt::Display) -> Self {
        Self { error_message: Some(error.to_string()), ..Self::bare(RunEnd::Timeout, false) }
    }

    /// The user ended it.
    #[must_use]
    pub fn cancelled() -> Self {
        Self { call_ended_reason: Some("run-cancelled-by-user".into()), ..Self::bare(RunEnd::Cancelled, false) }
    }

    fn bare(end: RunEnd, success: bool) -> Self {
        Self {
            end,
            success,
            error_message: None,
            call_ended_reason: None,
            duration: None,
            provider_call_id: None,
            transcript: Vec::new(),
            metadata: serde_json::Map::new(),
            connection_lost: false,
            recording: None,
            measures: None,
        }
    }
}

/// Tells a carrier that its call is to be ended.
#[derive(Debug, Clone)]
pub struct CancelToken(watch::Receiver<bool>);

impl CancelToken {
    /// A token and the switch that fires it. The token also fires when the switch is dropped.
    #[must_use]
    pub fn new() -> (CancelSwitch, Self) {
        let (sender, receiver) = watch::channel(false);
        (CancelSwitch(sender), Self(receiver))
    }

    /// Whether the call is to be ended.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Waits until the call is to be ended. Safe to drop and to call again.
    pub async fn cancelled(&self) {
        // An error means that the switch is gone, which also means the end.
        let _ = self.0.clone().wait_for(|fired| *fired).await;
    }
}

/// Fires a [`CancelToken`].
#[derive(Debug)]
pub struct CancelSwitch(watch::Sender<bool>);

impl CancelSwitch {
    /// Fires the token. Again does nothing.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }
}

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stage {
    /// The folder into which the call is recorded.
    pub recording: Option<PathBuf>,
    /// The call is over; what it was like is being found out.
    pub evaluating: bool,
}

/// Where a carrier tells how far its run is.
#[derive(Debug, Clone)]
pub struct Progress(watch::Sender<Stage>);

impl Progress {
    /// A progress, and what sees it.
    #[must_use]
    pub fn new() -> (Self, watch::Receiver<Stage>) {
        let (sender, receiver) = watch::channel(Stage::default());
        (Self(sender), receiver)
    }

    /// The call goes on, and is recorded into this folder.
    pub fn recording(&self, folder: PathBuf) {
        self.0.send_modify(|stage| stage.recording = Some(folder));
    }

    /// The call is over; what it was like is being found out. The run's status becomes `evaluating`.
    pub fn evaluating(&self) {
        self.0.send_modify(|stage| stage.evaluating = true);
    }
}
