//! `trunkline run`.

mod calls;
mod session;

use std::path::PathBuf;

use super::call::parse_rate;
use super::io::runtime;
use super::outcome::{Format, conclude};
use super::payload::{misfit_failure, read_json};
use super::settings::{ConfigArgs, PersonalityArgs, SpeechArgs, agent, chirp_door, out_folder, prepare, seconds, suite};
use crate::audio::Rate;
use crate::call::Limits;
use crate::cekura::payload::check;
use crate::cekura::{Client, Mode};
use crate::error::{Exit, Failure};
use crate::report::Thresholds;
use crate::serve::Desk;
use crate::transport::WayOut;
use crate::transport::chirp::CAPABILITY;
pub(super) use session::{Plan, Sandboxed, Where, carry_out};

/// Starts the runs of a payload once, follows them to their end and reports them
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  trunkline run chirp --from-file run.json --sandbox --to chirp://127.0.0.1:9000/
  CEKURA_API_KEY=… trunkline run chirp --from-file run.json --wait --format json --out runs
  CEKURA_API_KEY=… trunkline run livekit_v2 --from-file run.json --wait

The start is sent once and never again by itself. Without --wait (and without --sandbox) the command ends when the runs
are started; a `trunkline serve` then takes their calls. The calls of chirp runs come through a door here and are recorded;
of the other modes the report has what the API says.")]
pub struct Args {
    /// The run mode
    mode: Mode,
    /// The payload; - reads stdin
    #[arg(long, value_name = "FILE")]
    from_file: PathBuf,
    /// Runs against a sandbox inside this command instead of Cekura
    #[arg(long)]
    sandbox: bool,
    /// The sandbox's test suite [default: the shipped demo]
    #[arg(long, value_name = "FILE", requires = "sandbox")]
    suite: Option<PathBuf>,
    /// Follows the result to its end, with the door open in front of the agent
    #[arg(long)]
    wait: bool,
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
    /// The agent: chirp://HOST:PORT/PATH, chirps://… or process:COMMAND [default: `to` of the configuration]
    #[arg(long, env = "TRUNKLINE_AGENT")]
    to: Option<WayOut>,
    /// Rate of a process, in Hz
    #[arg(long, value_name = "HZ", value_parser = parse_rate)]
    rate: Option<Rate>,
    /// Seconds between two looks at the result [default: 10, with --sandbox 0.5]
    #[arg(long, value_name = "S")]
    every_s: Option<f64>,
    /// Longest time for all runs, in seconds
    #[arg(long, value_name = "S", default_value_t = 3600.0)]
    timeout_s: f64,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    speech: SpeechArgs,
    #[command(flatten)]
    personalities: PersonalityArgs,
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share: Option<f64> = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("{text:?} is no share between 0 and 1"))
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let config = args.config.load()?;
    let personalities = args.personalities.load(&config)?;
    let body = read_json(&args.from_file)?;
    let misfits = check(args.mode, &body);
    if !misfits.is_empty() {
        return Err(misfit_failure(&args.from_file.display().to_string(), &misfits));
    }
    let out = out_folder(args.out.as_ref(), &config)?;
    let waits = args.wait || args.sandbox;
    if args.sandbox && args.mode != Mode::Chirp {
        return Err(Failure::usage(format!("the sandbox carries out chirp runs, not {} ones yet", args.mode)));
    }
    // The door that this version has is CHIRP's; the other modes' calls do not come through here.
    let desk = if waits && args.mode == Mode::Chirp {
        let (agent, connect) = agent(args.to.as_ref(), args.rate, &config)?;
        Some(Desk { agent, connect, out: Some(out.clone()), limits: Limits::default() })
    } else {
        None
    };
    runtime()?.block_on(async {
        let place = if args.sandbox {
            let suite = suite(args.suite.as_deref())?;
            let store = args.speech.store(&config)?;
            let ready = prepare(&suite.scenarios, args.suite.as_deref(), &store, &CAPABILITY, personalities.as_ref()).await?;
            Where::Sandbox(Sandboxed { suite, ready })
        } else {
            Where::Cekura(Client::from_env().map_err(Failure::usage)?)
        };
        let plan = Plan {
            mode: args.mode,
            body,
            place,
            waits,
            desk,
            door: chirp_door(&config)?,
            door_is_set: config.doors.chirp.listen.is_some(),
            out: out.clone(),
            thresholds: Thresholds { max_latency_ms: args.max_latency_ms },
            fail_under: args.fail_under,
            every: seconds("--every-s", args.every_s.unwrap_or(if args.sandbox { 0.5 } else { 10.0 }))?,
            longest: seconds("--timeout-s", args.timeout_s)?,
        };
        let report = carry_out(plan).await?;
        conclude(&report, &out, args.format)
    })
}
