//! Test sets and observed calls.

use std::path::Path;

use rusqlite::{OptionalExtension, params};
use serde_json::{Map, Value};

use super::{Store, Stored, now};

/// A call that was sent to be observed, as it is kept.
#[derive(Debug, Clone)]
pub(in crate::sandbox) struct CallLog {
    pub(in crate::sandbox) id: u64,
    pub(in crate::sandbox) call_id: String,
    pub(in crate::sandbox) fields: Map<String, Value>,
    pub(in crate::sandbox) recording: Option<String>,
    pub(in crate::sandbox) created_at: String,
    pub(in crate::sandbox) updated_at: String,
}

impl Store {
    /// Keeps a test set; tells its id and its time.
    pub(in crate::sandbox) fn add_test_set(&self, run: u64, name: &str, metrics: &Value) -> Stored<(u64, String)> {
        let at = now();
        let id = self.with(|connection| {
            connection.execute(
                "INSERT INTO test_sets (run_id, name, metrics, created_at) VALUES (?1, ?2, ?3, ?4)",
                params![run as i64, name, metrics.to_string(), at],
            )?;
            Ok(connection.last_insert_rowid() as u64)
        })?;
        Ok((id, at))
    }

    /// Keeps a call that is to be observed; the same call id again updates it.
    pub(in crate::sandbox) fn observe(
        &self,
        call_id: &str,
        fields: &Map<String, Value>,
        recording: Option<&Path>,
    ) -> Stored<CallLog> {
        let recording = recording.map(|path| path.to_string_lossy().into_owned());
        self.with(|connection| {
            connection.execute(
                "INSERT INTO call_logs (call_id, fields, recording, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?4)
                 ON CONFLICT (call_id) DO UPDATE SET fields = ?2, recording = coalesce(?3, recording), updated_at = ?4",
                params![call_id, Value::Object(fields.clone()).to_string(), recording, now()],
            )
        })?;
        let found = self.with(|connection| {
            let sql = "SELECT id, call_id, fields, recording, created_at, updated_at FROM call_logs WHERE call_id = ?1";
            let read = |row: &rusqlite::Row<'_>| {
                Ok(CallLog {
                    id: row.get::<_, i64>(0)? as u64,
                    call_id: row.get(1)?,
                    fields: serde_json::from_str(&row.get::<_, String>(2)?).unwrap_or_default(),
                    recording: row.get(3)?,
                    created_at: row.get(4)?,
                    updated_at: row.get(5)?,
                })
            };
            connection.query_row(sql, [call_id], read).optional()
        })?;
        found.ok_or_else(|| super::SandboxError::Store { path: self.path.clone(), source: rusqlite::Error::QueryReturnedNoRows })
    }
}
