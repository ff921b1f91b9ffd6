//! Results and runs as the API answers them, read leniently: published shapes and real answers differ in many places.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where a result or a run stands (API reference, `Result.status` and `Run.status`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Status {
    /// Created; for an outbound agent: its window to dial is open.
    Pending,
    /// Waits for a free line.
    InQueue,
    /// Waits for the API's own machines.
    ScalingUp,
    /// Under way.
    Running,
    /// The call is up.
    InProgress,
    /// The call is over and is being judged.
    Evaluating,
    /// Ended, and the call took place; says nothing about success.
    Completed,
    /// Ended by a failure of the infrastructure.
    Failed,
    /// Ended because time ran out.
    Timeout,
    /// Ended by the user.
    Cancelled,
    /// A word that this version does not know; not taken for an end.
    Other(String),
}

impl Status {
    /// Whether it is an end: completed, failed, timeout or cancelled.
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Timeout | Self::Cancelled)
    }

    /// The API's word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pending => "pending",
            Self::InQueue => "in_queue",
            Self::ScalingUp => "scaling_up",
            Self::Running => "running",
            Self::InProgress => "in_progress",
            Self::Evaluating => "evaluating",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Other(word) => word,
        }
    }
}

impl From<String> for Status {
    fn from(word: String) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "pending" => Self::Pending,
            "in_queue" => Self::InQueue,
            "scaling_up" => Self::ScalingUp,
            "running" => Self::Running,
            "in_progress" => Self::InProgress,
            "evaluating" => Self::Evaluating,
            "completed" => Self::Completed,
            "failed" => Self::Failed,
            "timeout" => Self::Timeout,
            "cancelled" => Self::Cancelled,
            _ => Self::Other(word),
        }
    }
}

impl From<Status> for String {
    fn from(status: Status) -> Self {
        status.as_str().to_owned()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An answer that is no result or no run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} has no usable {field}")]
pub struct BadAnswer {
    what: &'static str,
    field: &'static str,
}

/// One trigger: the batch of runs that a start request made.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultState {
    /// The result's id: the `id` of the start reply.
    pub id: u64,
    /// Its label.
    pub name: Option<String>,
    /// Where it stands.
    pub status: Status,
    /// Percentage of runs that passed, 0 to 100.
    pub success_rate: Option<f64>,
    /// All runs.
    pub total_runs_count: Option<u64>,
    /// Runs whose call took place.
    pub completed_runs_count: Option<u64>,
    /// Completed runs that passed their checks.
    pub success_runs_count: Option<u64>,
    /// Completed runs that did not; runs that failed, timed out or were cancelled are in neither count.
    pub failed_runs_count: Option<u64>,
    /// The runs, by id; empty where the answer does not list them.
    pub runs: Vec<RunState>,
    /// The answer as it came.
    pub raw: Value,
}

impl ResultState {
    /// Reads the start reply, a result's detail or a row of the results' list.
    ///
    /// # Errors
    /// [`BadAnswer`] when there is no usable `id` or `status`.
    pub fn read(raw: Value) -> Result<Self, BadAnswer> {
        let what = "the result";
        Ok(Self {
            id: whole(&raw["id"]).ok_or(BadAnswer { what, field: "id" })?,
            name: text(&raw["name"]),
            status: text(&raw["status"]).map(Status::from).ok_or(BadAnswer { what, field: "status" })?,
            success_rate: float(&raw["success_rate"]),
            total_runs_count: whole(&raw["total_runs_count"]),
            completed_runs_count: whole(&raw["completed_runs_count"]),
            success_runs_count: whole(&raw["success_runs_count"]),
            failed_runs_count: whole(&raw["failed_runs_count"]),
            runs: runs_of(&raw["runs"]),
            raw,
        })
    }

    /// Whether every run's call took place and passed. `completed` alone says only that at least one call took place, and
    /// `failed_runs_count` does not count the runs that never came to a call.
    #[must_use]
    pub fn passed(&self) -> bool {
        let total = self.total_runs_count.unwrap_or(0);
        self.status == Status::Completed && total > 0 && self.success_runs_count == Some(total)
    }
}

/// One scenario executed once.
#[derive(Debug, Clone, PartialEq)]
pub struct RunState {
    /// The run's id.
    pub id: u64,
    /// The scenario's id.
    pub scenario_id: Option<u64>,
    /// The scenario's name.
    pub scenario_name: Option<String>,
    /// Where it stands.
    pub status: Status,
    /// Whether it passed; false also when no call took place. None while it goes on.
    pub success: Option<bool>,
    /// Why no call took place.
    pub error_message: Option<String>,
    /// Why the call ended, where the answer says so.
    pub call_ended_reason: Option<String>,
    /// The call's length as the API writes it, `MM:SS`.
    pub duration: Option<String>,
    /// The answer as it came.
    pub raw: Value,
}

impl RunState {
    /// Reads a run: from the runs' endpoints, from a result or from a start reply.
    ///
    /// # Errors
    /// [`BadAnswer`] when there is no usable `id` or `status`.
    pub fn read(raw: Value) -> Result<Self, BadAnswer> {
        let what = "the run";
        let scenario = &raw["scenario"];
        let ended = [&raw["metadata"]["call_ended_reason"], &raw["call_ended_reason"]].into_iter().find_map(text);
        Ok(Self {
            id: whole(&raw["id"]).ok_or(BadAnswer { what, field: "id" })?,
            scenario_id: whole(scenario).or_else(|| whole(&scenario["id"])),
            scenario_name: text(&raw["scenario_name"]).or_else(|| text(&scenario["name"])),
            status: text(&raw["status"]).map(Status::from).ok_or(BadAnswer { what, field: "status" })?,
            success: truth(&raw["success"]),
            error_message: text(&raw["error_message"]),
            call_ended_reason: ended,
            duration: text(&raw["duration"]),
            raw,
        })
    }
}

/// The runs of a result: a list of them, or an object keyed by run id. What is no run is left out.
fn runs_of(value: &Value) -> Vec<RunState> {
    let mut runs: Vec<RunState> = match value {
        Value::Array(items) => items.iter().filter_map(|item| RunState::read(item.clone()).ok()).collect(),
        Value::Object(members) => members.iter().filter_map(|(key, item)| keyed_run(key, item)).collect(),
        _ => Vec::new(),
    };
    runs.sort_by_key(|run| run.id);
    runs.dedup_by_key(|run| run.id);
    runs
}

fn keyed_run(key: &str, item: &Value) -> Option<RunState> {
    let mut item = item.clone();
    if whole(&item["id"]).is_none() {
        item.as_object_mut()?.insert("id".into(), key.into());
    }
    RunState::read(item).ok()
}

/// A number that may come as a text.
fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => {
            number.as_u64().or_else(|| number.as_f64().filter(|n| n.fract() == 0.0 && (0.0..9e15).contains(n)).map(|n| n as u64))
        }
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().trim_end_matches('%').parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}
