//! `trunkline measure`.

use crate::error::{Exit, Failure};

/// Recomputes a call's numbers from its folder alone.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args) -> Result<Exit, Failure> {
    Err(Failure::usage("being built"))
}
