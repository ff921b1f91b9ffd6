//! The program as its users run it: commands, the CHIRP door and the sandbox.

#[path = "../common/mod.rs"]
mod common;

mod chirp_peers;
mod ci_recipes;
mod command_line;
mod guide_spellings;
mod kill_and_recover;
mod load;
mod sandbox_api;
mod sandbox_run;
