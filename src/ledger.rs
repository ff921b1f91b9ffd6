//! SQLite: what was triggered, which runs, where the recordings are.
