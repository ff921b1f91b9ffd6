//! The command line: one file a command.

use clap::{Parser, Subcommand};

use crate::error::{Exit, Failure};

mod measure;
mod payload;

/// Puts any voice agent, on a laptop or behind a firewall, in front of Cekura's run modes, and tests it offline.
#[derive(Debug, Parser)]
#[command(name = "trunkline", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Measure(measure::Args),
    Payload(payload::Args),
}

impl Cli {
    /// Runs the command. Results go to stdout, everything else to stderr.
    ///
    /// # Errors
    /// A [`Failure`]: one line, a hint and an exit code.
    pub fn run(self) -> Result<Exit, Failure> {
        match self.command {
            Command::Measure(args) => measure::run(&args),
            Command::Payload(args) => payload::run(&args),
        }
    }
}
