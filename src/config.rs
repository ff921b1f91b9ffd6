//! `trunkline.toml`: every key optional, unknown keys refused with the nearest known one.
//!
//! ```toml
//! tts = "espeak-ng -w {out} {text}"     # speech for texts without a ready WAV; split into words, never a shell
//! out = "trunkline-runs"                # recordings and reports
//! personalities = "personalities.toml"  # how callers behave: see `caller::personality`
//!
//! [agent]                               # whom the doors connect to: the agent under test
//! to = "chirp://127.0.0.1:9000/"        # or chirps://…, process:COMMAND
//! rate = 16000                          # of a process, Hz
//! credentials_file = "agent.secret"     # user:password
//!
//! [doors.chirp]
//! listen = "127.0.0.1:8765"
//! certificate = "door.pem"              # with `key`: wss:// instead of ws://
//! key = "door.key"
//! credentials_file = "door.secret"      # needed when `listen` is not loopback
//! max_calls = 64
//! max_message = 1048576                 # bytes
//! idle_s = 60                           # a caller that sends nothing for so long is closed
//! ```

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::audio::Rate;
use crate::transport::WayOut;
use crate::transport::chirp::Credentials;

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
}

/// `[doors]`
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Doors {
    /// `[doors.chirp]`
    #[serde(default)]
    pub chirp: ChirpDoor,
}

/// `[doors.chirp]`
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ChirpDoor {
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

/// The keys of each table: a table is named by its path.
const KEYS: [(&str, &[&str]); 4] = [
    ("", &["tts", "out", "personalities", "agent", "doors"]),
    ("agent", &["to", "rate", "credentials_file"]),
    ("doors", &["chirp"]),
    ("doors.chirp", &["listen", "certificate", "key", "credentials_file", "max_calls", "max_message", "idle_s"]),
];

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
    /// Credentials without a colon.
    #[error("{origin}: credentials are written user:password")]
    Credentials {
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
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|problem| ConfigError::Malformed { path: path.to_owned(), problem })
    }

    /// Reads a configuration's text.
    ///
    /// # Errors
    /// What is wrong, with the key or the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
        known_keys("", &table)?;
        toml::from_str(text).map_err(|error| error.to_string())
    }
}

fn known_keys(place: &str, table: &toml::Table) -> Result<(), String> {
    let Some((_, known)) = KEYS.iter().find(|(path, _)| *path == place) else { return Ok(()) };
    for (key, value) in table {
        let full = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
        if !known.contains(&key.as_str()) {
            let nearest = known.iter().max_by(|a, b| strsim::jaro(a, key).total_cmp(&strsim::jaro(b, key)));
            return Err(format!("unknown key {full:?}; the nearest known one is {:?}", nearest.unwrap_or(&"")));
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
    let (text, origin) = match (std::env::var(variable), file) {
        (Ok(text), _) => (text, variable.to_owned()),
        (Err(_), Some(path)) => {
            let read = fs::read_to_string(path);
            let text = read.map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
            (text, path.display().to_string())
        }
        (Err(_), None) => return Ok(None),
    };
    Credentials::parse(&text).map(Some).ok_or(ConfigError::Credentials { origin })
}
