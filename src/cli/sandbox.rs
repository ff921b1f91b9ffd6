//! `trunkline sandbox`.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::io::{runtime, say, until_interrupted};
use super::settings::{ConfigArgs, PersonalityArgs, Playable, Ready, SpeechArgs, prepare, suite};
use crate::caller::Patience;
use crate::caller::suite::{Scenario, Suite};
use crate::cekura::{ENV_KEY, Key};
use crate::error::{Exit, Failure};
use crate::sandbox::{Sandbox, SandboxConfig, SandboxError, SandboxScenario, ScriptedCarrier, TestProfile};
use crate::transport::chirp::CAPABILITY;

/// A local stand-in for Cekura's API: starts, statuses and results as there, and really calls the agent
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  CEKURA_API_KEY=any trunkline sandbox --listen 127.0.0.1:8700 --data sandbox --suite suite.json

Then, with CEKURA_API_URL=http://127.0.0.1:8700, `trunkline run` and Cekura's own SDK and CLI talk to it.")]
pub struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8700")]
    listen: SocketAddr,
    /// Folder for what it remembers
    #[arg(long, value_name = "DIR", default_value = "trunkline-sandbox")]
    data: PathBuf,
    /// Test suite: its scenarios have the ids 1, 2, 3, … [default: the shipped demo]
    #[arg(long, value_name = "FILE")]
    suite: Option<PathBuf>,
    /// The agent's own address, for starts without websocket_url
    #[arg(long, value_name = "URL")]
    agent_websocket_url: Option<String>,
    /// Does not tell run, result and scenario ids in the caller's upgrade request
    #[arg(long)]
    no_id_headers: bool,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    speech: SpeechArgs,
    #[command(flatten)]
    personalities: PersonalityArgs,
}

/// Runs the command until it is interrupted.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let config = args.config.load()?;
    let personalities = args.personalities.load(&config)?;
    let store = args.speech.store(&config)?;
    let suite = suite(args.suite.as_deref())?;
    let key = std::env::var(ENV_KEY).ok().map(|key| Key::new(&key)).transpose().map_err(Failure::usage)?;
    runtime()?.block_on(async {
        let ready = prepare(&suite.scenarios, args.suite.as_deref(), &store, &CAPABILITY, personalities.as_ref()).await?;
        let keyed = if key.is_some() { "with the key of CEKURA_API_KEY" } else { "with any key" };
        let config = SandboxConfig {
            listen: args.listen,
            data: args.data.clone(),
            key,
            scenarios: sandbox_scenarios(&suite),
            agent_websocket_url: args.agent_websocket_url.clone(),
        };
        let carrier = carrier(&ready, Patience::default(), !args.no_id_headers);
        let sandbox = Sandbox::open(config, carrier).await.map_err(closed)?;
        say(&format!("sandbox {} {keyed}, {} scenarios", sandbox.url(), suite.scenarios.len()));
        until_interrupted().await;
        Ok(Exit::Passed)
    })
}

/// A sandbox that does not open: exit code 2 when it was asked for what it does not do, else 3.
pub(super) fn closed(error: SandboxError) -> Failure {
    match error {
        SandboxError::Unguarded(_) => Failure::usage(error),
        other => Failure::infrastructure(other),
    }
}

/// A carrier that plays these scenarios.
pub(super) fn carrier(ready: &[Ready], patience: Patience, tells_ids: bool) -> Arc<ScriptedCarrier> {
    let scripts: HashMap<_, _> =
        ready.iter().filter_map(|ready| Some((ready.scenario.number, ready.script.voice()?.clone()))).collect();
    let cast =
        |ready: &Ready, (personality, cast): &(u64, Playable)| Some(((ready.scenario.number, *personality), cast.voice()?.clone()));
    let casts = ready.iter().flat_map(|ready| ready.casts.iter().filter_map(move |entry| cast(ready, entry))).collect();
    Arc::new(ScriptedCarrier::new(scripts, patience, tells_ids).with_personalities(casts))
}

/// A suite's scenarios as the sandbox has them.
pub(super) fn sandbox_scenarios(suite: &Suite) -> Vec<SandboxScenario> {
    let profile = |scenario: &Scenario| {
        let variables = scenario.caller_variables.iter().chain(&scenario.agent_variables);
        let information: BTreeMap<_, _> = variables.map(|(key, value)| (key.clone(), value.clone().into())).collect();
        (!information.is_empty()).then_some(TestProfile { id: None, name: None, information })
    };
    let scenario = |scenario: &Scenario| SandboxScenario {
        id: scenario.number,
        key: scenario.key.clone(),
        name: scenario.name.clone(),
        expected_outcome: scenario.expected_outcome.clone(),
        tags: scenario.tags.clone(),
        max_duration: scenario.max_duration,
        test_profile: profile(scenario),
    };
    suite.scenarios.iter().map(scenario).collect()
}
