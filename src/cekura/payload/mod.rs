//! The body of a mode's start request: built from typed options, and checked before anything is sent.
//!
//! Each mode is one table of fields in a file of its own; the checks are the same for all. The facts are Cekura's published
//! API reference (`POST /test_framework/v1/scenarios/run_scenarios_*/`) and the modes' guide pages.

mod build;
mod check;
mod chirp;
mod estimate;

use std::fmt;
use std::str::FromStr;

pub use build::{RunOptions, Selection};
pub use check::check;
pub(crate) use check::parse_websocket_url;
pub use estimate::estimate_runs;

use check::Field;

/// A way in which Cekura reaches the agent: which start endpoint, and which fields its body has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// Raw 16 kHz audio over a WebSocket that Cekura dials: `run_scenarios_chirp`.
    Chirp,
}

impl Mode {
    /// Every mode that this version knows.
    pub const ALL: [Self; 1] = [Self::Chirp];

    /// The mode's name on the command line, for example `chirp`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chirp => "chirp",
        }
    }

    /// The last part of the start endpoint's path, for example `run_scenarios_chirp`.
    #[must_use]
    pub const fn endpoint(self) -> &'static str {
        match self {
            Self::Chirp => "run_scenarios_chirp",
        }
    }

    const fn fields(self) -> &'static [Field] {
        match self {
            Self::Chirp => chirp::FIELDS,
        }
    }

    const fn slips(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Chirp => chirp::SLIPS,
        }
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
        Self::ALL.into_iter().find(|mode| mode.name() == text).ok_or_else(|| UnknownMode(text.to_owned()))
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
