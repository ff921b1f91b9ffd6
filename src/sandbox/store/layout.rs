//! The tables, version by version.

/// Each step brings the layout to the next version. Ids of results and runs start far apart, so that code which mixes them up
/// finds nothing.
pub(super) const STEPS: &[&str] = &[
    "
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
",
    "
ALTER TABLE results ADD COLUMN mode TEXT NOT NULL DEFAULT 'chirp';
ALTER TABLE results ADD COLUMN request TEXT NOT NULL DEFAULT '{}';
ALTER TABLE runs ADD COLUMN recording TEXT;
ALTER TABLE runs ADD COLUMN outcome TEXT NOT NULL DEFAULT '{}';
ALTER TABLE runs ADD COLUMN metrics TEXT NOT NULL DEFAULT '[]';
ALTER TABLE runs ADD COLUMN judged TEXT;
CREATE TABLE test_sets (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id INTEGER NOT NULL REFERENCES runs (id),
  name TEXT NOT NULL,
  metrics TEXT NOT NULL,
  created_at TEXT NOT NULL
);
CREATE TABLE call_logs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  call_id TEXT NOT NULL UNIQUE,
  fields TEXT NOT NULL,
  recording TEXT,
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL
);
INSERT INTO sqlite_sequence (name, seq) VALUES ('test_sets', 3000), ('call_logs', 7000);
",
];
