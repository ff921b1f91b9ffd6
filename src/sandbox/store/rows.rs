//! Results and runs as they are kept, and how they are read.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, Row};
use serde_json::{Map, Value, json};

use super::super::carrier::{RunOutcome, TestProfile};
use crate::cekura::{Mode, Status};
use crate::record::TranscriptLine;

pub(super) const RESULT_COLUMNS: &str = "id, name, agent_id, concurrency_limit, created_at, updated_at, mode";
pub(super) const RUN_COLUMNS: &str =
    "runs.id, runs.result_id, runs.scenario_id, runs.scenario_name, runs.expected_outcome, runs.personality_id,
  runs.test_profile, runs.websocket_url, runs.status, runs.success, runs.error_message, runs.duration_ms, runs.provider_call_id,
  runs.transcript, runs.metadata, runs.created_at, runs.executed_at, results.name, results.agent_id, results.mode, runs.recording,
  runs.metrics, runs.judged, runs.outcome";

/// A result as it is kept.
#[derive(Debug, Clone)]
pub(in crate::sandbox) struct StoredResult {
    pub(in crate::sandbox) id: u64,
    pub(in crate::sandbox) name: String,
    pub(in crate::sandbox) agent_id: Option<u64>,
    pub(in crate::sandbox) concurrency_limit: Option<usize>,
    /// The start's mode.
    pub(in crate::sandbox) mode: String,
    pub(in crate::sandbox) created_at: String,
    pub(in crate::sandbox) updated_at: String,
    pub(in crate::sandbox) runs: Vec<StoredRun>,
}

/// A run as it is kept.
#[derive(Debug, Clone)]
pub(in crate::sandbox) struct StoredRun {
    pub(in crate::sandbox) id: u64,
    pub(in crate::sandbox) result_id: u64,
    pub(in crate::sandbox) result_name: String,
    pub(in crate::sandbox) mode: String,
    pub(in crate::sandbox) agent_id: Option<u64>,
    pub(in crate::sandbox) scenario_id: u64,
    pub(in crate::sandbox) scenario_name: String,
    pub(in crate::sandbox) expected_outcome: Option<String>,
    pub(in crate::sandbox) personality_id: Option<u64>,
    pub(in crate::sandbox) test_profile: Option<TestProfile>,
    pub(in crate::sandbox) status: Status,
    pub(in crate::sandbox) success: Option<bool>,
    pub(in crate::sandbox) error_message: Option<String>,
    pub(in crate::sandbox) duration: Option<Duration>,
    pub(in crate::sandbox) provider_call_id: Option<String>,
    pub(in crate::sandbox) transcript: Vec<TranscriptLine>,
    pub(in crate::sandbox) metadata: Map<String, Value>,
    /// The call's folder, as it is on this machine.
    pub(in crate::sandbox) recording: Option<PathBuf>,
    pub(in crate::sandbox) metrics: Vec<Value>,
    /// What a rule says of the expected outcome; none where there is no rule.
    pub(in crate::sandbox) judged: Option<Value>,
    /// What the carrier said, before anything was judged: for a judgement anew.
    pub(in crate::sandbox) outcome: Value,
    pub(in crate::sandbox) created_at: String,
    pub(in crate::sandbox) executed_at: Option<String>,
}

impl StoredRun {
    /// It is a chat: its mode has no audio.
    pub(in crate::sandbox) fn chats(&self) -> bool {
        self.mode.parse().is_ok_and(Mode::is_text)
    }
}

/// What is said of a run.
#[derive(Debug, Clone, Default)]
pub(in crate::sandbox) struct Judgement {
    pub(in crate::sandbox) success: bool,
    pub(in crate::sandbox) error_message: Option<String>,
    pub(in crate::sandbox) metrics: Vec<Value>,
    /// Null where no rule can judge.
    pub(in crate::sandbox) expected_outcome: Option<Value>,
}

/// What a later judgement needs of the outcome beyond what a run shows.
pub(super) fn remembered(outcome: &RunOutcome) -> Value {
    json!({
        "end": outcome.end.as_str(),
        "carried_out": outcome.success,
        "error_message": outcome.error_message,
        "connection_lost": outcome.connection_lost,
    })
}

pub(super) fn runs_of(connection: &Connection, result_id: u64) -> rusqlite::Result<Vec<StoredRun>> {
    let sql =
        format!("SELECT {RUN_COLUMNS} FROM runs JOIN results ON results.id = result_id WHERE result_id = ?1 ORDER BY runs.id");
    connection.prepare_cached(&sql)?.query_map([result_id as i64], read_run)?.collect()
}

pub(super) fn read_result(row: &Row<'_>) -> rusqlite::Result<StoredResult> {
    Ok(StoredResult {
        id: row.get::<_, i64>(0)? as u64,
        name: row.get(1)?,
        agent_id: row.get::<_, Option<i64>>(2)?.map(|id| id as u64),
        concurrency_limit: row.get::<_, Option<i64>>(3)?.map(|limit| limit as usize),
        created_at: row.get(4)?,
        updated_at: row.get(5)?,
        mode: row.get(6)?,
        runs: Vec::new(),
    })
}

pub(super) fn read_run(row: &Row<'_>) -> rusqlite::Result<StoredRun> {
    let id = |index| row.get::<_, Option<i64>>(index).map(|id| id.map(|id| id as u64));
    let text = |index| row.get::<_, Option<String>>(index);
    Ok(StoredRun {
        id: id(0)?.unwrap_or_default(),
        result_id: id(1)?.unwrap_or_default(),
        scenario_id: id(2)?.unwrap_or_default(),
        scenario_name: row.get(3)?,
        expected_outcome: row.get(4)?,
        personality_id: id(5)?,
        test_profile: text(6)?.and_then(|json| serde_json::from_str(&json).ok()),
        status: Status::from(row.get::<_, String>(8)?),
        success: row.get(9)?,
        error_message: row.get(10)?,
        duration: id(11)?.map(Duration::from_millis),
        provider_call_id: row.get(12)?,
        transcript: text(13)?.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default(),
        metadata: text(14)?.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default(),
        created_at: row.get(15)?,
        executed_at: row.get(16)?,
        result_name: row.get(17)?,
        agent_id: id(18)?,
        mode: row.get(19)?,
        recording: text(20)?.map(PathBuf::from),
        metrics: text(21)?.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default(),
        judged: text(22)?.and_then(|json| serde_json::from_str(&json).ok()),
        outcome: text(23)?.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default(),
    })
}
