//! `trunkline run`.

mod calls;
mod carry_out;
mod dry_run;
mod report;
mod rooms;

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::io::runtime;
use super::outcome::{Format, conclude};
use super::payload::{Preparation, Source};
use super::results::{RescoreArgs, rescore};
use super::sandbox::limits;
use super::settings::{
    ConfigArgs, PersonalityArgs, SpeechArgs, agent, connect_options, folder_of, livekit_server, out_folder, prepare, seconds, suite,
};
use super::values::{parse_rate, parse_share};
use crate::audio::Rate;
use crate::call::Limits;
use crate::cekura::{Client, Mode};
use crate::config::Config;
use crate::error::{Exit, Failure};
use crate::report::Thresholds;
use crate::sandbox::Sandbox;
use crate::serve::Desk;
use crate::transport::livekit::recorder::RoomRecorder;
use crate::transport::{Capability, WayOut, chirp, livekit, pipecat};
pub(super) use calls::WayIn;
pub(super) use carry_out::{Plan, Sandboxed, Where, carry_out, not_started};
pub(super) use rooms::recorder as room_recorder;

/// Starts the runs of a payload once, follows them to their end and reports them
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Examples:
  trunkline run chirp --agent-id 1 --scenario-ids 1,2 --sandbox --to chirp://127.0.0.1:9000/
  trunkline run pipecat_v2 --scenario-ids 1,2 --sandbox --to pipecat+http://127.0.0.1:7860/start
  CEKURA_API_KEY=… trunkline run chirp --from-file run.json --wait --format json --out runs
  CEKURA_API_KEY=… trunkline run livekit_v2 --agent-id 1 --scenario-ids 1,2 --agent-name my-agent --wait
  CEKURA_API_KEY=… trunkline run spec suite.json --agent-id 1 --channel chirp --dry-run

The payload comes from a file (--from-file) or from flags, the same as of `trunkline payload MODE`; both together are refused.
The start is sent once and never again by itself. Without --wait (and without --sandbox) the command ends when the runs
are started; a `trunkline serve` then takes their calls. The calls of chirp runs come through a CHIRP door here, those of text
and websocket runs through a chat door, and the chats of api_chat runs are fetched from the API; all of them are recorded. Of
the other modes the report has what the API says.")]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The run mode
    #[arg(required = true)]
    mode: Option<Mode>,
    /// The test suite that spec mode runs: the same as --suite
    #[arg(value_name = "SUITE", conflicts_with = "suite")]
    spec: Option<PathBuf>,
    /// The test suite: the one that spec mode runs; with --sandbox the one that it plays [default there: the shipped demo]
    #[arg(long, value_name = "FILE")]
    suite: Option<PathBuf>,
    #[command(flatten)]
    source: Source,
    #[command(flatten, next_help_heading = "Run")]
    running: Running,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    speech: SpeechArgs,
    #[command(flatten)]
    personalities: PersonalityArgs,
}

/// How the runs are carried out and reported.
#[derive(Debug, clap::Args)]
struct Running {
    /// Asks the API what a suite would run and cost, and starts nothing (spec mode)
    #[arg(long, conflicts_with_all = ["validate", "wait", "sandbox"])]
    dry_run: bool,
    /// Asks the API whether a suite is right, whatever the account's balance, and starts nothing (spec mode)
    #[arg(long, conflicts_with_all = ["wait", "sandbox"])]
    validate: bool,
    /// Runs against a sandbox inside this command instead of Cekura
    #[arg(long)]
    sandbox: bool,
    /// Follows the result to its end, with the door open in front of the agent
    #[arg(long)]
    wait: bool,
    /// Records the rooms of the runs from within (livekit_v2), at the server of LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET
    #[arg(long)]
    record: bool,
    /// What is printed on stdout
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Folder for report.json, junit.xml and one folder a call
    #[arg(long, value_name = "DIR", env = "TRUNKLINE_OUT")]
    out: Option<PathBuf>,
    /// Share of the runs, 0 to 1, that must pass
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = parse_share)]
    fail_under: f64,
    /// A run fails when an answer takes longer
    #[arg(long, value_name = "N")]
    max_latency_ms: Option<f64>,
    /// The agent: chirp://HOST:PORT/PATH, process:COMMAND, livekit://ROOM?agent=NAME, livekit-console:COMMAND, pipecat+http://HOST:PORT/start,
    /// pipecat-ws://HOST:PORT/PATH, twilio+ws://HOST:PORT/PATH (or another provider's), chat://HOST:PORT/PATH, chat-process:COMMAND or
    /// openai:URL?model=NAME [default: `to` of the configuration]
    #[arg(long, env = "TRUNKLINE_AGENT")]
    to: Option<WayOut>,
    /// Rate of a process, or at which a Pipecat bot takes audio, in Hz
    #[arg(long, value_name = "HZ", value_parser = parse_rate)]
    rate: Option<Rate>,
    /// Seconds between two looks at the result [default: 10, with --sandbox 0.5]
    #[arg(long, value_name = "S")]
    every_s: Option<f64>,
    /// Longest time for all runs, in seconds
    #[arg(long, value_name = "S", default_value_t = 3600.0)]
    timeout_s: f64,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Scores a result's runs anew by these metrics; nothing is called (`results rescore`)
    #[command(after_help = "Example:\n  trunkline run rerun 987 --metric-ids 55,56")]
    Rerun(RescoreArgs),
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    match (&args.command, args.mode) {
        (Some(Command::Rerun(args)), _) => run_rerun(args),
        (None, Some(mode)) => run_mode(args, mode),
        (None, None) => Err(Failure::usage("name the run mode, for example: trunkline run chirp")),
    }
}

/// Cekura's guide has `run rerun` for scoring anew, while its API's `rerun` executes again: which of the two is meant must be
/// plain.
fn run_rerun(args: &RescoreArgs) -> Result<Exit, Failure> {
    if args.metric_ids.is_empty() {
        let hint = format!(
            "`trunkline run rerun {id} --metric-ids 55,56` scores its runs anew; `trunkline results rerun {id}` calls again, which costs",
            id = args.id
        );
        return Err(Failure::usage("`run rerun` needs --metric-ids").hint(hint));
    }
    let client = Client::from_env().map_err(Failure::usage)?;
    runtime()?.block_on(rescore(&client, args))
}

fn run_mode(args: &Args, mode: Mode) -> Result<Exit, Failure> {
    let suite = args.suite.as_deref().or(args.spec.as_deref());
    check_flags(args, mode)?;
    let body = args.source.body(mode, suite)?;
    if args.running.dry_run || args.running.validate {
        let client = Client::from_env().map_err(Failure::usage)?;
        return runtime()?.block_on(dry_run::ask(&client, &body, args.running.validate, args.running.format));
    }
    run_body(args, mode, body, suite)
}

/// Flags that only one mode has, or only a sandbox.
fn check_flags(args: &Args, mode: Mode) -> Result<(), Failure> {
    let running = &args.running;
    check_sandbox(running, mode)?;
    if mode == Mode::Spec {
        return Ok(());
    }
    if running.dry_run || running.validate {
        return Err(Failure::usage(format!("--dry-run and --validate belong to spec: the API has neither for {mode}")));
    }
    if args.spec.is_some() || (args.suite.is_some() && !running.sandbox) {
        return Err(Failure::usage(format!("a suite belongs to spec, or to --sandbox: {mode} runs scenarios that Cekura has")));
    }
    Ok(())
}

/// A mode that no sandbox carries out is refused before anything is asked of its payload.
fn check_sandbox(running: &Running, mode: Mode) -> Result<(), Failure> {
    if !running.sandbox || Sandbox::carries_out(mode) {
        return Ok(());
    }
    let known: Vec<_> = Mode::ALL.into_iter().filter(|mode| Sandbox::carries_out(*mode)).map(Mode::name).collect();
    Err(Failure::usage(format!("the sandbox carries out {} runs, not {mode} ones", known.join(", "))))
}

fn run_body(args: &Args, mode: Mode, body: Value, suite_file: Option<&Path>) -> Result<Exit, Failure> {
    let (config, running) = (args.config.load()?, &args.running);
    let personalities = args.personalities.load(&config)?;
    let out = out_folder(running.out.as_ref(), &config)?;
    let waits = running.wait || running.sandbox;
    let calls = mode_of_calls(mode, &body);
    check_sandbox(running, calls)?;
    let preparation = args.source.preparation(mode, &body)?;
    let way_in = WayIn::of(calls, &config)?;
    let door_is_set = way_in.as_ref().is_some_and(|way_in| way_in.is_set(&config));
    let rooms = if running.record { Some(record_rooms(calls, waits, &body, &out)?) } else { None };
    let desk = match way_in.filter(|_| waits) {
        Some(way_in) => {
            let (agent, connect) = agent(running.to.as_ref(), running.rate, &config)?;
            way_in.check(&agent)?;
            Some((way_in, Desk { agent, connect, out: Some(out.clone()), limits: Limits::default() }))
        }
        None => None,
    };
    let bot = if running.sandbox && calls == Mode::PipecatV2 { Some(pipecat_bot(running, &config)?) } else { None };
    runtime()?.block_on(async {
        let place = if running.sandbox {
            let suite = suite(suite_file)?;
            let store = args.speech.store(&config)?;
            // All that is said is spoken before anything starts, and what cannot be played is told of.
            let wire = wire_of(calls, desk.as_ref().map(|(_, desk)| &desk.agent));
            prepare(&suite.scenarios, suite_file, &store, &wire, personalities.as_ref()).await?;
            Where::Sandbox(Box::new(Sandboxed {
                suite,
                speech: store,
                beside: folder_of(suite_file),
                personalities,
                metrics: config.sandbox.metrics,
                limits: limits(&config),
                livekit: livekit_server()?,
                pipecat_url: bot,
                pipecat: connect_options(running.rate, &config)?,
                records: matches!(calls, Mode::Pipecat | Mode::PipecatV2),
            }))
        } else {
            Where::Cekura(Client::from_env().map_err(Failure::usage)?)
        };
        let plan = Plan {
            mode,
            body,
            place,
            waits,
            rooms,
            desk,
            door_is_set,
            out: out.clone(),
            thresholds: Thresholds { max_latency_ms: running.max_latency_ms },
            fail_under: running.fail_under,
            every: seconds("--every-s", running.every_s.unwrap_or(if running.sandbox { 0.5 } else { 10.0 }))?,
            longest: seconds("--timeout-s", running.timeout_s)?,
        };
        let report = Preparation::around(preparation, waits, carry_out(plan)).await?;
        conclude(&report, &out, running.format)
    })
}

/// Where a sandbox finds the bot of its Pipecat runs.
fn pipecat_bot(running: &Running, config: &Config) -> Result<WayOut, Failure> {
    let (to, _) = agent(running.to.as_ref(), running.rate, config)?;
    if to.is_pipecat() {
        return Ok(to);
    }
    Err(Failure::usage(format!("pipecat_v2 calls a Pipecat bot, and {to} is none")).hint("--to pipecat+http://HOST:PORT/start"))
}

/// The wire between the sandbox's callers and the agent.
fn wire_of(calls: Mode, agent: Option<&WayOut>) -> Capability {
    match agent {
        Some(agent) if agent.is_text_only() => agent.capability(),
        _ if matches!(calls, Mode::Livekit | Mode::LivekitV2) => livekit::CAPABILITY,
        _ if matches!(calls, Mode::Pipecat | Mode::PipecatV2) => pipecat::web_socket::CAPABILITY,
        _ if calls == Mode::LivekitChat => livekit::chat::CAPABILITY,
        _ => chirp::CAPABILITY,
    }
}

/// What records the rooms of a run that is followed to its end.
fn record_rooms(calls: Mode, waits: bool, body: &Value, out: &Path) -> Result<RoomRecorder, Failure> {
    if calls != Mode::LivekitV2 {
        return Err(Failure::usage(format!(
            "--record belongs to livekit_v2: the calls of {calls} are recorded where they come in"
        )));
    }
    if !waits {
        return Err(Failure::usage("--record needs --wait: the rooms are recorded until the runs have ended"));
    }
    let server = livekit_server()?.ok_or_else(|| {
        Failure::usage("no LiveKit server to record at").hint("set LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET")
    })?;
    Ok(room_recorder(server, body, out))
}

/// The mode in which the calls are placed: a suite takes its channel's.
fn mode_of_calls(mode: Mode, body: &Value) -> Mode {
    let channel = || Mode::of_channel(body["channel"].as_str());
    if mode == Mode::Spec { channel().unwrap_or(mode) } else { mode }
}
