//! Reports: JSON, JUnit and a terminal table.
