//! `trunkline sandbox`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::Url;

use super::io::{runtime, say, until_interrupted};
use super::settings::{ConfigArgs, PersonalityArgs, SpeechArgs, connect_options, folder_of, livekit_server, suite};
use crate::caller::Patience;
use crate::caller::personality::Personalities;
use crate::caller::speech::SpeechStore;
use crate::cekura::{ENV_KEY, Key};
use crate::config::Config;
use crate::error::{Exit, Failure};
use crate::sandbox::{ApiLimits, ChatDesk, Project, Sandbox, SandboxConfig, SandboxError, ScriptedCarrier, WebhookConfig};
use crate::transport::{BadWayOut, WayOut};

/// A local stand-in for Cekura's API: starts, statuses and results as there, and really calls the agent
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  CEKURA_API_KEY=any trunkline sandbox --listen 127.0.0.1:8700 --data sandbox --suite suite.json
  trunkline sandbox --project project --lenient

Then, with CEKURA_API_URL=http://127.0.0.1:8700, `trunkline run` and Cekura's own SDK and CLI talk to it.
A project's folder holds suites/*.json and may hold agents.json and test_profiles.json. Webhooks go to `webhook_url` of
[sandbox] in trunkline.toml, or --webhook-url, with the secret of TRUNKLINE_WEBHOOK_SECRET.")]
pub struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8700")]
    listen: SocketAddr,
    /// Folder for what it remembers and records
    #[arg(long, value_name = "DIR", default_value = "trunkline-sandbox")]
    data: PathBuf,
    /// Test suite: its scenarios have the ids 1, 2, 3, … [default: the shipped demo]
    #[arg(long, value_name = "FILE")]
    suite: Option<PathBuf>,
    /// Folder with agents, suites and test profiles
    #[arg(long, value_name = "DIR", conflicts_with = "suite")]
    project: Option<PathBuf>,
    /// Where CHIRP runs dial an agent that has no address of its own
    #[arg(long, value_name = "URL")]
    agent_websocket_url: Option<String>,
    /// Where text runs dial an agent that has no address of its own
    #[arg(long, value_name = "URL")]
    agent_chat_url: Option<String>,
    /// The name by which LiveKit runs ask for an agent that has no name of its own; LIVEKIT_URL, LIVEKIT_API_KEY and
    /// LIVEKIT_API_SECRET name the server
    #[arg(long, value_name = "NAME")]
    agent_livekit_name: Option<String>,
    /// Where Pipecat runs find an agent that has no address of its own: pipecat+http://HOST:PORT/start, or a bot's pipecat-ws://…
    #[arg(long, value_name = "ADDRESS", value_parser = parse_pipecat)]
    agent_pipecat_url: Option<WayOut>,
    /// Takes shapes that Cekura's own package sends and its API refuses
    #[arg(long)]
    lenient: bool,
    /// Where webhooks go
    #[arg(long, value_name = "URL")]
    webhook_url: Option<Url>,
    /// Does not tell run, result and scenario ids in a CHIRP caller's upgrade request
    #[arg(long)]
    no_id_headers: bool,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    speech: SpeechArgs,
    #[command(flatten)]
    personalities: PersonalityArgs,
}

/// The address of a Pipecat bot or runner, as a flag.
fn parse_pipecat(text: &str) -> Result<WayOut, String> {
    let address: WayOut = text.parse().map_err(|error: BadWayOut| error.to_string())?;
    if address.is_pipecat() { Ok(address) } else { Err(format!("{address} is no address of a Pipecat bot")) }
}

/// Runs the command until it is interrupted.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let config = args.config.load()?;
    let personalities = args.personalities.load(&config)?.unwrap_or_default();
    let speech = args.speech.store(&config)?;
    let mut project = match &args.project {
        Some(folder) => Project::read(folder).map_err(Failure::usage)?,
        None => Project::of_suite(&suite(args.suite.as_deref())?),
    };
    project.set_default_addresses(
        args.agent_websocket_url.as_deref(),
        args.agent_chat_url.as_deref(),
        args.agent_livekit_name.as_deref(),
        args.agent_pipecat_url.as_ref(),
    );
    project.livekit = livekit_server()?;
    project.pipecat = connect_options(None, &config)?;
    project.personalities = personalities.clone();
    let beside = args.project.as_ref().map_or_else(|| folder_of(args.suite.as_deref()), |folder| folder.join("suites"));
    let key = from_environment(ENV_KEY)?.map(|key| Key::new(&key)).transpose().map_err(Failure::usage)?;
    let (scenarios, keyed) =
        (project.scenarios.len(), if key.is_some() { "with the key of CEKURA_API_KEY" } else { "with any key" });
    let sandbox = SandboxConfig {
        listen: args.listen,
        data: args.data.clone(),
        key,
        project,
        thresholds: config.sandbox.metrics,
        webhook: webhook(args, &config)?,
        lenient: args.lenient,
        limits: limits(&config),
        recordings: None,
    };
    runtime()?.block_on(async {
        let (carrier, chats) = carrier(speech, &beside, personalities, !args.no_id_headers);
        let sandbox = Sandbox::open(sandbox, carrier, chats).await.map_err(closed)?;
        say(&format!("sandbox {} {keyed}, {scenarios} scenarios", sandbox.url()));
        until_interrupted().await;
        Ok(Exit::Passed)
    })
}

fn webhook(args: &Args, config: &Config) -> Result<Option<WebhookConfig>, Failure> {
    let Some(url) = args.webhook_url.clone().or_else(|| config.sandbox.webhook_url.clone()) else { return Ok(None) };
    if !["http", "https"].contains(&url.scheme()) {
        return Err(Failure::usage(format!("webhooks go to an http:// or https:// address, not to {}://", url.scheme())));
    }
    let secret = match (from_environment("TRUNKLINE_WEBHOOK_SECRET")?, &config.sandbox.webhook_secret_file) {
        (Some(text), _) => Some(text),
        (None, Some(file)) => {
            let read = std::fs::read_to_string(file);
            Some(read.map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?)
        }
        (None, None) => None,
    };
    let secret = secret.map(|text| Key::new(&text)).transpose();
    let secret = secret.map_err(|_| Failure::usage("the webhooks' secret is empty, or cannot stand in an HTTP header"))?;
    Ok(Some(WebhookConfig { url, secret }))
}

/// A secret of the environment: one that cannot be read is not the same as none.
fn from_environment(name: &str) -> Result<Option<String>, Failure> {
    match std::env::var(name) {
        Ok(text) => Ok(Some(text)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(Failure::usage(format!("{name} is not Unicode"))),
    }
}

/// What a sandbox takes at most.
pub(super) fn limits(config: &Config) -> ApiLimits {
    let own = ApiLimits::default();
    ApiLimits {
        most_calls: config.sandbox.max_calls.unwrap_or(own.most_calls),
        most_recorded: config.sandbox.max_recorded_mb.map_or(own.most_recorded, |mb| mb.saturating_mul(1 << 20)),
        ..own
    }
}

/// A sandbox that does not open: exit code 2 when it was asked for what it does not do, else 3.
pub(super) fn closed(error: SandboxError) -> Failure {
    match error {
        SandboxError::Unguarded(_) => Failure::usage(error),
        other => Failure::infrastructure(other),
    }
}

/// A carrier that speaks with `speech` and plays recordings of the folder `beside`; and where its API chats are found.
pub(super) fn carrier(
    speech: SpeechStore,
    beside: &Path,
    personalities: Personalities,
    tells_ids: bool,
) -> (Arc<ScriptedCarrier>, Arc<ChatDesk>) {
    let chats = Arc::new(ChatDesk::default());
    let carrier = ScriptedCarrier::new(speech, Arc::clone(&chats), Patience::default(), tells_ids);
    (Arc::new(carrier.beside(beside).with_personalities(personalities)), chats)
}
