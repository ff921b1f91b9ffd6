//! The program as its users run it: commands, payloads, runs and the sandbox.

#[path = "../common/mod.rs"]
mod common;

mod ci_recipes;
mod command_line;
mod guide_spellings;
mod kill_and_recover;
mod payloads;
mod sandbox_api;
mod sandbox_run;
