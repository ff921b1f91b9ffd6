//! The command line: one file a command.

mod agent;
mod call;
mod demo;
mod doors;
mod history;
mod io;
mod listing;
mod measure;
mod observe;
mod outcome;
mod payload;
mod progress;
mod record;
mod results;
mod run;
mod runs;
mod sandbox;
mod scenarios;
mod serve;
mod settings;
mod test_sets;
mod values;
mod wait;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::error::{Exit, Failure};
use crate::transport::hide_address;

/// Puts any voice agent, on a laptop or behind a firewall, in front of Cekura's run modes, and tests it offline
#[derive(Debug, Parser)]
#[command(name = "trunkline", version, arg_required_else_help = true)]
#[command(
    after_help = "Example:\n  trunkline demo --out demo-runs\n\nExit codes: 0 passed; 1 a run failed or a threshold was missed; \
                        2 wrong usage or configuration; 3 the infrastructure failed or a run is void."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Tells more on stderr; RUST_LOG sets it finely
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Run(Box<run::Args>),
    Payload(payload::Args),
    Scenarios(scenarios::Args),
    Runs(runs::Args),
    Results(results::Args),
    TestSets(test_sets::Args),
    History(history::Args),
    Sandbox(sandbox::Args),
    Call(call::Args),
    Serve(serve::Args),
    Agent(agent::Args),
    Measure(measure::Args),
    Record(record::Args),
    Observe(observe::Args),
    /// Prints a shell's completions
    #[command(after_help = "Example:\n  trunkline completions bash > /etc/bash_completion.d/trunkline")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Cli {
    /// Reads the command line; ends the process where it is wrong, or asks for help. What may hold a secret is not repeated: an
    /// address, and the value of an environment variable.
    #[must_use]
    pub fn read() -> Self {
        let mut command = Self::command().mut_subcommands(|command| command.mut_args(|argument| argument.hide_env_values(true)));
        let read = command.try_get_matches_from_mut(std::env::args_os());
        let read = read.and_then(|mut found| Self::from_arg_matches_mut(&mut found).map_err(|error| error.format(&mut command)));
        read.unwrap_or_else(|error| without_addresses(error).exit())
    }

    /// Runs the command. Results go to stdout, everything else to stderr.
    ///
    /// # Errors
    /// A [`Failure`]: one line, a hint and an exit code.
    pub fn run(self) -> Result<Exit, Failure> {
        log_to_stderr(self.verbose);
        match self.command {
            Command::Demo(args) => demo::run(&args),
            Command::Run(args) => run::run(&args),
            Command::Payload(args) => payload::run(&args),
            Command::Scenarios(args) => scenarios::run(&args),
            Command::Runs(args) => runs::run(&args),
            Command::Results(args) => results::run(&args),
            Command::TestSets(args) => test_sets::run(&args),
            Command::History(args) => history::run(&args),
            Command::Sandbox(args) => sandbox::run(&args),
            Command::Call(args) => call::run(&args),
            Command::Serve(args) => serve::run(&args),
            Command::Agent(args) => agent::run(&args),
            Command::Measure(args) => measure::run(&args),
            Command::Record(args) => record::run(&args),
            Command::Observe(args) => observe::run(&args),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "trunkline", &mut script);
                io::result(&String::from_utf8_lossy(&script));
                Ok(Exit::Passed)
            }
        }
    }
}

/// The error, with the addresses that it repeats hidden.
fn without_addresses(mut error: clap::Error) -> clap::Error {
    let told: Vec<(ContextKind, String)> = error
        .context()
        .filter_map(|(kind, value)| match value {
            ContextValue::String(text) => Some((kind, hide_address(text).into_owned())),
            _ => None,
        })
        .collect();
    for (kind, text) in told {
        error.insert(kind, ContextValue::String(text));
    }
    error
}

fn log_to_stderr(verbose: u8) {
    let default = ["trunkline=warn", "trunkline=info", "trunkline=debug", "trunkline=trace,info"][usize::from(verbose.min(3))];
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| default.into());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let log = tracing_subscriber::registry().with(lines.with_filter(filter.and(filter_fn(holds_no_secret))));
    // A program that uses the library may have a log of its own.
    drop(log.try_init());
}

/// Other crates log whole requests with their credentials below `info` (tungstenite's upgrade request, reqwest's proxy): whatever
/// RUST_LOG says, these levels are Trunkline's own alone.
fn holds_no_secret(line: &Metadata<'_>) -> bool {
    let ours = line.target() == "trunkline" || line.target().starts_with("trunkline::");
    ours || *line.level() <= Level::INFO
}
