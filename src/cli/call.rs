//! `trunkline call`.

use std::path::PathBuf;
use std::time::Duration;

use chrono::Utc;

use super::io::{runtime, until_interrupted};
use super::outcome::{Format, conclude, report_call};
use super::progress::Progress;
use super::settings::{ConfigArgs, PersonalityArgs, Ready, SpeechArgs, agent, out_folder, prepare, seconds, shown, suite};
use crate::audio::Rate;
use crate::call::{CallControl, CallIds, LoggedEvent};
use crate::conversation::{Conversation, FinishedCall, Recording, new_call_id, party_info, unreachable_agent};
use crate::error::{Exit, Failure};
use crate::report::{Report, Thresholds};
use crate::transport::{ConnectOptions, WayOut};

/// Calls an agent with a scripted caller; no API between
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  trunkline call --to chirp://127.0.0.1:9000/ --suite suite.json
  trunkline call --to 'process:python3 agent.py' --rate 24000 --suite suite.json --scenario book --format json
  trunkline call --to 'livekit-console:python -m livekit.agents console agent.py' --suite suite.json")]
pub struct Args {
    /// The agent: chirp://HOST:PORT/PATH, chirps://…, process:COMMAND, livekit-console:COMMAND, …
    /// [default: `to` of the configuration]
    #[arg(long, env = "TRUNKLINE_AGENT")]
    to: Option<WayOut>,
    /// Rate of a process, in Hz
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
    /// Seconds that the caller waits for an agent that says nothing [default: 15, in a chat 60]
    #[arg(long, value_name = "S")]
    patience_s: Option<f64>,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    speech: SpeechArgs,
    #[command(flatten)]
    personalities: PersonalityArgs,
}

/// A rate as a flag.
pub(super) fn parse_rate(text: &str) -> Result<Rate, String> {
    let hz: u32 = text.parse().map_err(|_| format!("{text:?} is no rate in Hz"))?;
    Rate::try_from(hz).map_err(|error| error.to_string())
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let config = args.config.load()?;
    let personalities = args.personalities.load(&config)?;
    let (to, connect) = agent(args.to.as_ref(), args.rate, &config)?;
    let out = out_folder(args.out.as_ref(), &config)?;
    let patience = args.patience_s.map(|patience| seconds("--patience-s", patience)).transpose()?;
    let suite = suite(args.suite.as_deref())?;
    let mut chosen = Vec::new();
    for key in &args.scenario {
        let known = || suite.scenarios.iter().map(|s| s.key.as_deref().unwrap_or(&s.name)).collect::<Vec<_>>().join(", ");
        let scenario = suite.find(key).ok_or_else(|| Failure::usage(format!("no scenario {key:?}; there are: {}", known())))?;
        chosen.push(scenario.clone());
    }
    if chosen.is_empty() {
        chosen.clone_from(&suite.scenarios);
    }
    runtime()?.block_on(async {
        let store = args.speech.store(&config)?;
        let ready = prepare(&chosen, args.suite.as_deref(), &store, &to.capability(), personalities.as_ref()).await?;
        let caller = Caller { to, connect, out: out.clone(), patience, control: CallControl::default() };
        let watch = caller.control.clone();
        tokio::spawn(async move {
            until_interrupted().await;
            watch.cancel();
        });
        let thresholds = Thresholds { max_latency_ms: args.max_latency_ms };
        let progress = Progress::new();
        let mut runs = Vec::new();
        'all: for scenario in &ready {
            for _ in 0..scenario.scenario.frequency {
                let finished = caller.call(scenario, &progress).await;
                runs.push(report_call(&finished, &scenario.scenario.name, &out, thresholds));
                if finished.outcome.end.reason == crate::call::EndReason::Cancelled {
                    break 'all;
                }
            }
        }
        progress.done();
        conclude(&Report::new("call", suite.name.clone(), "completed", 1.0, runs), &out, args.format)
    })
}

/// Places one call after the other.
struct Caller {
    to: WayOut,
    connect: ConnectOptions,
    out: PathBuf,
    patience: Option<Duration>,
    control: CallControl,
}

impl Caller {
    async fn call(&self, ready: &Ready, progress: &Progress) -> FinishedCall {
        let scenario = &ready.scenario;
        let key = scenario.key.clone().unwrap_or_else(|| scenario.number.to_string());
        let ids =
            CallIds { call_id: new_call_id(), scenario_id: Some(key), scenario: Some(scenario.name.clone()), ..CallIds::default() };
        progress.line(&format!("calling {} for {:?}", self.to, scenario.name));
        let began = Utc::now();
        let connect = ConnectOptions { agent_speaks_first: ready.script.agent_opens(), ..self.connect.clone() };
        let connected = tokio::select! {
            connected = self.to.connect(&connect, &ids) => connected,
            () = self.control.cancelled() => return FinishedCall::cancelled(ids, began),
        };
        let agent = match connected {
            Ok(agent) => agent,
            Err(error) => return unreachable_agent(ids, began, &error),
        };
        let (live, name) = (progress.clone(), scenario.name.clone());
        let observer = move |event: &LoggedEvent| {
            if let Some(line) = shown(event) {
                live.now(format!("{name}: {line}"));
            }
        };
        let caller = ready.script.caller(self.patience);
        let recording = Recording::begin(Some(&self.out), &ids, party_info(&*caller), party_info(&*agent)).await;
        let conversation = Conversation { caller, agent, ids, began, recording };
        conversation.carry_out(ready.limits, self.control.clone(), Box::new(observer)).await
    }
}
