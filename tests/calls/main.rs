//! Calls: the cores on virtual time, CHIRP and child processes, recordings and what is measured of them.

#[path = "../common/mod.rs"]
mod common;

mod bridge;
mod chat;
mod chirp;
mod impaired_line;
mod load;
mod measuring;
mod process_agent;
mod recording;
