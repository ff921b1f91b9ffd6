//! What several commands take: the configuration file, speech, the agent, the output folder. A flag goes before the
//! environment, that before the file, that before the default.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::audio::Rate;
use crate::call::{Leg, Limits, LoggedEvent};
use crate::caller::personality::{Personalities, Personality};
use crate::caller::speech::{SpeechStore, TtsCommand};
use crate::caller::suite::{Problem, Scenario, Suite, refusal};
use crate::caller::{Patience, PrepareError, PreparedScript, TEXT_PATIENCE, TextScript};
use crate::config::{Config, credentials, secret};
use crate::error::Failure;
use crate::ledger::Ledger;
use crate::transport::Secret;
use crate::transport::chirp::RATE;
use crate::transport::livekit::Server;
use crate::transport::pipecat::IceServers;
use crate::transport::{Capability, ConnectOptions, WayOut};

/// The configuration file.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigArgs {
    /// Configuration file [default: trunkline.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "TRUNKLINE_CONFIG")]
    config: Option<PathBuf>,
}

impl ConfigArgs {
    pub(super) fn load(&self) -> Result<Config, Failure> {
        Config::load(self.config.as_deref()).map_err(Failure::usage)
    }
}

/// Speech for texts without a ready recording.
#[derive(Debug, clap::Args)]
pub(super) struct SpeechArgs {
    /// Command that speaks a text, for example "espeak-ng -w {out} {text}"
    #[arg(long, value_name = "COMMAND", env = "TRUNKLINE_TTS")]
    tts: Option<String>,
    /// Folder that spoken texts are kept in
    #[arg(long, value_name = "DIR", env = "TRUNKLINE_SPEECH_CACHE")]
    speech_cache: Option<PathBuf>,
}

impl SpeechArgs {
    pub(super) fn store(&self, config: &Config) -> Result<SpeechStore, Failure> {
        let command = self.tts.as_deref().or(config.tts.as_deref());
        let command = command.map(TtsCommand::parse).transpose().map_err(Failure::usage)?;
        let cache = self.speech_cache.clone().unwrap_or_else(SpeechStore::default_cache);
        Ok(SpeechStore::new(command, &cache))
    }
}

/// How the scripted callers behave.
#[derive(Debug, clap::Args)]
pub(super) struct PersonalityArgs {
    /// File with the callers' personalities, TOML or JSON [default: `personalities` of the configuration]
    #[arg(long, value_name = "FILE")]
    personalities: Option<PathBuf>,
}

impl PersonalityArgs {
    pub(super) fn load(&self, config: &Config) -> Result<Option<Personalities>, Failure> {
        let file = self.personalities.as_deref().or(config.personalities.as_deref());
        file.map(Personalities::load).transpose().map_err(Failure::usage)
    }
}

/// Where recordings and reports go: a folder that is there and can be written, or nothing begins.
pub(super) fn out_folder(flag: Option<&PathBuf>, config: &Config) -> Result<PathBuf, Failure> {
    let out = flag.or(config.out.as_ref()).cloned().unwrap_or_else(|| PathBuf::from("trunkline-runs"));
    let probe = out.join(format!(".trunkline-{}", std::process::id()));
    let tried =
        std::fs::create_dir_all(&out).and_then(|()| std::fs::write(&probe, b"?")).and_then(|()| std::fs::remove_file(&probe));
    tried.map_err(|error| {
        let problem = format!("cannot write into the folder {}: {error}", out.display());
        Failure::usage(problem).hint("choose another one with --out or `out = …` in trunkline.toml")
    })?;
    Ok(out)
}

/// Whom to call.
pub(super) fn agent(to: Option<&WayOut>, rate: Option<Rate>, config: &Config) -> Result<(WayOut, ConnectOptions), Failure> {
    let to = to.or(config.agent.to.as_ref()).cloned().ok_or_else(|| {
        Failure::usage("no agent to connect to").hint(
            "give --to chirp://HOST:PORT/, process:COMMAND, livekit://ROOM?agent=NAME, livekit-chat://ROOM?agent=NAME, livekit-console:COMMAND, \
                   pipecat+http://HOST:PORT/start, pipecat-ws://HOST:PORT/PATH, twilio+ws://HOST:PORT/PATH, chat://HOST:PORT/, chat-process:COMMAND or \
                   openai:URL?model=NAME, or set `to` under [agent] in trunkline.toml",
        )
    })?;
    Ok((to, connect_options(rate, config)?))
}

/// How agents are connected, as far as their address does not say it.
pub(super) fn connect_options(rate: Option<Rate>, config: &Config) -> Result<ConnectOptions, Failure> {
    let file = config.agent.credentials_file.as_deref();
    let credentials = credentials("TRUNKLINE_AGENT_CREDENTIALS", file).map_err(Failure::usage)?;
    let rate = rate.or(config.agent.rate).unwrap_or(Rate::HZ_16000);
    let chat_secret = secret("TRUNKLINE_CHAT_SECRET", config.agent.chat_secret_file.as_deref()).map_err(Failure::usage)?;
    let openai_key = std::env::var("OPENAI_API_KEY").ok().and_then(|key| Secret::new(&key));
    let defaults = ConnectOptions::default();
    let dial_time = match config.agent.dial_s {
        Some(dial_s) => seconds("dial_s under [agent]", dial_s)?,
        None => defaults.dial_time,
    };
    let pipecat_key = pipecat_key();
    let (livekit, pipecat_ice) = (livekit_server()?, pipecat_ice()?);
    Ok(ConnectOptions { rate, credentials, chat_secret, openai_key, pipecat_key, pipecat_ice, livekit, dial_time, ..defaults })
}

/// The key of a runner of Pipecat's bots.
pub(super) fn pipecat_key() -> Option<Secret> {
    std::env::var("PIPECAT_API_KEY").ok().and_then(|key| Secret::new(&key))
}

/// STUN and TURN servers for Pipecat's WebRTC, as Pipecat's own runner takes them from the environment.
pub(super) fn pipecat_ice() -> Result<IceServers, Failure> {
    const NAME: &str = "PIPECAT_ICE_SERVERS";
    let text = std::env::var(NAME).unwrap_or_default();
    IceServers::parse(&text).map_err(|error| Failure::usage(format!("{NAME}: {error}")))
}

/// How a result or a run is waited for.
#[derive(Debug, clap::Args)]
pub(super) struct WaitArgs {
    /// Seconds between two looks
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    every_s: f64,
    /// Longest wait, in seconds
    #[arg(long, value_name = "S", default_value_t = 3600.0)]
    timeout_s: f64,
}

impl WaitArgs {
    /// The time between two looks, and the longest wait.
    pub(super) fn read(&self) -> Result<(Duration, Duration), Failure> {
        Ok((seconds("--every-s", self.every_s)?, seconds("--timeout-s", self.timeout_s)?))
    }
}

/// The longest time that is taken, ten years: a longer one does not fit into every clock.
pub(super) const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A flag's time in seconds.
pub(super) fn seconds(flag: &str, value: f64) -> Result<Duration, Failure> {
    let time = Duration::try_from_secs_f64(value).map_err(|_| Failure::usage(format!("{flag} {value}: not a time")))?;
    if time > LONGEST {
        return Err(Failure::usage(format!("{flag} {value}: longer than {} seconds, which is ten years", LONGEST.as_secs())));
    }
    Ok(time)
}

/// The ledger: `$TRUNKLINE_LEDGER`, else in the user's data folder.
pub(super) fn open_ledger() -> Result<Ledger, Failure> {
    Ledger::open(&ledger_path()?).map_err(Failure::infrastructure)
}

fn ledger_path() -> Result<PathBuf, Failure> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = from("TRUNKLINE_LEDGER") {
        return Ok(path);
    }
    let base = from("XDG_DATA_HOME").or_else(|| from("HOME").map(|home| home.join(".local/share")));
    let base = base.ok_or_else(|| Failure::usage("no place for the ledger").hint("set TRUNKLINE_LEDGER to a file"))?;
    Ok(base.join("trunkline").join("ledger.sqlite"))
}

/// Reads a suite; without a path, the shipped one.
pub(super) fn suite(path: Option<&Path>) -> Result<Suite, Failure> {
    match path {
        Some(path) => Suite::load(path).map_err(Failure::usage),
        None => {
            let json = serde_json::from_str(include_str!("../../fixtures/suites/demo.json"));
            let json = json.map_err(|error| Failure::infrastructure(format!("the shipped suite: {error}")))?;
            Suite::parse(&json).map_err(|problems| Failure::infrastructure(refusal(Path::new("the shipped suite"), problems)))
        }
    }
}

/// The folder that a suite lies in; the recordings that it plays are below it.
pub(super) fn folder_of(suite: Option<&Path>) -> PathBuf {
    suite.and_then(Path::parent).map(Path::to_owned).unwrap_or_default()
}

/// A scenario, ready to be played, and what its call may not exceed.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    pub(super) scenario: Scenario,
    pub(super) script: Playable,
    pub(super) limits: Limits,
}

/// A script in the form that the agent's wire takes.
#[derive(Debug, Clone)]
pub(super) enum Playable {
    Voice(PreparedScript),
    Text(TextScript),
}

impl Playable {
    /// A caller that waits so long for a silent agent; none: as long as is usual.
    pub(super) fn caller(&self, patience: Option<Duration>) -> Box<dyn Leg> {
        match self {
            Self::Voice(script) => {
                let usual = Patience::default();
                Box::new(script.caller(Patience { silent_agent: patience.unwrap_or(usual.silent_agent), ..usual }))
            }
            Self::Text(script) => Box::new(script.caller(patience.unwrap_or(TEXT_PATIENCE))),
        }
    }

    /// The agent is to write first. On voice its transport says who begins.
    pub(super) fn agent_opens(&self) -> bool {
        match self {
            Self::Voice(_) => false,
            Self::Text(script) => script.agent_opens(),
        }
    }

    /// The same script from a caller of this personality.
    async fn cast(&self, personality: &Personality) -> Result<Self, PrepareError> {
        Ok(match self {
            Self::Voice(script) => Self::Voice(script.cast(personality).await?),
            Self::Text(script) => Self::Text(script.cast(personality)),
        })
    }
}

/// Compiles and speaks scenarios for an agent behind `wire`. Whatever cannot be played to it is told of before any call, all
/// of it at once.
pub(super) async fn prepare(
    scenarios: &[Scenario],
    path: Option<&Path>,
    store: &SpeechStore,
    wire: &Capability,
    personalities: Option<&Personalities>,
) -> Result<Vec<Ready>, Failure> {
    let mut scripts = Vec::new();
    let mut problems = Vec::new();
    for scenario in scenarios {
        let named = scenario.personality.as_ref().zip(personalities).map(|(key, known)| known.find(key));
        if let Some(Err(problem)) = named {
            problems.push(Problem { scenario: Some(scenario.name.clone()), condition: None, problem });
        }
        match scenario.script() {
            Ok(script) => {
                problems.extend(script.misfits(&scenario.name, wire.wire, wire.abilities));
                scripts.push((scenario, script));
            }
            Err(found) => problems.extend(found),
        }
    }
    if !problems.is_empty() {
        let path = path.unwrap_or_else(|| Path::new("the shipped suite"));
        return Err(Failure::usage(refusal(path, problems)));
    }
    let beside = &folder_of(path);
    let mut ready = Vec::new();
    for (scenario, script) in scripts {
        let name = &scenario.name;
        let script = if wire.abilities.text_only {
            Playable::Text(TextScript::new(&script, name, wire.wire).map_err(|problems| Failure::usage(refusal(beside, problems)))?)
        } else {
            Playable::Voice(
                PreparedScript::prepare(&script, name, store, RATE, beside).await.map_err(|error| unplayable(name, &error))?,
            )
        };
        let named = scenario.personality.as_ref().zip(personalities).and_then(|(key, known)| known.find(key).ok());
        let script = match named {
            Some(personality) => script.cast(personality).await.map_err(|error| unplayable(name, &error))?,
            None => script,
        };
        let limits = scenario.max_duration.map_or_else(Limits::default, |max_duration| Limits { max_duration });
        ready.push(Ready { scenario: scenario.clone(), script, limits });
    }
    Ok(ready)
}

fn unplayable(scenario: &str, error: &PrepareError) -> Failure {
    Failure::usage(format!("scenario {scenario:?}: {error}"))
}

/// An event as a live line shows it; none for what is not worth it.
pub(super) fn shown(event: &LoggedEvent) -> Option<String> {
    use crate::call::Event;
    let who = event.side.map_or("call", crate::call::Side::name);
    let what = match &event.event {
        Event::ScriptLine { text, .. } => format!("says: {text}"),
        Event::SpeechStarted { interruption: Some(_), .. } => "interrupts".to_owned(),
        Event::SpeechStarted { .. } => "speaks".to_owned(),
        Event::SpeechStopped { interrupted: true, .. } => "is interrupted".to_owned(),
        Event::Text { text } => format!("says: {text}"),
        Event::FunctionCall(call) => format!("calls {}", call.name),
        Event::Backchannel { text, .. } => format!("says aside: {text}"),
        Event::Dtmf { digit } => format!("presses {digit}"),
        Event::EffectStarted { what, .. } => format!("effect: {}", what.kind.name()),
        Event::Fault { code, detail } => format!("fault {code}: {detail}"),
        Event::Log { line } => format!("log: {line}"),
        Event::RecordingEnded { error } => format!("the recording has ended: {error}"),
        _ => return None,
    };
    Some(format!("{:6.2} s {who} {what}", event.at_ms / 1000.0))
}

/// The LiveKit server of the environment; none when a part of it is not set.
pub(super) fn livekit_server() -> Result<Option<Server>, Failure> {
    livekit_server_or(None)
}

/// As [`livekit_server`], with another address where LIVEKIT_URL is not set.
pub(super) fn livekit_server_or(url: Option<&str>) -> Result<Option<Server>, Failure> {
    let elsewhere = url.map(str::to_owned);
    let value = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let [url, key, secret] = ["LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"].map(value);
    let (name, url) = if url.is_some() { ("LIVEKIT_URL", url) } else { ("[doors.livekit] url", elsewhere) };
    match (url, key, secret.and_then(|secret| Secret::new(&secret))) {
        (Some(url), Some(key), Some(secret)) => {
            Server::new(&url, &key, secret).map(Some).map_err(|error| Failure::usage(format!("{name}: {error}")))
        }
        _ => Ok(None),
    }
}
