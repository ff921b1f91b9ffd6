//! `trunkline payload`.

mod options;
mod prepare;

use std::borrow::Cow;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use url::Url;

use super::io::{result, runtime, say};
use super::listing::json_of;
use super::outcome::Format;
use crate::cekura::payload::{Misfit, check, detect, estimate_runs, fix, holds_secret, read_strictly};
use crate::cekura::{Client, Mode};
use crate::error::{Exit, Failure};
use crate::files::write_whole;
pub(super) use options::{Options, Source};
pub(super) use prepare::Preparation;

/// Builds and checks the body of a run's start request
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Examples:
  trunkline payload chirp --agent-id 1 --scenario-ids 1,2 --websocket-url wss://agent.example.com/chirp > run.json
  trunkline payload livekit_v2 --agent-id 1 --scenario-ids 1,2 --agent-name my-agent > run.json
  trunkline payload livekit_chat --prepare --scenario-ids 1,2 --agent-name my-agent --output run.json
  trunkline payload pipecat --scenario-ids 1,2 --start http://127.0.0.1:7860/start --output run.json
  trunkline payload spec --suite suite.json --agent-id 1 --channel chirp > run.json
  trunkline payload check run.json

With --prepare the rooms of livekit and livekit_chat are made, all of them or none, and the agent is sent into each, before the
payload is given: it can be sent as it is. The agent then waits in its room. In livekit_chat it must not greet before its caller has
come (LiveKit Agents: `await ctx.wait_for_participant()`), for nobody reads what it writes before.")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

/// What is to be done.
enum Work<'a> {
    Build(Mode, &'a BuildArgs),
    Check(&'a CheckArgs),
    SpecSchema(Option<&'a str>),
}

macro_rules! commands {
    ($($variant:ident $name:literal $alias:literal $doc:literal $example:literal;)*) => {
        #[derive(Debug, clap::Subcommand)]
        enum Command {
            $(
                #[doc = $doc]
                #[command(name = $name, alias = $alias)]
                #[command(after_help = concat!("Example:\n  trunkline payload ", $name, " ", $example, " > run.json"))]
                $variant(Box<BuildArgs>),
            )*
            /// Checks a body: every misfit with its JSON path and what would be right
            #[command(after_help = "Examples:\n  trunkline payload check run.json\n  trunkline payload check --fix livekit_v2 run.json")]
            Check(CheckArgs),
            /// The JSON Schema that a suite must fit, as the API has it
            #[command(after_help = "Example:\n  trunkline payload spec-schema > suite.schema.json")]
            SpecSchema {
                /// The schema's version [default: the API's own]
                #[arg(long, value_name = "VERSION")]
                version: Option<String>,
            },
        }

        impl Command {
            fn work(&self) -> Work<'_> {
                match self {
                    $(Self::$variant(args) => Work::Build(Mode::$variant, args),)*
                    Self::Check(args) => Work::Check(args),
                    Self::SpecSchema { version } => Work::SpecSchema(version.as_deref()),
                }
            }
        }
    };
}

commands! {
    Voice "voice" "call" "Builds the body of run_scenarios: telephone calls" "--agent-id 1 --scenario-ids 1,2";
    Text "text" "chat" "Builds the body of run_scenarios_text: text, over a WebSocket of yours" "--agent-id 1 --scenario-ids 1,2 --websocket-url wss://agent.example.com/";
    Chirp "chirp" "raw" "Builds the body of run_scenarios_chirp: raw audio over a WebSocket of yours" "--agent-id 1 --scenario-ids 1,2";
    Websocket "websocket" "websockets" "Builds the body of run_scenarios_with_websockets: text, with an address for each entry" "--agent-id 1 --scenario-ids 1,2 --websocket-url wss://agent.example.com/";
    Livekit "livekit" "livekit-v1" "Builds the body of run_scenarios_livekit: LiveKit rooms of yours; makes their tokens from LIVEKIT_API_KEY and LIVEKIT_API_SECRET" "--scenario-ids 1,2 --room-url wss://livekit.example.com --room test";
    LivekitV2 "livekit_v2" "livekit-v2" "Builds the body of run_scenarios_livekit_v2: Cekura makes the rooms and dispatches your agent by name" "--agent-id 1 --scenario-ids 1,2 --agent-name my-agent";
    LivekitChat "livekit_chat" "livekit-chat" "Builds the body of run_scenarios_livekit_chat: text in LiveKit rooms of yours" "--scenario-ids 1,2 --room-url wss://livekit.example.com --room test";
    Pipecat "pipecat" "pipecat-v1" "Builds the body of run_scenarios_pipecat: Pipecat rooms of yours" "--scenario-ids 1,2 --room-url https://rooms.example.com/a";
    PipecatV2 "pipecat_v2" "pipecat-v2" "Builds the body of run_scenarios_pipecat_v2: Cekura starts your Pipecat agent" "--agent-id 1 --scenario-ids 1,2 --agent-name my-agent";
    Sip "sip" "siptrunk" "Builds the body of run_scenarios_sip" "--agent-id 1 --scenario-ids 1,2 --sip-endpoint sip:agent@sip.example.com";
    VapiWebrtc "vapi_webrtc" "vapi-webrtc" "Builds the body of run_scenarios_vapi_webrtc" "--agent-id 1 --scenario-ids 1,2 --provider-agent-id abc";
    RetellWebrtc "retell_webrtc" "retell-webrtc" "Builds the body of run_scenarios_retell_webrtc" "--agent-id 1 --scenario-ids 1,2 --provider-agent-id abc";
    Elevenlabs "elevenlabs" "eleven-labs" "Builds the body of run_scenarios_elevenlabs" "--agent-id 1 --scenario-ids 1,2 --provider-agent-id abc";
    ApiChat "api_chat" "api-chat" "Builds the body of run_scenarios_api_chat: text that you fetch and answer over REST" "--agent-id 1 --scenario-ids 1,2 --chat-timeout-s 300";
    Spec "spec" "json" "Builds the body of run_scenarios_json: a test suite of yours, over one of several channels" "--suite suite.json --agent-id 1 --channel chirp";
}

#[derive(Debug, clap::Args)]
struct BuildArgs {
    /// The test suite that spec mode runs; - reads stdin
    #[arg(long, value_name = "FILE")]
    suite: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    /// The /start of a Pipecat runner that has Daily: it is asked for a bot in a Daily room of its own for each scenario (pipecat).
    /// --agent-config is what the bots are told; the key of Pipecat Cloud is read from PIPECAT_API_KEY
    #[arg(long, value_name = "URL")]
    start: Option<Url>,
    /// Writes to this file instead of stdout; one with secrets is readable by its owner alone
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// The run mode, where the file does not tell it, and the file; - reads stdin
    #[arg(num_args = 1..=2, value_names = ["MODE", "FILE"], required = true)]
    words: Vec<String>,
    /// Rewrites the file where what is meant is clear: another mode's or another tool's spelling
    #[arg(long)]
    fix: bool,
    /// What is printed on stdout
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    match args.command.work() {
        Work::Build(mode, args) => run_build(mode, args),
        Work::Check(args) => run_check(args),
        Work::SpecSchema(version) => runtime()?.block_on(async {
            let client = Client::from_env_without_key().map_err(Failure::usage)?;
            result(&json_of(&client.spec_schema(version).await.map_err(Failure::infrastructure)?));
            Ok(Exit::Passed)
        }),
    }
}

fn run_build(mode: Mode, args: &BuildArgs) -> Result<Exit, Failure> {
    if mode != Mode::Spec && args.suite.is_some() {
        return Err(Failure::usage(format!("--suite belongs to spec: {mode} runs scenarios that Cekura has")));
    }
    let options = match &args.start {
        Some(start) => Cow::Owned(runtime()?.block_on(args.options.started_in_daily(mode, start))?),
        None => Cow::Borrowed(&args.options),
    };
    let body = options.build(mode, args.suite.as_deref())?;
    let given = async {
        match &args.output {
            Some(file) => write(file, &body),
            None => {
                print(&body);
                Ok(())
            }
        }
    };
    let preparation = options.preparation(mode, &body)?;
    runtime()?.block_on(Preparation::around(preparation, false, given))?;
    tell_runs(&body);
    Ok(Exit::Passed)
}

fn print(body: &Value) {
    result(&json_of(body));
    if holds_secret(body) {
        say("it holds secrets: with --output FILE the file is readable by its owner alone");
    }
}

fn run_check(args: &CheckArgs) -> Result<Exit, Failure> {
    let (mode, file) = match &args.words[..] {
        [mode, file] => (Some(mode.parse::<Mode>().map_err(Failure::usage)?), PathBuf::from(file)),
        [file] => (None, PathBuf::from(file)),
        _ => return Err(Failure::usage("give the file, or the mode and the file")),
    };
    if args.fix && file == Path::new("-") {
        return Err(Failure::usage("--fix rewrites a file: stdin is none"));
    }
    let mut body = read_json(&file)?;
    let mode = match mode {
        Some(mode) => mode,
        None => detect(&body).map_err(|modes| {
            let modes: Vec<_> = modes.into_iter().map(Mode::name).collect();
            Failure::usage(format!("{}: its keys fit several modes: {}", file.display(), modes.join(", ")))
                .hint(format!("name the mode: trunkline payload check MODE {}", file.display()))
        })?,
    };
    if args.fix {
        let fixed = fix(mode, &body);
        if fixed != body {
            write(&file, &fixed)?;
            say(&format!("{}: rewritten for {mode}", file.display()));
            body = fixed;
        }
    }
    if args.format == Format::Json {
        let misfits = check(mode, &body);
        result(&json_of(&json!({"mode": mode.name(), "fits": misfits.is_empty(), "misfits": misfits})));
    }
    checked(mode, &body, &file.display().to_string())?;
    if args.format == Format::Table {
        result(&format!("{}: fits {mode}", file.display()));
    }
    tell_runs(&body);
    Ok(Exit::Passed)
}

/// Writes a body whole or not at all; one with secrets is readable by its owner alone, and who may read a file that is there
/// already stays so.
fn write(file: &Path, body: &Value) -> Result<(), Failure> {
    let before = std::fs::metadata(file).map_or(0o644, |there| there.permissions().mode() & 0o777);
    let mode = if holds_secret(body) { 0o600 } else { before };
    write_whole(file, mode, |file| writeln!(file, "{}", json_of(body)))
        .map_err(|error| Failure::usage(format!("cannot write {}: {error}", file.display())))
}

/// Reads a JSON file; `-` is stdin.
pub(super) fn read_json(file: &Path) -> Result<Value, Failure> {
    let shown = file.display();
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|error| Failure::usage(format!("cannot read {shown}: {error}")))?;
    read_strictly(&text).map_err(|error| Failure::usage(format!("{shown} is not JSON: {error}")))
}

/// Refuses a body that does not fit its mode.
pub(super) fn checked(mode: Mode, body: &Value, what: &str) -> Result<(), Failure> {
    let misfits = check(mode, body);
    if misfits.is_empty() {
        return Ok(());
    }
    let failure = misfit_failure(what, &misfits);
    let suite = mode == Mode::Spec && body.get("spec").is_none() && body.get("version").is_some();
    Err(if suite { failure.hint("this looks like a test suite: give it with --suite") } else { failure })
}

/// Every misfit, a line each.
pub(super) fn misfit_failure(what: &str, misfits: &[Misfit]) -> Failure {
    let lines: Vec<_> = misfits.iter().map(|misfit| format!("\n  {misfit}")).collect();
    Failure::usage(format!("{what} does not fit:{}", lines.concat()))
}

fn tell_runs(body: &Value) {
    match estimate_runs(body) {
        Some(runs) => say(&format!("this starts {runs} run{}", if runs == 1 { "" } else { "s" })),
        None => say("how many runs this starts only Cekura knows"),
    }
}
