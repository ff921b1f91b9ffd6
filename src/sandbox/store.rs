//! What the sandbox remembers, in SQLite, across restarts.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use serde_json::{Map, Value, json};

use super::carrier::{RunOutcome, TestProfile, TranscriptLine};
use super::request::StartRequest;
use super::{SandboxError, SandboxScenario};
use crate::cekura::Status;
use crate::sqlite::{lay_out, set_wal};

/// The file within the sandbox's folder.
const FILE: &str = "sandbox.sqlite";
/// How long another sandbox that has the file may take to let go of it.
const BUSY: Duration = Duration::from_millis(500);
/// The layout's version, kept in `user_version`.
const VERSION: i64 = 1;

/// Ids of results and runs start far apart, so that code which mixes them up finds nothing.
const SCHEMA: &str = "
CREATE TABLE results (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL,
  agent_id INTEGER,
  concurrency_limit INTEGER,
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL
);
CREATE TABLE runs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  result_id INTEGER NOT NULL REFERENCES results (id),
  scenario_id INTEGER NOT NULL,
  scenario_name TEXT NOT NULL,
  expected_outcome TEXT,
  personality_id INTEGER,
  test_profile TEXT,
  websocket_url TEXT NOT NULL,
  status TEXT NOT NULL,
  success INTEGER,
  error_message TEXT,
  duration_ms INTEGER,
  provider_call_id TEXT,
  transcript TEXT NOT NULL DEFAULT '[]',
  metadata TEXT NOT NULL DEFAULT '{}',
  created_at TEXT NOT NULL,
  executed_at TEXT,
  updated_at TEXT NOT NULL
);
CREATE INDEX runs_by_result ON runs (result_id);
INSERT INTO sqlite_sequence (name, seq) VALUES ('results', 1000), ('runs', 50000);
";

const RUN_COLUMNS: &str =
    "runs.id, runs.result_id, runs.scenario_id, runs.scenario_name, runs.expected_outcome, runs.personality_id,
  runs.test_profile, runs.websocket_url, runs.status, runs.success, runs.error_message, runs.duration_ms, runs.provider_call_id,
  runs.transcript, runs.metadata, runs.created_at, runs.executed_at, results.name, results.agent_id";

/// A result as it is kept.
#[derive(Debug, Clone)]
pub(super) struct StoredResult {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) agent_id: Option<u64>,
    pub(super) concurrency_limit: Option<usize>,
    pub(super) created_at: String,
    pub(super) updated_at: String,
    pub(super) runs: Vec<StoredRun>,
}

/// A run as it is kept.
#[derive(Debug, Clone)]
pub(super) struct StoredRun {
    pub(super) id: u64,
    pub(super) result_id: u64,
    pub(super) result_name: String,
    pub(super) agent_id: Option<u64>,
    pub(super) scenario_id: u64,
    pub(super) scenario_name: String,
    pub(super) expected_outcome: Option<String>,
    pub(super) personality_id: Option<u64>,
    pub(super) test_profile: Option<TestProfile>,
    pub(super) websocket_url: String,
    pub(super) status: Status,
    pub(super) success: Option<bool>,
    pub(super) error_message: Option<String>,
    pub(super) duration: Option<Duration>,
    pub(super) provider_call_id: Option<String>,
    pub(super) transcript: Vec<TranscriptLine>,
    pub(super) metadata: Map<String, Value>,
    pub(super) created_at: String,
    pub(super) executed_at: Option<String>,
}

/// Which results a list shows.
#[derive(Debug, Default)]
pub(super) struct ResultFilter {
    pub(super) agent_id: Option<u64>,
    pub(super) search: Option<String>,
}

/// Which runs a list shows.
#[derive(Debug, Default)]
pub(super) struct RunFilter {
    pub(super) result_id: Option<u64>,
    pub(super) agent_id: Option<u64>,
    pub(super) statuses: Vec<String>,
    pub(super) scenario_ids: Vec<u64>,
    pub(super) ids: Vec<u64>,
    pub(super) success: Option<bool>,
}

/// A part of a list, and how long the list is.
#[derive(Debug)]
pub(super) struct Slice<T> {
    pub(super) count: usize,
    pub(super) rows: Vec<T>,
}

/// The sandbox's memory. One process has it at a time.
#[derive(Debug)]
pub(super) struct Store {
    connection: Mutex<Connection>,
    path: PathBuf,
}

type Stored<T> = Result<T, SandboxError>;

impl Store {
    /// Opens the memory in `folder` and ends, as failed, the runs that were under way when it was last closed.
    pub(super) fn open(folder: &Path) -> Stored<Self> {
        std::fs::create_dir_all(folder).map_err(|source| SandboxError::Folder { path: folder.to_owned(), source })?;
        let path = folder.join(FILE);
        let failed = |source| SandboxError::Store { path: path.clone(), source };
        let mut connection = Connection::open(&path).map_err(failed)?;
        let found = prepare(&mut connection).map_err(|source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseBusy) => SandboxError::InUse { path: folder.to_owned() },
            _ => failed(source),
        })?;
        if found > VERSION {
            return Err(SandboxError::Newer { path, found });
        }
        let store = Self { connection: Mutex::new(connection), path };
        store.end_interrupted("the sandbox was stopped while the run was under way")?;
        Ok(store)
    }

    /// Keeps a new result and its runs, all pending.
    pub(super) fn add(&self, request: &StartRequest, scenarios: &[SandboxScenario]) -> Stored<StoredResult> {
        let id = self.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let at = now();
            let name = request.name.clone().unwrap_or_else(|| format!("Run {at}"));
            let limit = request.concurrency_limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
            transaction.execute(
                "INSERT INTO results (name, agent_id, concurrency_limit, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?4)",
                params![name, request.agent_id.map(|id| id as i64), limit, at],
            )?;
            let result_id = transaction.last_insert_rowid();
            for run in &request.runs {
                let Some(scenario) = scenarios.iter().find(|scenario| scenario.id == run.scenario_id) else { continue };
                let profile = profile_of(scenario, run.test_profile_id).map(|profile| json!(profile).to_string());
                transaction.prepare_cached(
                    "INSERT INTO runs (result_id, scenario_id, scenario_name, expected_outcome, personality_id, test_profile, websocket_url, status, created_at, updated_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'pending', ?8, ?8)",
                )?
                .execute(params![
                    result_id,
                    scenario.id as i64,
                    scenario.name,
                    scenario.expected_outcome,
                    run.personality_id.map(|id| id as i64),
                    profile,
                    request.websocket_url,
                    at
                ])?;
            }
            transaction.commit()?;
            Ok(result_id as u64)
        })?;
        self.result(id)?
            .ok_or_else(|| SandboxError::Store { path: self.path.clone(), source: rusqlite::Error::QueryReturnedNoRows })
    }

    /// A result with its runs.
    pub(super) fn result(&self, id: u64) -> Stored<Option<StoredResult>> {
        self.with(|connection| {
            let sql = "SELECT id, name, agent_id, concurrency_limit, created_at, updated_at FROM results WHERE id = ?1";
            let Some(mut result) = connection.query_row(sql, [id as i64], read_result).optional()? else { return Ok(None) };
            result.runs = runs_of(connection, result.id)?;
            Ok(Some(result))
        })
    }

    /// Results, newest first, with their runs.
    pub(super) fn results(&self, filter: &ResultFilter, skip: usize, take: usize) -> Stored<Slice<StoredResult>> {
        const WHERE: &str = "(?1 IS NULL OR agent_id = ?1) AND (?2 IS NULL OR instr(lower(name), lower(?2)) > 0)";
        let agent_id = filter.agent_id.map(|id| id as i64);
        self.with(|connection| {
            let count: i64 =
                connection.query_row(&format!("SELECT count(*) FROM results WHERE {WHERE}"), params![agent_id, filter.search], |row| row.get(0))?;
            let sql = format!(
                "SELECT id, name, agent_id, concurrency_limit, created_at, updated_at FROM results WHERE {WHERE} ORDER BY id DESC LIMIT ?3 OFFSET ?4"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params![agent_id, filter.search, take as i64, skip as i64], read_result)?;
            let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
            for row in &mut rows {
                row.runs = runs_of(connection, row.id)?;
            }
            Ok(Slice { count: count as usize, rows })
        })
    }

    /// A run.
    pub(super) fn run(&self, id: u64) -> Stored<Option<StoredRun>> {
        let filter = RunFilter { ids: vec![id], ..RunFilter::default() };
        Ok(self.runs(&filter, 0, 1)?.rows.into_iter().next())
    }

    /// Runs, newest first.
    pub(super) fn runs(&self, filter: &RunFilter, skip: usize, take: usize) -> Stored<Slice<StoredRun>> {
        // A list is handed over as JSON: null stands for "any".
        const WHERE: &str = "(?1 IS NULL OR result_id = ?1) AND (?2 IS NULL OR agent_id = ?2) AND (?3 IS NULL OR success = ?3)
          AND (?4 IS NULL OR status IN (SELECT value FROM json_each(?4)))
          AND (?5 IS NULL OR scenario_id IN (SELECT value FROM json_each(?5)))
          AND (?6 IS NULL OR runs.id IN (SELECT value FROM json_each(?6)))";
        let list = |empty: bool, items: Value| (!empty).then(|| items.to_string());
        let statuses = list(filter.statuses.is_empty(), json!(filter.statuses));
        let scenarios = list(filter.scenario_ids.is_empty(), json!(filter.scenario_ids));
        let ids = list(filter.ids.is_empty(), json!(filter.ids));
        let (result_id, agent_id) = (filter.result_id.map(|id| id as i64), filter.agent_id.map(|id| id as i64));
        self.with(|connection| {
            let count: i64 = connection.query_row(
                &format!("SELECT count(*) FROM runs JOIN results ON results.id = result_id WHERE {WHERE}"),
                params![result_id, agent_id, filter.success, statuses, scenarios, ids],
                |row| row.get(0),
            )?;
            let sql = format!(
                "SELECT {RUN_COLUMNS} FROM runs JOIN results ON results.id = result_id WHERE {WHERE} ORDER BY runs.id DESC LIMIT ?7 OFFSET ?8"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let values = params![result_id, agent_id, filter.success, statuses, scenarios, ids, take as i64, skip as i64];
            let rows = statement.query_map(values, read_run)?.collect::<Result<Vec<_>, _>>()?;
            Ok(Slice { count: count as usize, rows })
        })
    }

    /// Moves a run that has not ended on; a run that has ended stays as it is.
    pub(super) fn advance(&self, run: u64, status: &Status) -> Stored<()> {
        self.with(|connection| {
            let executed = (*status == Status::InProgress).then(now);
            connection.execute(
                "UPDATE runs SET status = ?2, executed_at = coalesce(?3, executed_at), updated_at = ?4
                 WHERE id = ?1 AND status NOT IN ('completed', 'failed', 'timeout', 'cancelled')",
                params![run as i64, status.as_str(), executed, now()],
            )?;
            touch(connection, run)
        })
    }

    /// Ends a run. The first end counts.
    pub(super) fn end(&self, run: u64, outcome: &RunOutcome) -> Stored<()> {
        let mut metadata = outcome.metadata.clone();
        if let Some(reason) = &outcome.call_ended_reason {
            metadata.insert("call_ended_reason".into(), reason.clone().into());
        }
        let success = outcome.success && outcome.end == super::RunEnd::Completed;
        let duration = outcome.duration.map(|duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX));
        self.with(|connection| {
            connection.execute(
                "UPDATE runs SET status = ?2, success = ?3, error_message = ?4, duration_ms = ?5, provider_call_id = ?6, transcript = ?7,
                   metadata = ?8, updated_at = ?9
                 WHERE id = ?1 AND status NOT IN ('completed', 'failed', 'timeout', 'cancelled')",
                params![
                    run as i64,
                    outcome.end.as_str(),
                    success,
                    outcome.error_message,
                    duration,
                    outcome.provider_call_id,
                    json!(outcome.transcript).to_string(),
                    Value::Object(metadata).to_string(),
                    now()
                ],
            )?;
            touch(connection, run)
        })
    }

    fn end_interrupted(&self, why: &str) -> Stored<()> {
        self.with(|connection| {
            connection.execute(
                "UPDATE runs SET status = 'failed', success = 0, error_message = ?1, updated_at = ?2
                 WHERE status NOT IN ('completed', 'failed', 'timeout', 'cancelled')",
                params![why, now()],
            )?;
            Ok(())
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Stored<T> {
        work(&mut self.lock()).map_err(|source| SandboxError::Store { path: self.path.clone(), source })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere leaves no half-written state: SQLite rolls an open transaction back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets the connection up, makes the tables where there are none, and tells the layout's version.
fn prepare(connection: &mut Connection) -> rusqlite::Result<i64> {
    // Two sandboxes on one folder would each take the other's runs for dead: the file is held for as long as it is open.
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    set_wal(connection, BUSY)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    lay_out(connection, SCHEMA, VERSION)
}

/// A scenario's own test profile; one that the start request names shows under its id.
fn profile_of(scenario: &SandboxScenario, id: Option<u64>) -> Option<TestProfile> {
    match (scenario.test_profile.clone(), id) {
        (own, None) => own,
        (own, Some(id)) => Some(TestProfile { id: Some(id), ..own.unwrap_or_default() }),
    }
}

fn touch(connection: &Connection, run: u64) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE results SET updated_at = ?2 WHERE id = (SELECT result_id FROM runs WHERE id = ?1)",
        params![run as i64, now()],
    )?;
    Ok(())
}

fn runs_of(connection: &Connection, result_id: u64) -> rusqlite::Result<Vec<StoredRun>> {
    let sql =
        format!("SELECT {RUN_COLUMNS} FROM runs JOIN results ON results.id = result_id WHERE result_id = ?1 ORDER BY runs.id");
    connection.prepare_cached(&sql)?.query_map([result_id as i64], read_run)?.collect()
}

fn read_result(row: &Row<'_>) -> rusqlite::Result<StoredResult> {
    Ok(StoredResult {
        id: row.get::<_, i64>(0)? as u64,
        name: row.get(1)?,
        agent_id: row.get::<_, Option<i64>>(2)?.map(|id| id as u64),
        concurrency_limit: row.get::<_, Option<i64>>(3)?.map(|limit| limit as usize),
        created_at: row.get(4)?,
        updated_at: row.get(5)?,
        runs: Vec::new(),
    })
}

fn read_run(row: &Row<'_>) -> rusqlite::Result<StoredRun> {
    let id = |index| row.get::<_, Option<i64>>(index).map(|id| id.map(|id| id as u64));
    let profile: Option<String> = row.get(6)?;
    let (transcript, metadata): (String, String) = (row.get(13)?, row.get(14)?);
    Ok(StoredRun {
        id: id(0)?.unwrap_or_default(),
        result_id: id(1)?.unwrap_or_default(),
        scenario_id: id(2)?.unwrap_or_default(),
        scenario_name: row.get(3)?,
        expected_outcome: row.get(4)?,
        personality_id: id(5)?,
        test_profile: profile.and_then(|json| serde_json::from_str(&json).ok()),
        websocket_url: row.get(7)?,
        status: Status::from(row.get::<_, String>(8)?),
        success: row.get(9)?,
        error_message: row.get(10)?,
        duration: id(11)?.map(Duration::from_millis),
        provider_call_id: row.get(12)?,
        transcript: serde_json::from_str(&transcript).unwrap_or_default(),
        metadata: serde_json::from_str(&metadata).unwrap_or_default(),
        created_at: row.get(15)?,
        executed_at: row.get(16)?,
        result_name: row.get(17)?,
        agent_id: id(18)?,
    })
}

fn now() -> String {
    let now: DateTime<Utc> = Utc::now();
    now.to_rfc3339_opts(SecondsFormat::Micros, true)
}
