//! `trunkline demo`.

mod room;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use self::room::DemoRoom;
use super::agent::{answer_calls, shipped_lines};
use super::doors::chirp_door;
use super::io::{runtime, say};
use super::outcome::{Format, conclude};
use super::run::{Plan, Sandboxed, WayIn, Where, carry_out, room_recorder};
use super::settings::{out_folder, prepare, suite};
use crate::call::Limits;
use crate::caller::speech::SpeechStore;
use crate::cekura::Mode;
use crate::cekura::payload::{RunOptions, Selection};
use crate::config::Config;
use crate::error::{Exit, Failure};
use crate::report::Thresholds;
use crate::sandbox::{ApiLimits, MetricThresholds};
use crate::serve::Desk;
use crate::transport::chirp::{self, ChirpDoor};
use crate::transport::web_socket::Door;
use crate::transport::{ConnectOptions, livekit};

/// The whole way on this machine alone: a sandbox, a door in front of a voice agent, four runs with their recordings
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  trunkline demo --out demo-runs
  trunkline demo livekit

`livekit` goes through real rooms: the agent stands behind an agent worker, and each run is recorded from within its room. The
server is that of LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET where they are set, else a `livekit-server` that is found on PATH:
it is started on loopback and ended with the demo.")]
pub struct Args {
    /// Which way the calls take
    #[arg(value_enum, default_value = "chirp")]
    way: Way,
    /// Folder for report.json, junit.xml and one folder a call
    #[arg(long, value_name = "DIR", default_value = "trunkline-demo")]
    out: PathBuf,
    /// What is printed on stdout
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Which way the demo's calls take to the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Way {
    /// A CHIRP door in front of the agent
    Chirp,
    /// LiveKit rooms, with an agent worker in front of the agent
    Livekit,
}

impl Way {
    const fn mode(self) -> Mode {
        match self {
            Self::Chirp => Mode::Chirp,
            Self::Livekit => Mode::LivekitV2,
        }
    }
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
        let to = to.parse().map_err(Failure::infrastructure)?;
        let desk = Desk { agent: to, connect: ConnectOptions::default(), out: Some(out.clone()), limits: Limits::default() };
        let report = match args.way {
            Way::Chirp => {
                let mut plan = plan(args.way, Map::new(), &chirp::CAPABILITY, out.clone()).await?;
                plan.desk = Some((WayIn::Chirp(chirp_door(&config)?), desk));
                carry_out(plan).await?
            }
            Way::Livekit => {
                let room = DemoRoom::open(&out).await?;
                // The rooms are recorded from within, not once more at the worker.
                let serving = room.answer(Desk { out: None, ..desk }).await?;
                let mut plan = plan(args.way, room.payload(), &livekit::CAPABILITY, out.clone()).await?;
                plan.rooms = Some(room_recorder(room.server().clone(), &plan.body, &out));
                if let Where::Sandbox(sandboxed) = &mut plan.place {
                    sandboxed.livekit = Some(room.server().clone());
                }
                let report = carry_out(plan).await?;
                serving.end().await;
                room.close().await?;
                report
            }
        };
        answering.abort();
        conclude(&report, &out, args.format)
    })
}

/// Four runs of the demo's suite in a sandbox; `more` goes into the body of their start.
async fn plan(way: Way, more: Map<String, Value>, wire: &crate::transport::Capability, out: PathBuf) -> Result<Plan, Failure> {
    let suite = suite(None)?;
    let speech = SpeechStore::new(None, &SpeechStore::default_cache());
    prepare(&suite.scenarios, None, &speech, wire, None).await?;
    let options = RunOptions {
        agent_id: Some(1),
        selection: Some(Selection::Ids(suite.scenarios.iter().map(|scenario| scenario.number).collect())),
        name: suite.name.clone(),
        more,
        ..RunOptions::default()
    };
    let mode = way.mode();
    let body = options.build(mode).map_err(|misfits| super::payload::misfit_failure("the demo's payload", &misfits))?;
    let sandboxed = Sandboxed {
        suite,
        speech,
        beside: PathBuf::new(),
        personalities: None,
        metrics: MetricThresholds::default(),
        limits: ApiLimits::default(),
        livekit: None,
        pipecat_url: None,
        pipecat: ConnectOptions::default(),
        records: false,
    };
    Ok(Plan {
        mode,
        body,
        place: Where::Sandbox(Box::new(sandboxed)),
        waits: true,
        rooms: None,
        desk: None,
        door_is_set: false,
        out,
        thresholds: Thresholds::default(),
        fail_under: 1.0,
        every: Duration::from_millis(500),
        longest: Duration::from_secs(120),
    })
}
