//! Who is who in a call, and which run it belongs to.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One of a call's two parties. Every file, track and channel is named after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Cekura's Testing Agent, or the scripted caller that stands in for it: the left channel.
    Caller,
    /// The voice agent under test, Cekura's Main Agent: the right channel.
    Agent,
}

impl Side {
    /// Both sides, caller first: the order of the stereo channels.
    pub const BOTH: [Self; 2] = [Self::Caller, Self::Agent];

    /// The party that hears this one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Caller => Self::Agent,
            Self::Agent => Self::Caller,
        }
    }

    /// `caller` or `agent`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Agent => "agent",
        }
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What ties a call to the run that asked for it. All but the call's own id may be unknown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CallIds {
    /// Trunkline's own id of the call, unique, also the name of its folder.
    pub call_id: String,
    /// The run (one scenario executed once).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// The result (one trigger, the batch that the run is part of).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_id: Option<String>,
    /// The scenario's id at Cekura, or its key in the suite file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario_id: Option<String>,
    /// The scenario's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario: Option<String>,
}

impl CallIds {
    /// What an agent is told of the call where nothing else is: `{"scenario_id": …, "run_id": …}`, as Cekura's job metadata names them, as far
    /// as they are known. None: neither is.
    #[must_use]
    pub fn told(&self) -> Option<Value> {
        let known = [("scenario_id", &self.scenario_id), ("run_id", &self.run_id)];
        let known = known.into_iter().filter_map(|(name, id)| Some((name.to_owned(), Value::from(id.clone()?))));
        let known: Map<_, _> = known.collect();
        (!known.is_empty()).then(|| known.into())
    }
}
