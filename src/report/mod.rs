//! Reports: one JSON envelope, JUnit for CI, a table for people. All three say the same.

mod junit;
mod load;
mod load_table;
mod table;
mod ties;
mod verdict;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use junit::junit;
pub use load::{FailureCount, Host, Load, LoadRun, Slips, Spread, StageSpread};
pub use table::table;
pub use ties::{TiedBy, TiedCall, TiedRun, tie};
pub use verdict::{Failure, FailureKind, Thresholds, VOID_SLIP_MS, Verdict, failure_table, judge_call, starved};

use crate::call::CallEnd;
use crate::measure::Measures;
use crate::record::write_whole;
use crate::transport::SetUpTimes;

/// The JSON report's file name.
pub const REPORT_JSON: &str = "report.json";
/// The JUnit report's file name.
pub const JUNIT_XML: &str = "junit.xml";

/// What came of a trigger: `report.json`, and what `run` and `call` print with `--format json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The layout's version: 1.
    pub version: u32,
    /// The run mode: `chirp`; `call` without an API.
    pub mode: String,
    /// The suite's or the result's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The result: a number at Cekura. None without an API.
    pub result_id: Option<Value>,
    /// The runs, in order.
    pub run_ids: Vec<Value>,
    /// The result's status in Cekura's words; `completed` without an API.
    pub status: String,
    /// Passed, failed, void or pending.
    pub verdict: Verdict,
    /// The share of runs, 0 to 1, that must pass.
    pub fail_under: f64,
    /// How many runs there are, and how many of them passed, failed, are void and are pending.
    pub totals: Totals,
    /// What many calls at once add up to; none where no load was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// Each run.
    pub runs: Vec<RunReport>,
}

/// Runs, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// All.
    pub runs: usize,
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
    /// Void: their numbers cannot be trusted.
    pub void: usize,
    /// Started and not waited for.
    #[serde(default)]
    pub pending: usize,
}

/// One run: one scenario executed once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// Its id; none without an API.
    pub run_id: Option<Value>,
    /// The scenario's id at Cekura, or its key.
    pub scenario_id: Option<Value>,
    /// The scenario's name.
    pub scenario: String,
    /// The run's status in Cekura's words.
    pub status: String,
    /// What the API says of it; without an API, whether nothing failed.
    pub success: Option<bool>,
    /// Passed, failed, void or pending.
    pub verdict: Verdict,
    /// Why it did not pass.
    pub failures: Vec<Failure>,
    /// The call's folder, relative to the report.
    pub recording: Option<PathBuf>,
    /// The call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// How the call was tied to the run: `header` (the caller told its run), `direct` (it was fetched
    /// by the run's id), `inferred` (by order and time: it fits this run alone).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tied_by: Option<String>,
    /// How the call ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<CallEnd>,
    /// How long it took to reach the agent, stage by stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_up: Option<SetUpTimes>,
    /// What was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measures: Option<Measures>,
}

impl RunReport {
    /// Sets the verdict from the failures.
    #[must_use]
    pub fn judged(mut self) -> Self {
        self.verdict = Verdict::of(&self.failures);
        self
    }
}

impl Report {
    /// A report of `runs`. The verdict is pending while one of them is; failed when one has failed and, of those that passed or
    /// failed, a smaller share than `fail_under` passed; else void when one of them is void, or there is none; else passed.
    #[must_use]
    pub fn new(mode: &str, name: Option<String>, status: &str, fail_under: f64, runs: Vec<RunReport>) -> Self {
        let count = |verdict: Verdict| runs.iter().filter(|run| run.verdict == verdict).count();
        let (passed, failed, void) = (count(Verdict::Passed), count(Verdict::Failed), count(Verdict::Void));
        let totals = Totals { runs: runs.len(), passed, failed, void, pending: count(Verdict::Pending) };
        Self {
            version: 1,
            mode: mode.to_owned(),
            name,
            result_id: None,
            run_ids: runs.iter().filter_map(|run| run.run_id.clone()).collect(),
            status: status.to_owned(),
            verdict: Verdict::of_totals(totals, fail_under),
            fail_under,
            totals,
            load: None,
            runs,
        }
    }

    /// The report as JSON, with a line end.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("a report is plain data with string keys");
        json.push('\n');
        json
    }

    /// Writes report.json and junit.xml into `folder`, each whole or not at all.
    ///
    /// # Errors
    /// [`crate::record::RecordError`], naming the file.
    pub fn write(&self, folder: &Path) -> Result<(), crate::record::RecordError> {
        std::fs::create_dir_all(folder).map_err(|source| crate::record::RecordError::Create { path: folder.to_owned(), source })?;
        write_whole(&folder.join(REPORT_JSON), self.to_json().as_bytes())?;
        write_whole(&folder.join(JUNIT_XML), junit(self).as_bytes())
    }
}
