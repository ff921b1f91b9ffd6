//! Test suites: the scenarios that the scripted caller plays.
//!
//! A suite is a file in the format of Cekura's `run_scenarios_json` (version 1), of which the deterministic part of the
//! scenario type `conditional_actions` ("Structured Tests") is played here. What a script cannot decide (a condition or an
//! action for a language model, another voice) is refused by name, before any call.
//!
//! A `standard` condition is decided by a [`Rule`] in its text. After a turn of the agent, what follows the last line is said
//! whatever the turn was. Where nothing follows, the first condition in the file's order whose rule is for the whole turn
//! fires; of several with the same rule, the first that has not fired. A condition may fire again on a later turn, as at
//! Cekura. Where none is for the turn, the caller waits on, and gives the call up when its patience ends.

mod compile;
mod function;
mod markup;
mod placeholder;
mod rule;
mod script;
mod spec;
mod tags;

use std::fmt;
use std::path::{Path, PathBuf};

pub use function::{Function, Headers, Output};
pub(crate) use placeholder::{fill, fill_json, function_and_key, placeholders};
pub use rule::{BadRule, Rule};
pub use script::{Delivery, Line, Script, Step, Trigger};
pub use spec::{PersonalityKey, Scenario, Suite};
pub use tags::{Piece, TagProblem, pieces};

/// The largest file that is read: 1 MB, as the API takes.
pub const LARGEST_FILE: u64 = 1_000_000;

/// A suite that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no suite. Every problem is listed, not only the first.
    #[error("{}: {}", path.display(), list(problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong in a suite, or cannot be played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The scenario's name, or its place in the file.
    pub scenario: Option<String>,
    /// The condition's id.
    pub condition: Option<i64>,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scenario) = &self.scenario {
            write!(f, "scenario {scenario:?}: ")?;
        }
        if let Some(condition) = self.condition {
            write!(f, "condition {condition}: ")?;
        }
        f.write_str(&self.problem)
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Suite {
    /// Reads a suite from a JSON file.
    ///
    /// # Errors
    /// [`SuiteError`]: all that is wrong with the file.
    pub fn load(path: &Path) -> Result<Self, SuiteError> {
        let read = |source| SuiteError::Read { path: path.to_owned(), source };
        let size = std::fs::metadata(path).map_err(read)?.len();
        let invalid = |problems| SuiteError::Invalid { path: path.to_owned(), problems };
        let whole = |problem: String| invalid(vec![Problem { scenario: None, condition: None, problem }]);
        if size > LARGEST_FILE {
            return Err(whole(format!("{size} bytes: a suite has at most {LARGEST_FILE}")));
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        let json = serde_json::from_str(&text).map_err(|error| whole(format!("not JSON: {error}")))?;
        Self::parse(&json).map_err(invalid)
    }
}

/// What a refusal of `problems` of the suite at `path` reads like.
#[must_use]
pub fn refusal(path: &Path, problems: Vec<Problem>) -> SuiteError {
    SuiteError::Invalid { path: path.to_owned(), problems }
}
