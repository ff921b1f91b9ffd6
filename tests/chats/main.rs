//! Conversations in writing.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/writing.rs"]
mod writing;

mod agents;
mod door;
mod functions;
mod runs;
mod sandbox;
