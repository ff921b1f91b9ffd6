//! `trunkline payload`.

use crate::error::{Exit, Failure};

/// Builds and checks the body of a run's start request.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args) -> Result<Exit, Failure> {
    Err(Failure::usage("being built"))
}
