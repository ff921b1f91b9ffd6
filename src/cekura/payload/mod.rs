//! The body of a mode's start request: built from typed options, and checked before anything is sent.
//!
//! Each mode is a table of fields; the checks are the same for all. The facts are Cekura's published
//! API reference (`POST /test_framework/v1/scenarios/run_scenarios_*/`) and the modes' guide pages.

mod build;
mod check;
mod detect;
mod estimate;
mod field;
mod fix;
mod modes;
mod refusal;
mod secret;
mod strict;
mod token;

use std::fmt;
use std::str::FromStr;

pub use build::{RunOptions, Selection};
pub use check::check;
pub(crate) use check::parse_websocket_url;
pub use detect::detect;
pub use estimate::estimate_runs;
pub use fix::fix;
pub use modes::CHANNELS;
pub(crate) use refusal::{as_read, refusals};
pub(crate) use secret::{hide, secrets};
pub use secret::{holds_secret, redacted};
pub use strict::read_strictly;
pub(crate) use token::room_of;
pub use token::room_token;

use field::{Field, Kind};

/// A way in which Cekura reaches the agent: which start endpoint, and which fields its body has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// A telephone call: `run_scenarios`.
    Voice,
    /// Text over a WebSocket that Cekura dials, or another text provider: `run_scenarios_text`.
    Text,
    /// Raw 16 kHz audio over a WebSocket that Cekura dials: `run_scenarios_chirp`.
    Chirp,
    /// Text over a WebSocket, with an address for each entry: `run_scenarios_with_websockets`.
    Websocket,
    /// LiveKit rooms that you make, with their tokens: `run_scenarios_livekit`.
    Livekit,
    /// LiveKit rooms that Cekura makes, with the agent dispatched by name: `run_scenarios_livekit_v2`.
    LivekitV2,
    /// Text in LiveKit rooms that you make: `run_scenarios_livekit_chat`.
    LivekitChat,
    /// Pipecat rooms that you make: `run_scenarios_pipecat`.
    Pipecat,
    /// Pipecat agents that Cekura starts: `run_scenarios_pipecat_v2`.
    PipecatV2,
    /// SIP: `run_scenarios_sip`.
    Sip,
    /// Vapi's WebRTC: `run_scenarios_vapi_webrtc`.
    VapiWebrtc,
    /// Retell's WebRTC: `run_scenarios_retell_webrtc`.
    RetellWebrtc,
    /// ElevenLabs: `run_scenarios_elevenlabs`.
    Elevenlabs,
    /// Text that you fetch and answer over REST: `run_scenarios_api_chat`.
    ApiChat,
    /// A test suite of yours, over one of several channels: `run_scenarios_json`.
    Spec,
}

impl Mode {
    /// Every mode that this version knows.
    pub const ALL: [Self; 15] = [
        Self::Voice,
        Self::Text,
        Self::Chirp,
        Self::Websocket,
        Self::Livekit,
        Self::LivekitV2,
        Self::LivekitChat,
        Self::Pipecat,
        Self::PipecatV2,
        Self::Sip,
        Self::VapiWebrtc,
        Self::RetellWebrtc,
        Self::Elevenlabs,
        Self::ApiChat,
        Self::Spec,
    ];

    /// The mode's name on the command line, for example `chirp`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Voice => "voice",
            Self::Text => "text",
            Self::Chirp => "chirp",
            Self::Websocket => "websocket",
            Self::Livekit => "livekit",
            Self::LivekitV2 => "livekit_v2",
            Self::LivekitChat => "livekit_chat",
            Self::Pipecat => "pipecat",
            Self::PipecatV2 => "pipecat_v2",
            Self::Sip => "sip",
            Self::VapiWebrtc => "vapi_webrtc",
            Self::RetellWebrtc => "retell_webrtc",
            Self::Elevenlabs => "elevenlabs",
            Self::ApiChat => "api_chat",
            Self::Spec => "spec",
        }
    }

    /// The mode of a start endpoint.
    #[must_use]
    pub fn of_endpoint(endpoint: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.endpoint() == endpoint)
    }

    /// The mode in which a suite's scenarios are called over this channel; where none is named it is `voice`.
    #[must_use]
    pub fn of_channel(channel: Option<&str>) -> Option<Self> {
        let channel = channel.unwrap_or("voice");
        Self::ALL.into_iter().find(|mode| mode.name() == channel && CHANNELS.contains(&channel))
    }

    /// The last part of the start endpoint's path, for example `run_scenarios_chirp`.
    #[must_use]
    pub const fn endpoint(self) -> &'static str {
        match self {
            Self::Voice => "run_scenarios",
            Self::Text => "run_scenarios_text",
            Self::Chirp => "run_scenarios_chirp",
            Self::Websocket => "run_scenarios_with_websockets",
            Self::Livekit => "run_scenarios_livekit",
            Self::LivekitV2 => "run_scenarios_livekit_v2",
            Self::LivekitChat => "run_scenarios_livekit_chat",
            Self::Pipecat => "run_scenarios_pipecat",
            Self::PipecatV2 => "run_scenarios_pipecat_v2",
            Self::Sip => "run_scenarios_sip",
            Self::VapiWebrtc => "run_scenarios_vapi_webrtc",
            Self::RetellWebrtc => "run_scenarios_retell_webrtc",
            Self::Elevenlabs => "run_scenarios_elevenlabs",
            Self::ApiChat => "run_scenarios_api_chat",
            Self::Spec => "run_scenarios_json",
        }
    }

    /// Whether a start of this mode can be given a name, by which its result is found again.
    #[must_use]
    pub fn takes_name(self) -> bool {
        self.field("name").is_some()
    }

    /// Whether a start names scenarios that Cekura has; a suite brings its own.
    fn selects(self) -> bool {
        self != Self::Spec
    }

    /// Whether the runs are chats: no audio passes. A suite's are those of its channel.
    #[must_use]
    pub const fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Websocket | Self::LivekitChat | Self::ApiChat)
    }

    /// Whether the mode's scenarios are entries, one object a run.
    #[must_use]
    pub fn has_entries(self) -> bool {
        self.entry().is_some()
    }

    /// The members of an entry, where the mode's scenarios are entries.
    fn entry(self) -> Option<&'static [Field]> {
        match self.field("scenarios")?.kind {
            Kind::Entries(members) => Some(members),
            _ => None,
        }
    }

    fn fields(self) -> impl Iterator<Item = &'static Field> {
        modes::groups(self).iter().copied().flatten()
    }

    fn field(self, name: &str) -> Option<&'static Field> {
        self.fields().find(|field| field.name == name)
    }

    /// What this mode calls a key that it does not know, where that is known.
    fn right_name(self, wrong: &str) -> Option<&'static str> {
        let (_, names) = modes::SLIPS.iter().find(|(slip, _)| *slip == wrong)?;
        names.iter().copied().find(|name| self.field(name).is_some())
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A mode's name that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown mode {0:?}: this version knows {known}", known = Mode::ALL.map(Mode::name).join(", "))]
pub struct UnknownMode(pub String);

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        let text = text.replace('-', "_");
        Self::ALL.into_iter().find(|mode| mode.name() == text).ok_or(UnknownMode(text))
    }
}

/// One thing in a body that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Misfit {
    /// Where: a JSON path such as `$.scenarios[2]`.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
    /// What would be right.
    pub expected: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; expected {}", self.path, self.problem, self.expected)
    }
}
