//! `trunkline.toml`: every key optional, unknown keys refused with the nearest known one.
//!
//! ```toml
//! tts = "espeak-ng -w {out} {text}"     # speech for texts without a ready WAV; split into words, never a shell
//! out = "trunkline-runs"                # recordings and reports
//! personalities = "personalities.toml"  # how callers behave: see `caller::personality`
//!
//! [agent]                               # whom the doors connect to: the agent under test
//! to = "chirp://127.0.0.1:9000/"        # or chirps://…, process:COMMAND, livekit://ROOM?agent=NAME, livekit-chat://…,
//!                                       # livekit-console:COMMAND, pipecat-ws://…, twilio+ws://…, chat://…, chats://…,
//!                                       # chat-process:COMMAND, openai:URL
//! rate = 16000                          # of a process, Hz
//! dial_s = 20                           # how long a livekit-console agent may take to dial, and each step into a room
//! credentials_file = "agent.secret"     # user:password
//! chat_secret_file = "chat.secret"      # sent to chat:// as X-VOCERA-SECRET
//!
//! [doors.chirp]
//! listen = "127.0.0.1:8765"
//! certificate = "door.pem"              # with `key`: wss:// instead of ws://
//! key = "door.key"
//! credentials_file = "door.secret"      # needed when `listen` is not loopback
//! max_calls = 64
//! max_message = 1048576                 # bytes
//! idle_s = 60                           # a caller that sends nothing for so long is closed
//!
//! [doors.chat]                          # Cekura's text WebSocket, in front of an agent of text only
//! listen = "127.0.0.1:8766"
//! certificate = "door.pem"              # with `key`
//! key = "door.key"
//! secret_file = "chat.secret"           # what the caller sends as X-VOCERA-SECRET; needed when `listen` is not loopback
//! agent_speaks_first = true             # or false; where it is not said, either may
//! max_calls = 64
//! max_message = 1048576                 # bytes
//! idle_s = 300                          # a session without a content message for so long is ended
//!
//! [doors.livekit]                       # an agent worker of the LiveKit server of LIVEKIT_URL, with LIVEKIT_API_KEY and
//!                                       # LIVEKIT_API_SECRET
//! agent_name = "my-agent"               # the agent that is dispatched
//! url = "wss://livekit.example.com"     # where LIVEKIT_URL is not set
//! max_calls = 64                        # more are left to other workers of the same name
//!
//! [doors.pipecat-webrtc]                # offers to a Pipecat bot's server (/api/offer, /start), and a page for browsers
//! listen = "127.0.0.1:7860"
//! certificate = "door.pem"              # with `key`: https:// instead of http://
//! key = "door.key"
//! token_file = "door.token"             # Authorization: Bearer or ?token=; needed when `listen` is not loopback
//! max_calls = 64
//!
//! [doors.twilio]                        # or telnyx, plivo, exotel, vonage, genesys: a phone provider calls us
//! listen = "127.0.0.1:8771"
//! certificate = "door.pem"              # with `key`
//! key = "door.key"
//! token_file = "door.token"             # or TRUNKLINE_DOOR_TOKEN: what the provider shows as ?token=…, as the path's last
//!                                       # segment or as Authorization: Bearer; needed when `listen` is not loopback
//! max_calls = 64
//! max_message = 1048576                 # bytes
//! idle_s = 60                           # a provider that sends nothing for so long is closed
//!
//! [sandbox]
//! webhook_url = "http://127.0.0.1:9100/hook"
//! webhook_secret_file = "hook.secret"   # or TRUNKLINE_WEBHOOK_SECRET
//! max_calls = 64
//! max_recorded_mb = 10240               # above them no run is started
//!
//! [sandbox.metrics]                     # a run that misses one has not passed
//! max_latency_ms = 1500                 # the longest answer
//! max_interruptions_ignored = 0
//! min_talk_ratio = 0.1                  # the agent's share of the call's time
//! max_talk_ratio = 0.9
//! max_dead_air_ms = 5000
//! max_infrastructure_issues = 0
//! ```

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::Deserialize;

use crate::audio::Rate;
use crate::error::FileError;
use crate::sandbox::MetricThresholds;
use crate::spelling::unknown_key;
use crate::transport::Secret;
use crate::transport::WayOut;
use crate::transport::chirp::Credentials;
use crate::transport::telephony_ws::Provider;

/// The file's name where none is given.
pub const DEFAULT_FILE: &str = "trunkline.toml";

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Config {
    /// The command that speaks a text.
    pub tts: Option<String>,
    /// Where recordings and reports go.
    pub out: Option<PathBuf>,
    /// The file of the callers' personalities.
    pub personalities: Option<PathBuf>,
    /// The agent under test.
    #[serde(default)]
    pub agent: AgentConfig,
    /// The doors.
    #[serde(default)]
    pub doors: Doors,
    /// The sandbox.
    #[serde(default)]
    pub sandbox: SandboxSection,
}

/// `[sandbox]`
#[derive(Debug, Clone, Default, Deserialize)]
pub struct SandboxSection {
    /// Where webhooks go.
    #[serde(default, deserialize_with = "webhook_url")]
    pub webhook_url: Option<Url>,
    /// A file with their secret.
    pub webhook_secret_file: Option<PathBuf>,
    /// Calls at the same time.
    pub max_calls: Option<usize>,
    /// MiB in the folder of the recordings; above them no run is started.
    pub max_recorded_mb: Option<u64>,
    /// What a run must keep to.
    #[serde(default)]
    pub metrics: MetricThresholds,
}

/// `[agent]`
#[derive(Debug, Clone, Default, Deserialize)]
pub struct AgentConfig {
    /// How to reach it.
    pub to: Option<WayOut>,
    /// The rate of a process, in Hz.
    pub rate: Option<Rate>,
    /// A file with `user:password`.
    pub credentials_file: Option<PathBuf>,
    /// Seconds that a LiveKit agent which is started may take to dial.
    pub dial_s: Option<f64>,
    /// A file with the secret of a chat agent.
    pub chat_secret_file: Option<PathBuf>,
}

/// `[doors]`
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Doors {
    /// `[doors.chirp]`
    #[serde(default)]
    pub chirp: ChirpDoorConfig,
    /// `[doors.chat]`
    #[serde(default)]
    pub chat: ChatDoorConfig,
    /// `[doors.livekit]`
    #[serde(default)]
    pub livekit: LiveKitDoorConfig,
    /// `[doors.pipecat-webrtc]`
    #[serde(default, rename = "pipecat-webrtc")]
    pub pipecat_webrtc: TokenDoorConfig,
    /// `[doors.pipecat]`
    #[serde(default)]
    pub pipecat: PipecatDoorConfig,
    /// `[doors.twilio]`
    #[serde(default)]
    pub twilio: TokenDoorConfig,
    /// `[doors.telnyx]`
    #[serde(default)]
    pub telnyx: TokenDoorConfig,
    /// `[doors.plivo]`
    #[serde(default)]
    pub plivo: TokenDoorConfig,
    /// `[doors.exotel]`
    #[serde(default)]
    pub exotel: TokenDoorConfig,
    /// `[doors.vonage]`
    #[serde(default)]
    pub vonage: TokenDoorConfig,
    /// `[doors.genesys]`
    #[serde(default)]
    pub genesys: TokenDoorConfig,
}

impl Doors {
    /// The table of a provider's door.
    #[must_use]
    pub const fn of_provider(&self, provider: Provider) -> &TokenDoorConfig {
        match provider {
            Provider::Twilio => &self.twilio,
            Provider::Telnyx => &self.telnyx,
            Provider::Plivo => &self.plivo,
            Provider::Exotel => &self.exotel,
            Provider::Vonage => &self.vonage,
            Provider::Genesys => &self.genesys,
        }
    }
}

/// `[doors.chirp]`
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ChirpDoorConfig {
    /// Address and port.
    pub listen: Option<SocketAddr>,
    /// A PEM file; with `key`.
    pub certificate: Option<PathBuf>,
    /// A PEM file; with `certificate`.
    pub key: Option<PathBuf>,
    /// A file with `user:password`.
    pub credentials_file: Option<PathBuf>,
    /// Calls at the same time.
    pub max_calls: Option<usize>,
    /// The longest message, in bytes.
    pub max_message: Option<usize>,
    /// The longest silence of the connection, in seconds.
    pub idle_s: Option<u64>,
}

/// `[doors.chat]`
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ChatDoorConfig {
    /// Address and port.
    pub listen: Option<SocketAddr>,
    /// A PEM file; with `key`.
    pub certificate: Option<PathBuf>,
    /// A PEM file; with `certificate`.
    pub key: Option<PathBuf>,
    /// A file with the secret that a caller must send.
    pub secret_file: Option<PathBuf>,
    /// The agent says the first word.
    pub agent_speaks_first: Option<bool>,
    /// Calls at the same time.
    pub max_calls: Option<usize>,
    /// The longest message, in bytes.
    pub max_message: Option<usize>,
    /// The longest time without a content message, in seconds.
    pub idle_s: Option<u64>,
}

/// `[doors.NAME]` of a door whose callers show a token. That of WebRTC's offers has neither of the last two.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct TokenDoorConfig {
    /// Address and port.
    pub listen: Option<SocketAddr>,
    /// A PEM file; with `key`.
    pub certificate: Option<PathBuf>,
    /// A PEM file; with `certificate`.
    pub key: Option<PathBuf>,
    /// A file with the token that a caller must show.
    pub token_file: Option<PathBuf>,
    /// Calls at the same time.
    pub max_calls: Option<usize>,
    /// The longest message, in bytes.
    pub max_message: Option<usize>,
    /// The longest silence of the connection, in seconds.
    pub idle_s: Option<u64>,
}

/// `[doors.livekit]`
#[derive(Debug, Clone, Default, Deserialize)]
pub struct LiveKitDoorConfig {
    /// The agent that jobs are asked for.
    pub agent_name: Option<String>,
    /// The server, where the environment names none.
    pub url: Option<String>,
    /// Calls at the same time.
    pub max_calls: Option<usize>,
}

/// `[doors.pipecat]`
#[derive(Debug, Clone, Default, Deserialize)]
pub struct PipecatDoorConfig {
    /// Where it is, and who may come in.
    #[serde(flatten)]
    pub door: TokenDoorConfig,
    /// The rate of what clients get, in Hz.
    pub rate: Option<Rate>,
}

/// The keys of a [`TokenDoorConfig`].
const TOKEN_DOOR: &[&str] = &["listen", "certificate", "key", "token_file", "max_calls", "max_message", "idle_s"];

/// The keys of each table: a table is named by its path.
const KEYS: [(&str, &[&str]); 16] = [
    ("", &["tts", "out", "personalities", "agent", "doors", "sandbox"]),
    ("sandbox", &["webhook_url", "webhook_secret_file", "max_calls", "max_recorded_mb", "metrics"]),
    (
        "sandbox.metrics",
        &[
            "max_latency_ms",
            "max_interruptions_ignored",
            "min_talk_ratio",
            "max_talk_ratio",
            "max_dead_air_ms",
            "max_infrastructure_issues",
        ],
    ),
    ("agent", &["to", "rate", "dial_s", "credentials_file", "chat_secret_file"]),
    (
        "doors",
        &["chirp", "chat", "livekit", "pipecat", "pipecat-webrtc", "twilio", "telnyx", "plivo", "exotel", "vonage", "genesys"],
    ),
    ("doors.pipecat-webrtc", &["listen", "certificate", "key", "token_file", "max_calls"]),
    ("doors.chirp", &["listen", "certificate", "key", "credentials_file", "max_calls", "max_message", "idle_s"]),
    ("doors.pipecat", &["listen", "certificate", "key", "token_file", "max_calls", "max_message", "idle_s", "rate"]),
    ("doors.livekit", &["agent_name", "url", "max_calls"]),
    ("doors.twilio", TOKEN_DOOR),
    ("doors.telnyx", TOKEN_DOOR),
    ("doors.plivo", TOKEN_DOOR),
    ("doors.exotel", TOKEN_DOOR),
    ("doors.vonage", TOKEN_DOOR),
    ("doors.genesys", TOKEN_DOOR),
    ("doors.chat", &["listen", "certificate", "key", "secret_file", "agent_speaks_first", "max_calls", "max_message", "idle_s"]),
];

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read, or is not what it should be.
    #[error(transparent)]
    File(#[from] FileError),
    /// Credentials without a colon.
    #[error("{origin}: credentials are written user:password")]
    Credentials {
        /// The file or the variable.
        origin: String,
    },
    /// A secret with nothing in it.
    #[error("{origin}: the secret is empty")]
    EmptySecret {
        /// The file or the variable.
        origin: String,
    },
}

impl Config {
    /// Reads `path`; without one, `trunkline.toml` of the working folder if it is there.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        match path {
            Some(path) => Self::read(path),
            None if Path::new(DEFAULT_FILE).exists() => Self::read(Path::new(DEFAULT_FILE)),
            None => Ok(Self::default()),
        }
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| FileError::read(path, source))?;
        Ok(Self::parse(&text).map_err(|problem| FileError::malformed(path, problem))?)
    }

    /// Reads a configuration's text.
    ///
    /// # Errors
    /// What is wrong, with the key or the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let table: toml::Table = text.parse().map_err(|error| wrong(text, &error))?;
        known_keys("", &table)?;
        toml::from_str(text).map_err(|error| wrong(text, &error))
    }
}

/// What is wrong, and where. The line itself may hold a secret: of it only the key is told.
fn wrong(text: &str, error: &toml::de::Error) -> String {
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return format!("TOML parse error: {}", error.message());
    };
    let line = before.rsplit('\n').next().unwrap_or_default();
    let bare = |key: &&str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let key = line.split_once('=').map(|(key, _)| key.trim()).filter(bare).map(|key| format!(", {key}")).unwrap_or_default();
    let (row, column) = (before.matches('\n').count() + 1, line.chars().count() + 1);
    format!("TOML parse error at line {row}, column {column}{key}: {}", error.message())
}

/// An address that is not repeated where it is none.
fn webhook_url<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Url::parse(&text).map(Some).map_err(|error| serde::de::Error::custom(format!("no address of a webhook: {error}")))
}

fn known_keys(place: &str, table: &toml::Table) -> Result<(), String> {
    let Some((_, known)) = KEYS.iter().find(|(path, _)| *path == place) else { return Ok(()) };
    for (key, value) in table {
        let full = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
        if !known.contains(&key.as_str()) {
            let place = full.strip_suffix(key.as_str()).unwrap_or_default();
            return Err(unknown_key(place, key, known));
        }
        if let toml::Value::Table(inner) = value {
            known_keys(&full, inner)?;
        }
    }
    Ok(())
}

/// Credentials from the environment variable `variable`, else from `file`.
///
/// # Errors
/// [`ConfigError`] when the file cannot be read or the text has no colon.
pub fn credentials(variable: &str, file: Option<&Path>) -> Result<Option<Credentials>, ConfigError> {
    let Some((text, origin)) = told(variable, file)? else { return Ok(None) };
    Credentials::parse(&text).map(Some).ok_or(ConfigError::Credentials { origin })
}

/// A secret from the environment variable `variable`, else from `file`.
///
/// # Errors
/// [`ConfigError`] when the file cannot be read or there is nothing in it.
pub fn secret(variable: &str, file: Option<&Path>) -> Result<Option<Secret>, ConfigError> {
    let Some((text, origin)) = told(variable, file)? else { return Ok(None) };
    Secret::new(&text).map(Some).ok_or(ConfigError::EmptySecret { origin })
}

/// The text of a variable, else of a file, and which of the two it is from.
fn told(variable: &str, file: Option<&Path>) -> Result<Option<(String, String)>, ConfigError> {
    match (std::env::var(variable), file) {
        (Ok(text), _) => Ok(Some((text, variable.to_owned()))),
        (Err(_), Some(path)) => {
            let text = fs::read_to_string(path).map_err(|source| FileError::read(path, source))?;
            Ok(Some((text, path.display().to_string())))
        }
        (Err(_), None) => Ok(None),
    }
}
