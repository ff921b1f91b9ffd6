//! What the ledger and the sandbox's memory share: a SQLite file with a versioned layout.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

/// Makes the tables where there are none, and tells the layout's version.
pub(crate) fn lay_out(connection: &mut Connection, schema: &str, version: i64) -> rusqlite::Result<i64> {
    let version_of = |connection: &Connection| connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
    // A file that has its tables is opened without a wait for whoever writes to it.
    let found = version_of(connection)?;
    if found != 0 {
        return Ok(found);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = version_of(&transaction)?;
    if found == 0 {
        transaction.execute_batch(schema)?;
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
