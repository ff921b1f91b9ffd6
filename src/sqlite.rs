//! What the ledger and the sandbox's memory share: a SQLite file with a versioned layout.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

/// Brings a file's layout up to date: step `n` (from 0) makes version `n + 1` of the one before it, the first of an empty file.
/// Tells the version that was found; a file that is newer than all steps is left alone.
pub(crate) fn lay_out(connection: &mut Connection, steps: &[&str]) -> rusqlite::Result<i64> {
    let version_of = |connection: &Connection| connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
    // A file that has its tables is opened without a wait for whoever writes to it.
    let found = version_of(connection)?;
    if found >= steps.len() as i64 {
        return Ok(found);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = version_of(&transaction)?;
    for (version, step) in (1..).zip(steps).filter(|(version, _)| *version > found) {
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", version)?;
    }
    transaction.commit()?;
    Ok(found)
}

/// Turns the write-ahead log on. For this SQLite does not wait for other processes by itself, so it is tried for `patience`.
pub(crate) fn set_wal(connection: &Connection, patience: Duration) -> rusqlite::Result<()> {
    let end = Instant::now() + patience;
    loop {
        match connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0)) {
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other.map(|_| ()),
        }
    }
}
