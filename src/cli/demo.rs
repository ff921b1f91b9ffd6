//! `trunkline demo`.

use std::path::PathBuf;
use std::time::Duration;

use super::agent::{answer_calls, shipped_lines};
use super::io::{runtime, say};
use super::outcome::{Format, conclude};
use super::run::{Plan, Sandboxed, WayIn, Where, carry_out};
use super::settings::{chirp_door, out_folder, prepare, suite};
use crate::call::Limits;
use crate::caller::speech::SpeechStore;
use crate::cekura::Mode;
use crate::cekura::payload::{RunOptions, Selection};
use crate::config::Config;
use crate::error::{Exit, Failure};
use crate::report::Thresholds;
use crate::sandbox::{ApiLimits, MetricThresholds};
use crate::serve::Desk;
use crate::transport::ConnectOptions;
use crate::transport::chirp::{CAPABILITY, ChirpDoor};
use crate::transport::web_socket::Door;

/// The whole way on this machine alone: a sandbox, a door in front of a voice agent, four runs with their recordings
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  trunkline demo --out demo-runs")]
pub struct Args {
    /// Folder for report.json, junit.xml and one folder a call
    #[arg(long, value_name = "DIR", default_value = "trunkline-demo")]
    out: PathBuf,
    /// What is printed on stdout
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let config = Config::default();
    let out = out_folder(Some(&args.out), &config)?;
    runtime()?.block_on(async {
        let agent = Door::open(ChirpDoor::at(([127, 0, 0, 1], 0).into())).await.map_err(Failure::infrastructure)?;
        let to = format!("chirp://{}/", agent.address());
        say(&format!("scripted agent {to}"));
        let answering = tokio::spawn(answer_calls(agent, Some(shipped_lines().await?), std::future::pending()));
        let suite = suite(None)?;
        let store = SpeechStore::new(None, &SpeechStore::default_cache());
        prepare(&suite.scenarios, None, &store, &CAPABILITY, None).await?;
        let options = RunOptions {
            agent_id: Some(1),
            selection: Some(Selection::Ids(suite.scenarios.iter().map(|scenario| scenario.number).collect())),
            name: suite.name.clone(),
            ..RunOptions::default()
        };
        let body = options.build(Mode::Chirp).map_err(|misfits| super::payload::misfit_failure("the demo's payload", &misfits))?;
        let to = to.parse().map_err(Failure::infrastructure)?;
        let connect = ConnectOptions::default();
        let plan = Plan {
            mode: Mode::Chirp,
            body,
            place: Where::Sandbox(Box::new(Sandboxed {
                suite,
                speech: store,
                beside: PathBuf::new(),
                personalities: None,
                metrics: MetricThresholds::default(),
                limits: ApiLimits::default(),
                livekit: None,
            })),
            waits: true,
            rooms: None,
            desk: Some((
                WayIn::Chirp(chirp_door(&config)?),
                Desk { agent: to, connect, out: Some(out.clone()), limits: Limits::default() },
            )),
            door_is_set: false,
            out: out.clone(),
            thresholds: Thresholds::default(),
            fail_under: 1.0,
            every: Duration::from_millis(500),
            longest: Duration::from_secs(120),
        };
        let report = carry_out(plan).await?;
        answering.abort();
        conclude(&report, &out, args.format)
    })
}
