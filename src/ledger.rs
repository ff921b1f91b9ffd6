//! SQLite: what was triggered, which runs, where the recordings are.
//!
//! A start is `intended` before anything is sent, `sent` from just before the request goes out, then `replied`, `failed` (surely not
//! started) or `lost` (nobody knows). After a crash it stays where it was: an `intended` start was never sent, a `sent` one
//! may have started runs.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use serde_json::Value;

use crate::call::CallIds;
use crate::sqlite::{lay_out, set_wal};

/// How long one process waits for another that writes.
const BUSY: Duration = Duration::from_secs(10);
/// The layout's version, kept in `user_version`.
const VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE starts (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  mode TEXT NOT NULL,
  name TEXT NOT NULL,
  base_url TEXT NOT NULL,
  body TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('intended', 'sent', 'replied', 'failed', 'lost')),
  result_id INTEGER,
  error TEXT,
  intended_at TEXT NOT NULL,
  changed_at TEXT NOT NULL
);
CREATE INDEX starts_by_result ON starts (result_id);
CREATE TABLE runs (
  start_id INTEGER NOT NULL REFERENCES starts (id),
  run_id INTEGER NOT NULL,
  scenario_id INTEGER,
  scenario_name TEXT,
  PRIMARY KEY (start_id, run_id)
);
CREATE TABLE calls (
  call_id TEXT PRIMARY KEY,
  run_id TEXT,
  result_id TEXT,
  scenario_id TEXT,
  scenario TEXT,
  folder TEXT NOT NULL,
  tied_at TEXT NOT NULL
);
CREATE INDEX calls_by_result ON calls (result_id);
";

/// The ledger's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Its folder cannot be made.
    #[error("cannot make the folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite says no.
    #[error("ledger {}: {source}", path.display())]
    Sqlite {
        /// The ledger's file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A later Trunkline wrote it.
    #[error("ledger {} has layout {found}, this version knows up to {VERSION}", path.display())]
    Newer {
        /// The ledger's file.
        path: PathBuf,
        /// Its layout's version.
        found: i64,
    },
    /// There is no such start, or it has moved on already.
    #[error("ledger {}: start {start} is not waiting for this", path.display())]
    State {
        /// The ledger's file.
        path: PathBuf,
        /// The start.
        start: i64,
    },
}

/// A start's number in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StartId(i64);

/// What is about to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Intent<'a> {
    /// The mode's name.
    pub mode: &'a str,
    /// The result's name, unique to the start.
    pub name: &'a str,
    /// Which API.
    pub base_url: &'a str,
    /// The request's body.
    pub body: &'a Value,
}

/// Where a start stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartState {
    /// Written down, not sent.
    Intended,
    /// About to be sent, or sent; no answer yet.
    Sent,
    /// Answered: the result's id is known.
    Replied,
    /// Surely not started.
    Failed,
    /// Nobody knows whether runs were started.
    Lost,
}

impl StartState {
    const ALL: [Self; 5] = [Self::Intended, Self::Sent, Self::Replied, Self::Failed, Self::Lost];

    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Sent => "sent",
            Self::Replied => "replied",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }
}

/// A run of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRun {
    /// The run's id.
    pub run_id: u64,
    /// The scenario's id.
    pub scenario_id: Option<u64>,
    /// The scenario's name.
    pub scenario_name: Option<String>,
}

/// A recorded call and the run that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerCall {
    /// Which call, run, result and scenario.
    pub ids: CallIds,
    /// Where its recording is.
    pub folder: PathBuf,
}

/// A start as the ledger knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// Its number.
    pub id: StartId,
    /// The mode's name.
    pub mode: String,
    /// The result's name.
    pub name: String,
    /// Which API.
    pub base_url: String,
    /// What was to be sent.
    pub body: Value,
    /// Where it stands.
    pub state: StartState,
    /// The result's id, once known.
    pub result_id: Option<u64>,
    /// Why it failed or was lost.
    pub error: Option<String>,
    /// When it was written down (RFC 3339, UTC).
    pub intended_at: String,
    /// Its runs, by id.
    pub runs: Vec<LedgerRun>,
}

/// The ledger. Several processes may have the same one open.
#[derive(Debug)]
pub struct Ledger {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl Ledger {
    /// Opens the ledger at `path`, and makes it, with its folder, where there is none.
    ///
    /// # Errors
    /// A [`LedgerError`] that names the folder or file.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|source| LedgerError::Folder { path: folder.to_owned(), source })?;
        }
        let failed = |source| LedgerError::Sqlite { path: path.to_owned(), source };
        let mut connection = Connection::open(path).map_err(failed)?;
        prepare(&mut connection, path)?;
        Ok(Self { connection: Mutex::new(connection), path: path.to_owned() })
    }

    /// Where the ledger is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes down what is about to be sent. It is on the disk when this returns.
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`].
    pub fn intend(&self, intent: &Intent<'_>) -> Result<StartId, LedgerError> {
        let connection = self.lock();
        connection
            .execute(
                "INSERT INTO starts (mode, name, base_url, body, state, intended_at, changed_at) VALUES (?1, ?2, ?3, ?4, 'intended', ?5, ?5)",
                params![intent.mode, intent.name, intent.base_url, intent.body.to_string(), now()],
            )
            .map_err(|e| self.failure(e))?;
        Ok(StartId(connection.last_insert_rowid()))
    }

    /// The request goes out next.
    ///
    /// # Errors
    /// [`LedgerError::State`] when the start is not `intended`, [`LedgerError::Sqlite`].
    pub fn sent(&self, start: StartId) -> Result<(), LedgerError> {
        self.change(start, StartState::Intended, StartState::Sent, None)
    }

    /// The API has taken the start; a start that was lost may be found later, and one may be found by two processes.
    ///
    /// # Errors
    /// [`LedgerError::State`] when the start is neither `sent` nor `lost` nor of this result already, [`LedgerError::Sqlite`].
    pub fn replied(&self, start: StartId, result_id: u64, runs: &[LedgerRun]) -> Result<(), LedgerError> {
        let mut connection = self.lock();
        let changed = (|| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let changed = transaction.execute(
                "UPDATE starts SET state = 'replied', result_id = ?2, changed_at = ?3
                 WHERE id = ?1 AND (state IN ('sent', 'lost') OR (state = 'replied' AND result_id = ?2))",
                params![start.0, signed(result_id), now()],
            )?;
            for run in runs.iter().take(if changed == 1 { runs.len() } else { 0 }) {
                transaction.execute(
                    "INSERT OR REPLACE INTO runs (start_id, run_id, scenario_id, scenario_name) VALUES (?1, ?2, ?3, ?4)",
                    params![start.0, signed(run.run_id), run.scenario_id.map(signed), run.scenario_name],
                )?;
            }
            transaction.commit()?;
            Ok(changed)
        })()
        .map_err(|e| self.failure(e))?;
        self.expect_one(changed, start)
    }

    /// The start surely did not come about.
    ///
    /// # Errors
    /// [`LedgerError::State`] when the start is not `sent`, [`LedgerError::Sqlite`].
    pub fn failed(&self, start: StartId, error: &str) -> Result<(), LedgerError> {
        self.change(start, StartState::Sent, StartState::Failed, Some(error))
    }

    /// Nobody knows whether the start came about.
    ///
    /// # Errors
    /// [`LedgerError::State`] when the start is not `sent`, [`LedgerError::Sqlite`].
    pub fn lost(&self, start: StartId, error: &str) -> Result<(), LedgerError> {
        self.change(start, StartState::Sent, StartState::Lost, Some(error))
    }

    /// Ties a recorded call to its run. A call tied again has its row replaced.
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`].
    pub fn tie_call(&self, ids: &CallIds, folder: &Path) -> Result<(), LedgerError> {
        let row = params![ids.call_id, ids.run_id, ids.result_id, ids.scenario_id, ids.scenario, folder.to_string_lossy(), now()];
        self.lock()
            .execute(
                "INSERT OR REPLACE INTO calls (call_id, run_id, result_id, scenario_id, scenario, folder, tied_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                row,
            )
            .map_err(|e| self.failure(e))?;
        Ok(())
    }

    /// The run of this id, with its result's id, if a start has brought it. Ids of different APIs may be the same: the newest
    /// start's is meant.
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`].
    pub fn run(&self, run_id: u64) -> Result<Option<(LedgerRun, Option<u64>)>, LedgerError> {
        let sql = "SELECT run_id, scenario_id, scenario_name, result_id FROM runs JOIN starts ON starts.id = start_id
                   WHERE run_id = ?1 ORDER BY start_id DESC LIMIT 1";
        let read = |row: &Row<'_>| Ok((read_run(row)?, row.get::<_, Option<i64>>(3)?.map(unsigned)));
        self.lock().query_row(sql, [signed(run_id)], read).optional().map_err(|e| self.failure(e))
    }

    /// The newest `limit` starts, newest first.
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`].
    pub fn list(&self, limit: usize) -> Result<Vec<Start>, LedgerError> {
        let connection = self.lock();
        let read = || -> rusqlite::Result<Vec<Start>> {
            let mut statement = connection.prepare(
                "SELECT id, mode, name, base_url, body, state, result_id, error, intended_at FROM starts ORDER BY id DESC LIMIT ?1",
            )?;
            let mut starts =
                statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], read_start)?.collect::<Result<Vec<_>, _>>()?;
            for start in &mut starts {
                start.runs = runs_of(&connection, start.id)?;
            }
            Ok(starts)
        };
        read().map_err(|e| self.failure(e))
    }

    /// The recorded calls of a result, oldest first. Ids of different APIs may be the same: the sandbox counts from low ones.
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`].
    pub fn calls_of_result(&self, result_id: &str) -> Result<Vec<LedgerCall>, LedgerError> {
        let connection = self.lock();
        let read = || -> rusqlite::Result<Vec<LedgerCall>> {
            let sql =
                "SELECT call_id, run_id, result_id, scenario_id, scenario, folder FROM calls WHERE result_id = ?1 ORDER BY rowid";
            connection.prepare(sql)?.query_map([result_id], read_call)?.collect()
        };
        read().map_err(|e| self.failure(e))
    }

    /// The call of this id, if it was tied.
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`].
    pub fn call(&self, call_id: &str) -> Result<Option<LedgerCall>, LedgerError> {
        let sql = "SELECT call_id, run_id, result_id, scenario_id, scenario, folder FROM calls WHERE call_id = ?1";
        self.lock().query_row(sql, [call_id], read_call).optional().map_err(|e| self.failure(e))
    }

    fn change(&self, start: StartId, from: StartState, to: StartState, error: Option<&str>) -> Result<(), LedgerError> {
        let changed = self
            .lock()
            .execute(
                "UPDATE starts SET state = ?3, error = ?4, changed_at = ?5 WHERE id = ?1 AND state = ?2",
                params![start.0, from.as_str(), to.as_str(), error, now()],
            )
            .map_err(|e| self.failure(e))?;
        self.expect_one(changed, start)
    }

    fn expect_one(&self, changed: usize, start: StartId) -> Result<(), LedgerError> {
        if changed == 1 { Ok(()) } else { Err(LedgerError::State { path: self.path.clone(), start: start.0 }) }
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere leaves no half-written state: SQLite rolls an open transaction back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self, source: rusqlite::Error) -> LedgerError {
        LedgerError::Sqlite { path: self.path.clone(), source }
    }
}

/// Sets the connection up and makes the tables where there are none.
fn prepare(connection: &mut Connection, path: &Path) -> Result<(), LedgerError> {
    let failed = |source| LedgerError::Sqlite { path: path.to_owned(), source };
    let found = (|| {
        connection.busy_timeout(BUSY)?;
        set_wal(connection, BUSY)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        lay_out(connection, &[SCHEMA])
    })()
    .map_err(failed)?;
    if found > VERSION { Err(LedgerError::Newer { path: path.to_owned(), found }) } else { Ok(()) }
}

fn read_start(row: &Row<'_>) -> rusqlite::Result<Start> {
    let body: String = row.get(4)?;
    let state: String = row.get(5)?;
    Ok(Start {
        id: StartId(row.get(0)?),
        mode: row.get(1)?,
        name: row.get(2)?,
        base_url: row.get(3)?,
        body: serde_json::from_str(&body).unwrap_or(Value::String(body)),
        // The table's own check allows no other word.
        state: StartState::ALL.into_iter().find(|known| known.as_str() == state).unwrap_or(StartState::Lost),
        result_id: row.get::<_, Option<i64>>(6)?.map(unsigned),
        error: row.get(7)?,
        intended_at: row.get(8)?,
        runs: Vec::new(),
    })
}

fn runs_of(connection: &Connection, start: StartId) -> rusqlite::Result<Vec<LedgerRun>> {
    let mut statement =
        connection.prepare_cached("SELECT run_id, scenario_id, scenario_name FROM runs WHERE start_id = ?1 ORDER BY run_id")?;
    statement.query_map([start.0], read_run)?.collect()
}

fn read_run(row: &Row<'_>) -> rusqlite::Result<LedgerRun> {
    let scenario_id = row.get::<_, Option<i64>>(1)?.map(unsigned);
    Ok(LedgerRun { run_id: unsigned(row.get(0)?), scenario_id, scenario_name: row.get(2)? })
}

fn read_call(row: &Row<'_>) -> rusqlite::Result<LedgerCall> {
    let ids = CallIds {
        call_id: row.get(0)?,
        run_id: row.get(1)?,
        result_id: row.get(2)?,
        scenario_id: row.get(3)?,
        scenario: row.get(4)?,
    };
    Ok(LedgerCall { ids, folder: PathBuf::from(row.get::<_, String>(5)?) })
}

fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// SQLite's integers are signed: the bits are kept.
const fn signed(id: u64) -> i64 {
    id as i64
}

const fn unsigned(id: i64) -> u64 {
    id as u64
}
