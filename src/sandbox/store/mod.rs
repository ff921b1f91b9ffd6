//! What the sandbox remembers, in SQLite, across restarts.

mod extra;
mod layout;
mod rows;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde_json::{Value, json};

pub(super) use extra::CallLog;
pub(super) use rows::{Judgement, StoredResult, StoredRun};
use rows::{RESULT_COLUMNS, RUN_COLUMNS, read_result, read_run, remembered, runs_of};

use super::carrier::RunOutcome;
use super::project::FIRST_SPEC_SCENARIO;
use super::request::StartRequest;
use super::{SandboxError, aside};
use crate::cekura::Status;
use crate::sqlite::{lay_out, set_wal};

/// The file within the sandbox's folder.
const FILE: &str = "sandbox.sqlite";
/// How long another sandbox that has the file may take to let go of it.
const BUSY: Duration = Duration::from_millis(500);

/// Which results a list shows.
#[derive(Debug, Default)]
pub(super) struct ResultFilter {
    pub(super) agent_id: Option<u64>,
    pub(super) search: Option<String>,
    /// Those with a run of one of these.
    pub(super) scenario_ids: Vec<u64>,
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
    pub(super) call_ids: Vec<String>,
    /// Times as the API writes them: they sort as texts.
    pub(super) created_from: Option<String>,
    pub(super) created_to: Option<String>,
    /// Part of the scenario's name.
    pub(super) search: Option<String>,
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
    next_spec_scenario: AtomicU64,
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
        if found > layout::STEPS.len() as i64 {
            return Err(SandboxError::Newer { path, found });
        }
        let sql = "SELECT max(?1, coalesce(max(scenario_id) + 1, 0)) FROM runs";
        let next = connection.query_row(sql, [FIRST_SPEC_SCENARIO as i64], |row| row.get::<_, i64>(0)).map_err(failed)?;
        let store = Self { connection: Mutex::new(connection), next_spec_scenario: AtomicU64::new(next as u64), path };
        store.end_interrupted("the sandbox was stopped while the run was under way")?;
        Ok(store)
    }

    /// Keeps a new result and its runs, all pending, in the order of the request. `body` is
    /// what is kept of the request: it has no secrets.
    pub(super) fn add(&self, request: &StartRequest, body: &Value) -> Stored<StoredResult> {
        let id = self.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let at = now();
            let name = request.name.clone().unwrap_or_else(|| format!("Run {at}"));
            let limit = request.concurrency_limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
            let agent_id = request.agent_id.map(|id| id as i64);
            transaction.execute(
                "INSERT INTO results (name, agent_id, concurrency_limit, mode, request, created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
                params![name, agent_id, limit, request.mode.name(), body.to_string(), at],
            )?;
            let result_id = transaction.last_insert_rowid();
            for run in &request.runs {
                let mut insert = transaction.prepare_cached(
                    "INSERT INTO runs (result_id, scenario_id, scenario_name, expected_outcome, personality_id, test_profile,
                       websocket_url, status, created_at, updated_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'pending', ?8, ?8)",
                )?;
                insert.execute(params![
                    result_id,
                    run.scenario.number as i64,
                    run.scenario.name,
                    run.scenario.expected_outcome,
                    run.personality_id.map(|id| id as i64),
                    run.test_profile.as_ref().map(|profile| json!(profile).to_string()),
                    run.target.shown(),
                    at
                ])?;
            }
            transaction.commit()?;
            Ok(result_id as u64)
        })?;
        self.result(id)?
            .ok_or_else(|| SandboxError::Store { path: self.path.clone(), source: rusqlite::Error::QueryReturnedNoRows })
    }

    /// The first of `count` ids for the scenarios of a suite that is in a request: nobody else gets them.
    pub(super) fn reserve_spec_scenarios(&self, count: usize) -> u64 {
        self.next_spec_scenario.fetch_add(count as u64, Ordering::Relaxed)
    }

    /// What [`Self::add`] was given of a result's request.
    pub(super) fn request(&self, id: u64) -> Stored<Option<Value>> {
        self.with(|connection| {
            let read = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
            let found = connection.query_row("SELECT request FROM results WHERE id = ?1", [id as i64], read).optional()?;
            Ok(found.map(|body| serde_json::from_str(&body).unwrap_or_default()))
        })
    }

    /// A result with its runs.
    pub(super) fn result(&self, id: u64) -> Stored<Option<StoredResult>> {
        self.with(|connection| {
            let sql = format!("SELECT {RESULT_COLUMNS} FROM results WHERE id = ?1");
            let Some(mut result) = connection.query_row(&sql, [id as i64], read_result).optional()? else { return Ok(None) };
            result.runs = runs_of(connection, result.id)?;
            Ok(Some(result))
        })
    }

    /// Results, newest first, with their runs.
    pub(super) fn results(&self, filter: &ResultFilter, skip: usize, take: usize) -> Stored<Slice<StoredResult>> {
        const WHERE: &str = "(?1 IS NULL OR agent_id = ?1) AND (?2 IS NULL OR instr(lower(name), lower(?2)) > 0)
          AND (?3 IS NULL OR id IN (SELECT result_id FROM runs WHERE scenario_id IN (SELECT value FROM json_each(?3))))";
        let agent_id = filter.agent_id.map(|id| id as i64);
        let scenarios = list(&filter.scenario_ids);
        self.with(|connection| {
            let sql = format!("SELECT count(*) FROM results WHERE {WHERE}");
            let count: i64 = connection.query_row(&sql, params![agent_id, filter.search, scenarios], |row| row.get(0))?;
            let sql = format!("SELECT {RESULT_COLUMNS} FROM results WHERE {WHERE} ORDER BY id DESC LIMIT ?4 OFFSET ?5");
            let mut statement = connection.prepare_cached(&sql)?;
            let values = params![agent_id, filter.search, scenarios, take as i64, skip as i64];
            let mut rows = statement.query_map(values, read_result)?.collect::<Result<Vec<_>, _>>()?;
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
        const WHERE: &str = "(?1 IS NULL OR result_id = ?1) AND (?2 IS NULL OR agent_id = ?2) AND (?3 IS NULL OR success = ?3)
          AND (?4 IS NULL OR status IN (SELECT value FROM json_each(?4)))
          AND (?5 IS NULL OR scenario_id IN (SELECT value FROM json_each(?5)))
          AND (?6 IS NULL OR runs.id IN (SELECT value FROM json_each(?6)))
          AND (?7 IS NULL OR provider_call_id IN (SELECT value FROM json_each(?7)))
          AND (?8 IS NULL OR runs.created_at >= ?8) AND (?9 IS NULL OR runs.created_at <= ?9)
          AND (?10 IS NULL OR instr(lower(scenario_name), lower(?10)) > 0)";
        let (statuses, scenarios) = (list(&filter.statuses), list(&filter.scenario_ids));
        let (ids, call_ids) = (list(&filter.ids), list(&filter.call_ids));
        let (result_id, agent_id) = (filter.result_id.map(|id| id as i64), filter.agent_id.map(|id| id as i64));
        let (from, to, search) = (&filter.created_from, &filter.created_to, &filter.search);
        self.with(|connection| {
            let sql = format!("SELECT count(*) FROM runs JOIN results ON results.id = result_id WHERE {WHERE}");
            let values = params![result_id, agent_id, filter.success, statuses, scenarios, ids, call_ids, from, to, search];
            let count: i64 = connection.query_row(&sql, values, |row| row.get(0))?;
            let sql = format!(
                "SELECT {RUN_COLUMNS} FROM runs JOIN results ON results.id = result_id WHERE {WHERE} ORDER BY runs.id DESC LIMIT ?11 OFFSET ?12"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let (take, skip) = (take as i64, skip as i64);
            let values =
                params![result_id, agent_id, filter.success, statuses, scenarios, ids, call_ids, from, to, search, take, skip];
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

    /// The call of a run goes on and is recorded into `folder`.
    pub(super) fn record(&self, run: u64, folder: &Path) -> Stored<()> {
        let folder = folder.to_string_lossy();
        self.with(|connection| {
            connection.execute("UPDATE runs SET recording = ?2 WHERE id = ?1", params![run as i64, folder]).map(drop)
        })
    }

    /// Ends a run. The first end counts.
    pub(super) fn end(&self, run: u64, outcome: &RunOutcome, judgement: &Judgement) -> Stored<()> {
        let mut metadata = outcome.metadata.clone();
        if let Some(reason) = &outcome.call_ended_reason {
            metadata.insert("call_ended_reason".into(), reason.clone().into());
        }
        let duration = outcome.duration.map(|duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX));
        let recording = outcome.recording.as_ref().map(|folder| folder.to_string_lossy().into_owned());
        self.with(|connection| {
            connection.execute(
                "UPDATE runs SET status = ?2, success = ?3, error_message = ?4, duration_ms = ?5, provider_call_id = ?6, transcript = ?7,
                   metadata = ?8, updated_at = ?9, recording = coalesce(?10, recording), metrics = ?11, judged = ?12, outcome = ?13
                 WHERE id = ?1 AND status NOT IN ('completed', 'failed', 'timeout', 'cancelled')",
                params![
                    run as i64,
                    outcome.end.as_str(),
                    judgement.success,
                    judgement.error_message,
                    duration,
                    outcome.provider_call_id,
                    json!(outcome.transcript).to_string(),
                    Value::Object(metadata).to_string(),
                    now(),
                    recording,
                    json!(judgement.metrics).to_string(),
                    judgement.expected_outcome.as_ref().map(Value::to_string),
                    remembered(outcome).to_string(),
                ],
            )?;
            touch(connection, run)
        })
    }

    /// A run that has ended is judged anew.
    pub(super) fn judge_again(&self, run: u64, judgement: &Judgement) -> Stored<()> {
        self.with(|connection| {
            connection.execute(
                "UPDATE runs SET success = ?2, error_message = ?3, metrics = ?4, judged = ?5, updated_at = ?6 WHERE id = ?1",
                params![
                    run as i64,
                    judgement.success,
                    judgement.error_message,
                    json!(judgement.metrics).to_string(),
                    judgement.expected_outcome.as_ref().map(Value::to_string),
                    now(),
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
        aside(|| work(&mut self.lock())).map_err(|source| SandboxError::Store { path: self.path.clone(), source })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere leaves no half-written state: SQLite rolls an open transaction back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A list as SQL gets it: JSON, or null for "any".
fn list<T: serde::Serialize>(items: &[T]) -> Option<String> {
    (!items.is_empty()).then(|| json!(items).to_string())
}

/// Sets the connection up, makes the tables where there are none, and tells the layout's version.
fn prepare(connection: &mut Connection) -> rusqlite::Result<i64> {
    // Two sandboxes on one folder would each take the other's runs for dead: the file is held for as long as it is open.
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    set_wal(connection, BUSY)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    lay_out(connection, layout::STEPS)
}

fn touch(connection: &Connection, run: u64) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE results SET updated_at = ?2 WHERE id = (SELECT result_id FROM runs WHERE id = ?1)",
        params![run as i64, now()],
    )?;
    Ok(())
}

fn now() -> String {
    let now: DateTime<Utc> = Utc::now();
    now.to_rfc3339_opts(SecondsFormat::Micros, true)
}
