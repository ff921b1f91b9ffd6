//! `trunkline call`.

mod load;

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::Utc;

use self::load::{LoadArgs, Reporting, place};
use super::io::{runtime, until_interrupted};
use super::outcome::{Format, conclude, report_call};
use super::progress::Progress;
use super::settings::{ConfigArgs, PersonalityArgs, Ready, SpeechArgs, agent, out_folder, prepare, seconds, shown, suite};
use super::values::{parse_rate, parse_share};
use crate::audio::Rate;
use crate::call::{CallControl, CallIds, EndReason, LoggedEvent, Observer};
use crate::caller::suite::{Scenario, Suite};
use crate::conversation::{Conversation, FinishedCall, Recording, new_call_id, party_info, unreachable_agent};
use crate::error::{Exit, Failure};
use crate::report::{Load, Report, RunReport, Thresholds, Verdict};
use crate::transport::{ConnectOptions, SetUp, WayOut};

/// Calls an agent with a scripted caller; no API between
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  trunkline call --to chirp://127.0.0.1:9000/ --suite suite.json
  trunkline call --to 'process:python3 agent.py' --rate 24000 --suite suite.json --scenario book --format json
  trunkline call --to 'livekit-console:python -m livekit.agents console agent.py' --suite suite.json
  trunkline call --to 'livekit-chat://?agent=my-agent' --suite suite.json
  trunkline call --to chirp://127.0.0.1:9000/ --suite suite.json --calls 200 --at-once 20 --ramp 10 --record failed

With --calls or --at-once it puts a load on the agent. Each call is tried once: who is refused is not dialled again. The report
adds up set-up time, each of its stages and response latency (percentiles by nearest rank, so that each is a time that was
measured), failures by kind, and how loaded this machine was. A call in which this machine itself was late is void, not failed,
and its times are left out. Ctrl-C ends the calls that go on; what is done is reported.")]
pub struct Args {
    /// The agent: chirp://HOST:PORT/PATH, process:COMMAND, livekit://ROOM?agent=NAME, livekit-console:COMMAND, pipecat+http://HOST:PORT/start,
    /// pipecat-ws://HOST:PORT/PATH, twilio+ws://HOST:PORT/PATH (or another provider's), chat://HOST:PORT/PATH, chat-process:COMMAND or
    /// openai:URL?model=NAME [default: `to` of the configuration]
    #[arg(long, env = "TRUNKLINE_AGENT")]
    to: Option<WayOut>,
    /// Rate of a process, or at which a Pipecat bot takes audio, in Hz
    #[arg(long, value_name = "HZ", value_parser = parse_rate)]
    rate: Option<Rate>,
    /// Test suite with the scenarios [default: the shipped demo]
    #[arg(long, value_name = "FILE")]
    suite: Option<PathBuf>,
    /// Only this scenario: its key, name or number; may be given more than once
    #[arg(long, value_name = "KEY")]
    scenario: Vec<String>,
    /// Folder for report.json, junit.xml and one folder a call
    #[arg(long, value_name = "DIR", env = "TRUNKLINE_OUT")]
    out: Option<PathBuf>,
    /// What is printed on stdout
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// A run fails when an answer takes longer
    #[arg(long, value_name = "N")]
    max_latency_ms: Option<f64>,
    /// Share of the calls, 0 to 1, that must pass
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = parse_share)]
    fail_under: f64,
    /// Which calls' recordings are kept; the others are measured first
    #[arg(long, value_enum, value_name = "WHICH", default_value = "all")]
    record: Keep,
    /// Seconds that the caller waits for an agent that says nothing [default: 15, in a chat 60]
    #[arg(long, value_name = "S")]
    patience_s: Option<f64>,
    #[command(flatten, next_help_heading = "Load")]
    load: LoadArgs,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    speech: SpeechArgs,
    #[command(flatten)]
    personalities: PersonalityArgs,
}

/// Which recordings are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Keep {
    /// All of them
    All,
    /// Those of calls that did not pass
    Failed,
    /// None
    None,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let config = args.config.load()?;
    let personalities = args.personalities.load(&config)?;
    let (to, connect) = agent(args.to.as_ref(), args.rate, &config)?;
    let out = out_folder(args.out.as_ref(), &config)?;
    let patience = args.patience_s.map(|patience| seconds("--patience-s", patience)).transpose()?;
    let suite = suite(args.suite.as_deref())?;
    let chosen = chosen(&suite, &args.scenario)?;
    let frequencies = chosen.iter().map(|scenario| scenario.frequency as usize).sum();
    let load = args.load.shape(frequencies)?;
    runtime()?.block_on(async {
        let store = args.speech.store(&config)?;
        let ready = prepare(&chosen, args.suite.as_deref(), &store, &to.capability(), personalities.as_ref()).await?;
        let ready: Vec<_> =
            ready.iter().flat_map(|ready| std::iter::repeat_n(ready, ready.scenario.frequency as usize)).cloned().collect();
        // A load counts what the agent refuses; tried again, it would count for nothing.
        let connect = ConnectOptions { once: load.is_some(), ..connect };
        let caller = Caller { to, connect, out: out.clone(), patience, control: CallControl::default() };
        let watch = caller.control.clone();
        tokio::spawn(async move {
            until_interrupted().await;
            watch.cancel();
        });
        let thresholds = Thresholds { max_latency_ms: args.max_latency_ms };
        let reporting = Reporting { out: out.clone(), thresholds, keep: args.record };
        let report = match load {
            None => {
                let runs = one_by_one(&caller, &ready, &reporting).await;
                Report::new("call", suite.name.clone(), "completed", args.fail_under, runs)
            }
            Some(shape) => {
                let progress = if args.format == Format::Json { Progress::hidden() } else { Progress::new() };
                let (runs, load) = place(shape, caller, ready, &reporting, &progress).await;
                progress.done();
                report_load(suite.name.clone(), args.fail_under, runs, |runs| Load::of(load, runs))
            }
        };
        conclude(&report, &out, args.format)
    })
}

/// The scenarios with these keys, names or numbers; without any, all of them.
fn chosen(suite: &Suite, keys: &[String]) -> Result<Vec<Scenario>, Failure> {
    let mut chosen = Vec::new();
    for key in keys {
        let known = || suite.scenarios.iter().map(|s| s.key.as_deref().unwrap_or(&s.name)).collect::<Vec<_>>().join(", ");
        let scenario = suite.find(key).ok_or_else(|| Failure::usage(format!("no scenario {key:?}; there are: {}", known())))?;
        chosen.push(scenario.clone());
    }
    Ok(if chosen.is_empty() { suite.scenarios.clone() } else { chosen })
}

/// One call after the other, until they are all done or one is cancelled.
async fn one_by_one(caller: &Caller, ready: &[Ready], reporting: &Reporting) -> Vec<RunReport> {
    let progress = Progress::new();
    let mut runs = Vec::new();
    for ready in ready {
        let name = ready.scenario.name.clone();
        progress.line(&format!("calling {} for {name:?}", caller.to));
        let (live, told) = (progress.clone(), name.clone());
        let observer = move |event: &LoggedEvent| {
            if let Some(line) = shown(event) {
                live.now(format!("{told}: {line}"));
            }
        };
        let finished = caller.call(ready, Box::new(observer)).await;
        let mut run = report_call(&finished, &name, &reporting.out, reporting.thresholds);
        reporting.keep.apply(&mut run, &finished);
        runs.push(run);
        if finished.outcome.end.reason == EndReason::Cancelled {
            break;
        }
    }
    progress.done();
    runs
}

/// The report of a load. One that was interrupted before all its calls were placed has not passed.
fn report_load(name: Option<String>, fail_under: f64, runs: Vec<RunReport>, load: impl FnOnce(&[RunReport]) -> Load) -> Report {
    let load = load(&runs);
    let cut_short = load.placed < load.asked;
    let mut report = Report::new("call", name, if cut_short { "cancelled" } else { "completed" }, fail_under, runs);
    if cut_short && report.verdict == Verdict::Passed {
        report.verdict = Verdict::Void;
    }
    report.load = Some(load);
    report
}

impl Keep {
    /// Removes the recording of a call whose recording is not kept. Only a whole one, which was measured.
    fn apply(self, run: &mut RunReport, call: &FinishedCall) {
        let goes = match self {
            Self::All => false,
            Self::Failed => run.verdict == Verdict::Passed,
            Self::None => true,
        };
        let Some(folder) = call.folder.as_deref().filter(|_| goes && matches!(call.recording, Some(Ok(_)))) else { return };
        match std::fs::remove_dir_all(folder) {
            Ok(()) => run.recording = None,
            Err(error) => tracing::warn!("{} stays: {error}", Path::display(folder)),
        }
    }
}

/// The ids of a call of this scenario.
fn call_ids(ready: &Ready) -> CallIds {
    let scenario = &ready.scenario;
    let key = scenario.key.clone().unwrap_or_else(|| scenario.number.to_string());
    CallIds { call_id: new_call_id(), scenario_id: Some(key), scenario: Some(scenario.name.clone()), ..CallIds::default() }
}

/// Places calls.
struct Caller {
    to: WayOut,
    connect: ConnectOptions,
    out: PathBuf,
    patience: Option<Duration>,
    control: CallControl,
}

impl Caller {
    async fn call(&self, ready: &Ready, observer: Observer) -> FinishedCall {
        let (ids, began, mut set_up) = (call_ids(ready), Utc::now(), SetUp::default());
        let connect = ConnectOptions { agent_speaks_first: ready.script.agent_opens(), ..self.connect.clone() };
        let connected = tokio::select! {
            connected = self.to.connect(&connect, &ids, &mut set_up) => connected,
            () = self.control.cancelled() => return FinishedCall::cancelled(ids, began),
        };
        let agent = match connected {
            Ok(agent) => agent,
            Err(error) => return unreachable_agent(ids, began, &error, &set_up),
        };
        let caller = ready.script.caller(self.patience);
        let recording = Recording::begin(Some(&self.out), &ids, party_info(&*caller), party_info(&*agent), &set_up).await;
        let conversation = Conversation { caller, agent, ids, began, recording, set_up };
        conversation.carry_out(ready.limits, self.control.clone(), observer).await
    }
}
