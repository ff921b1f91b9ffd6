//! SQLite: what was triggered, which runs, where the recordings are. Written so that a crash at any moment leaves a trace of
//! what may cost money: an intent without a reply.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::Utc;
use rusqlite::{Connection, params};
use serde_json::Value;

use crate::call::CallIds;
use crate::cekura::ResultState;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS starts (
        id INTEGER PRIMARY KEY, mode TEXT NOT NULL, name TEXT NOT NULL UNIQUE, body TEXT NOT NULL,
        intended_at TEXT NOT NULL, state TEXT NOT NULL, result_id TEXT, answered_at TEXT, problem TEXT
    );
    CREATE TABLE IF NOT EXISTS runs (
        run_id TEXT NOT NULL, start INTEGER NOT NULL REFERENCES starts(id), scenario TEXT, PRIMARY KEY (start, run_id)
    );
    CREATE TABLE IF NOT EXISTS calls (
        call_id TEXT PRIMARY KEY, run_id TEXT, result_id TEXT, folder TEXT, noted_at TEXT NOT NULL
    );";

/// The ledger cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the ledger {}: {problem}", path.display())]
pub struct LedgerError {
    path: PathBuf,
    problem: String,
}

/// The ledger.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    connection: Mutex<Connection>,
}

/// A start as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub id: i64,
    /// The mode.
    pub mode: String,
    /// The result's unique name.
    pub name: String,
    /// `intended` (sent or about to be, not answered), `replied`, `failed` (nothing was started), `lost` (nobody knows).
    pub state: String,
    /// The result, when it is known.
    pub result_id: Option<String>,
    /// What went wrong.
    pub problem: Option<String>,
}

impl Ledger {
    /// Opens the ledger at `path`, and makes it with its folder when it is not there.
    ///
    /// # Errors
    /// [`LedgerError`], naming the file.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let fail = |problem: String| LedgerError { path: path.to_owned(), problem };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| fail(error.to_string()))?;
        }
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(Duration::from_secs(10))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch(SCHEMA)?;
            Ok(connection)
        };
        let connection = open().map_err(|error| fail(error.to_string()))?;
        Ok(Self { path: path.to_owned(), connection: Mutex::new(connection) })
    }

    /// Notes that a start is about to be sent. Gives its number.
    ///
    /// # Errors
    /// [`LedgerError`]: then nothing may be sent.
    pub fn intend(&self, mode: &str, name: &str, body: &Value) -> Result<i64, LedgerError> {
        let connection = self.connection();
        let sql = "INSERT INTO starts (mode, name, body, intended_at, state) VALUES (?1, ?2, ?3, ?4, 'intended')";
        self.check(connection.execute(sql, params![mode, name, body.to_string(), Utc::now().to_rfc3339()]))?;
        Ok(connection.last_insert_rowid())
    }

    /// Notes the reply: the result and its runs.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn replied(&self, entry: i64, result: &ResultState) -> Result<(), LedgerError> {
        let mut connection = self.connection();
        let write = |connection: &mut Connection| -> rusqlite::Result<()> {
            let transaction = connection.transaction()?;
            let sql = "UPDATE starts SET state = 'replied', result_id = ?2, answered_at = ?3 WHERE id = ?1";
            transaction.execute(sql, params![entry, plain(&result.id), Utc::now().to_rfc3339()])?;
            for run in &result.runs {
                let sql = "INSERT OR IGNORE INTO runs (run_id, start, scenario) VALUES (?1, ?2, ?3)";
                transaction.execute(sql, params![run.id_text(), entry, run.scenario_name])?;
            }
            transaction.commit()
        };
        self.check(write(&mut connection))
    }

    /// Notes that nothing was started.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn failed(&self, entry: i64, problem: &str) -> Result<(), LedgerError> {
        self.close(entry, "failed", problem)
    }

    /// Notes that nobody knows whether it was started.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn lost(&self, entry: i64, problem: &str) -> Result<(), LedgerError> {
        self.close(entry, "lost", problem)
    }

    /// Notes a call, its run and where its recording is.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn tie_call(&self, ids: &CallIds, folder: Option<&Path>) -> Result<(), LedgerError> {
        let folder = folder.map(|folder| folder.display().to_string());
        let sql = "INSERT OR REPLACE INTO calls (call_id, run_id, result_id, folder, noted_at) VALUES (?1, ?2, ?3, ?4, ?5)";
        let values = params![ids.call_id, ids.run_id, ids.result_id, folder, Utc::now().to_rfc3339()];
        self.check(self.connection().execute(sql, values)).map(drop)
    }

    /// All starts, oldest first.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn entries(&self) -> Result<Vec<Entry>, LedgerError> {
        let connection = self.connection();
        let read = || -> rusqlite::Result<Vec<Entry>> {
            let sql = "SELECT id, mode, name, state, result_id, problem FROM starts ORDER BY id";
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([], |row| {
                Ok(Entry {
                    id: row.get(0)?,
                    mode: row.get(1)?,
                    name: row.get(2)?,
                    state: row.get(3)?,
                    result_id: row.get(4)?,
                    problem: row.get(5)?,
                })
            })?;
            rows.collect()
        };
        self.check(read())
    }

    fn close(&self, entry: i64, state: &str, problem: &str) -> Result<(), LedgerError> {
        let sql = "UPDATE starts SET state = ?2, problem = ?3, answered_at = ?4 WHERE id = ?1";
        let values = params![entry, state, problem, Utc::now().to_rfc3339()];
        self.check(self.connection().execute(sql, values)).map(drop)
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check<T>(&self, result: rusqlite::Result<T>) -> Result<T, LedgerError> {
        result.map_err(|error| LedgerError { path: self.path.clone(), problem: error.to_string() })
    }
}

fn plain(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}
