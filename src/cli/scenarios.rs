//! `trunkline scenarios`: starts, in the spelling of Cekura's own guide.

use std::path::PathBuf;

use clap::{ArgMatches, Args as _, FromArgMatches, Subcommand};
use serde_json::{Value, json};

use super::io::{result, runtime, say};
use super::listing::{json_of, print_one};
use super::outcome::Format;
use super::payload::{Preparation, Source, checked};
use super::run::not_started;
use super::settings::open_ledger;
use crate::cekura::payload::read_strictly;
use crate::cekura::{Client, Lookup, Mode, ResultState, Started, start_once};
use crate::error::{Exit, Failure};

/// Starts runs as Cekura's guide spells it: `run-text`, `run-chirp` and so on print the start's answer as JSON
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  CEKURA_API_KEY=… trunkline scenarios run-text --agent-id 123 --scenario-ids 1,2,3 | jq .result_id"
)]
pub struct Args {
    #[command(subcommand)]
    start: Start,
}

/// The commands, and after which flags their example goes.
const COMMANDS: [(&str, &[&str], Mode, &str); 15] = [
    ("run-voice", &[], Mode::Voice, "--agent-id 123 --scenario-ids 1,2,3"),
    ("run-text", &[], Mode::Text, "--agent-id 123 --scenario-ids 1,2,3"),
    ("run-chirp", &[], Mode::Chirp, "--agent-id 123 --scenario-ids 1,2,3"),
    ("run-websocket", &["run-websockets"], Mode::Websocket, "--from-file run.json"),
    ("run-livekit", &[], Mode::Livekit, "--from-file run.json"),
    ("run-livekit-v2", &[], Mode::LivekitV2, "--from-file run.json"),
    ("run-livekit-chat", &[], Mode::LivekitChat, "--from-file run.json"),
    ("run-pipecat", &[], Mode::Pipecat, "--from-file run.json"),
    ("run-pipecat-v2", &[], Mode::PipecatV2, "--from-file run.json"),
    ("run-sip", &[], Mode::Sip, "--agent-id 123 --scenario-ids 1,2,3"),
    ("run-vapi", &["run-vapi-webrtc"], Mode::VapiWebrtc, "--agent-id 123 --scenario-ids 1,2,3"),
    ("run-retell", &["run-retell-webrtc"], Mode::RetellWebrtc, "--agent-id 123 --scenario-ids 1,2,3"),
    ("run-elevenlabs", &[], Mode::Elevenlabs, "--agent-id 123 --scenario-ids 1,2,3"),
    ("run-api-chat", &[], Mode::ApiChat, "--agent-id 123 --scenario-ids 1,2,3"),
    ("run-spec", &["run-json"], Mode::Spec, "--suite suite.json --agent-id 123 --channel chirp"),
];

/// A start in one of the modes.
#[derive(Debug)]
struct Start {
    mode: Mode,
    args: Box<StartArgs>,
}

#[derive(Debug, clap::Args)]
struct StartArgs {
    /// The test suite that run-spec runs; - reads stdin
    #[arg(long, value_name = "FILE")]
    suite: Option<PathBuf>,
    /// What is printed on stdout
    #[arg(long, value_enum, default_value = "json")]
    format: Format,
    /// The payload as JSON, in place of --from-file; one with secrets belongs into a file, for `ps` shows flags
    #[arg(long, value_name = "JSON", conflicts_with = "from_file")]
    json: Option<String>,
    /// Values for a scenario's variables: the API's start takes none
    #[arg(long, value_name = "JSON", hide = true)]
    dynamic_variables: Option<String>,
    #[command(flatten)]
    source: Source,
}

impl FromArgMatches for Start {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let chosen = matches.subcommand().and_then(|(name, matches)| {
            let mode = COMMANDS.iter().find(|(known, ..)| *known == name)?.2;
            Some((mode, matches))
        });
        let (mode, matches) = chosen.ok_or_else(|| clap::Error::new(clap::error::ErrorKind::MissingSubcommand))?;
        Ok(Self { mode, args: Box::new(StartArgs::from_arg_matches(matches)?) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Subcommand for Start {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        COMMANDS.iter().fold(
            command.subcommand_required(true).arg_required_else_help(true),
            |command, (name, aliases, mode, flags)| {
                // The flags come first: with them come their own descriptions.
                let start = StartArgs::augment_args(clap::Command::new(*name))
                    .aliases(aliases.iter().copied())
                    .about(format!("Starts runs by {} and prints the answer with its result_id and run_ids", mode.endpoint()))
                    .after_help(format!(
                        "Example:\n  trunkline scenarios {name} {flags}\n\nThe start is sent once and never again by itself; \
                     `trunkline runs recover` finds one whose answer never came."
                    ));
                command.subcommand(start)
            },
        )
    }

    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        COMMANDS.iter().any(|(known, aliases, ..)| *known == name || aliases.contains(&name))
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let Start { mode, args } = &args.start;
    let body = body(*mode, args)?;
    let client = Client::from_env().map_err(Failure::usage)?;
    let preparation = args.source.preparation(*mode, &body)?;
    let start = async {
        let ledger = open_ledger()?;
        start_once(&client, &ledger, *mode, body, Lookup::default()).await.map_err(not_started)
    };
    let started = runtime()?.block_on(Preparation::around(preparation, false, start))?;
    if let Some(error) = &started.ledger_error {
        say(&format!("the ledger does not have it: {error}"));
    }
    let answer = answer(&started);
    match (args.format, ResultState::read(answer.clone())) {
        (Format::Table, Ok(state)) => print_one(&state, Format::Table),
        _ => result(&json_of(&answer)),
    }
    Ok(Exit::Passed)
}

fn body(mode: Mode, args: &StartArgs) -> Result<Value, Failure> {
    if args.dynamic_variables.is_some() {
        return Err(Failure::usage("--dynamic-variables: the API's start request has no field for them")
            .hint("put the values into a test profile at Cekura and name it with --test-profile-ids"));
    }
    if mode != Mode::Spec && args.suite.is_some() {
        return Err(Failure::usage(format!("--suite belongs to run-spec: {mode} runs scenarios that Cekura has")));
    }
    let Some(json) = &args.json else { return args.source.body(mode, args.suite.as_deref()) };
    if args.suite.is_some() || args.source.options.given() {
        return Err(Failure::usage("the payload comes from --json or from flags, not both"));
    }
    let body = read_strictly(json).map_err(|error| Failure::usage(format!("--json is not JSON: {error}")))?;
    checked(mode, &body, "--json")?;
    Ok(body)
}

/// The API's answer, with the ids by the names that Cekura's guide reads them by.
fn answer(started: &Started) -> Value {
    let mut answer = started.answer.clone();
    let runs: Vec<u64> = started.runs.iter().map(|run| run.id).collect();
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("result_id".to_owned(), started.result_id.into());
        answer.insert("run_ids".to_owned(), json!(runs));
    }
    answer
}
