//! Results and runs as the API tells of them: leniently read, for the API's own documents disagree on their types.

use std::fmt;

use serde_json::Value;

/// A status. What is not known is kept as it came, and does not end anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status(String);

impl Status {
    /// A status by its name, in any case.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.to_ascii_lowercase())
    }

    /// The name, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Nothing more will happen: `completed`, `failed`, `timeout`, `cancelled`.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self.0.as_str(), "completed" | "failed" | "timeout" | "cancelled")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunState {
    /// Its id.
    pub id: Value,
    /// Its status.
    pub status: Status,
    /// The scenario's id.
    pub scenario: Option<Value>,
    /// The scenario's name.
    pub scenario_name: Option<String>,
    /// Whether it met what was expected; none while it goes on.
    pub success: Option<bool>,
    /// What went wrong.
    pub error_message: Option<String>,
    /// When it was carried out, as the API writes it.
    pub executed_at: Option<String>,
}

/// A result: one trigger and its runs.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultState {
    /// Its id.
    pub id: Value,
    /// Its name.
    pub name: Option<String>,
    /// Its status.
    pub status: Status,
    /// Its runs, in the order of their ids.
    pub runs: Vec<RunState>,
    /// Of all runs, as the API counts.
    pub total_runs: Option<u64>,
    /// Runs that completed and passed.
    pub success_runs: Option<u64>,
}

impl ResultState {
    /// Reads a start reply or a result; none when it has no id.
    #[must_use]
    pub fn read(json: &Value) -> Option<Self> {
        let id = json.get("id").filter(|id| id.is_number() || id.is_string())?.clone();
        let mut runs: Vec<RunState> = match json.get("runs") {
            Some(Value::Array(list)) => list.iter().filter_map(|run| RunState::read(run, None)).collect(),
            Some(Value::Object(map)) => map.iter().filter_map(|(id, run)| RunState::read(run, Some(id))).collect(),
            _ => Vec::new(),
        };
        runs.sort_by_key(|run| number(&run.id));
        Some(Self {
            id,
            name: text(json, "name"),
            status: Status::new(json.get("status").and_then(Value::as_str).unwrap_or("pending")),
            runs,
            total_runs: json.get("total_runs_count").and_then(number),
            success_runs: json.get("success_runs_count").and_then(number),
        })
    }

    /// Whether all runs completed and passed, by the API's own counts.
    #[must_use]
    pub fn passed(&self) -> bool {
        let (total, success) = (self.total_runs.unwrap_or(0), self.success_runs.unwrap_or(0));
        self.status.as_str() == "completed" && total > 0 && success == total
    }
}

impl RunState {
    /// Reads a run; `key` is its id where it stands in a map.
    #[must_use]
    pub fn read(json: &Value, key: Option<&str>) -> Option<Self> {
        let keyed = key.map(|key| key.parse::<u64>().map_or_else(|_| Value::from(key), Value::from));
        let id = json.get("id").filter(|id| id.is_number() || id.is_string()).cloned().or(keyed)?;
        let scenario = json.get("scenario");
        let (scenario, name) = match scenario {
            Some(Value::Object(object)) => (object.get("id").cloned(), object.get("name")),
            other => (other.filter(|value| !value.is_null()).cloned(), None),
        };
        let scenario_name = text(json, "scenario_name").or_else(|| name.and_then(Value::as_str).map(str::to_owned));
        Some(Self {
            id,
            status: Status::new(json.get("status").and_then(Value::as_str).unwrap_or("pending")),
            scenario,
            scenario_name,
            success: json.get("success").and_then(Value::as_bool),
            error_message: text(json, "error_message").filter(|message| !message.is_empty()),
            executed_at: text(json, "executed_at"),
        })
    }

    /// The id as it stands in headers.
    #[must_use]
    pub fn id_text(&self) -> String {
        self.id.as_str().map_or_else(|| self.id.to_string(), str::to_owned)
    }
}

fn text(json: &Value, key: &str) -> Option<String> {
    json.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// Counts come as numbers and as texts.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
