//! A way out: how a call reaches an agent. One string everywhere, parsed here into one type.

use std::fmt;
use std::str::FromStr;

use url::Url;

use super::Capability;
use super::chirp::{self, Credentials, DialError, DialOptions};
use super::process::{self, ProcessError, ProcessLeg};
use crate::audio::Rate;
use crate::call::{CallIds, Leg};

/// How to reach an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WayOut {
    /// `chirp://HOST:PORT/PATH`, or `chirps://…` over TLS.
    Chirp(Url),
    /// `process:COMMAND ARGS`: a command, split into words like a shell does, but never run by one.
    Process(Vec<String>),
}

/// A string that is no way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no way to reach an agent: {problem}")]
pub struct BadWayOut {
    text: String,
    problem: String,
}

/// What the way itself does not say.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// The rate of a process.
    pub rate: Rate,
    /// For an agent that asks for HTTP Basic authentication.
    pub credentials: Option<Credentials>,
}

impl Default for ConnectOptions {
    /// 16 kHz, no credentials.
    fn default() -> Self {
        Self { rate: Rate::HZ_16000, credentials: None }
    }
}

/// An agent that cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Over CHIRP.
    #[error(transparent)]
    Chirp(#[from] DialError),
    /// As a process.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl WayOut {
    /// What the wire can do.
    #[must_use]
    pub fn capability(&self) -> Capability {
        match self {
            Self::Chirp(_) => chirp::CAPABILITY,
            Self::Process(_) => process::CAPABILITY,
        }
    }

    /// Places a call to the agent.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(&self, options: &ConnectOptions, ids: &CallIds) -> Result<Box<dyn Leg>, ConnectError> {
        match self {
            Self::Chirp(url) => {
                let known = [
                    (chirp::RUN_ID_HEADER, &ids.run_id),
                    (chirp::RESULT_ID_HEADER, &ids.result_id),
                    (chirp::SCENARIO_ID_HEADER, &ids.scenario_id),
                ];
                let headers = known.into_iter().filter_map(|(name, id)| Some((name.to_owned(), id.clone()?))).collect();
                let credentials = options.credentials.clone();
                Ok(Box::new(chirp::dial(url, &DialOptions { credentials, headers, ..DialOptions::default() }).await?))
            }
            Self::Process(words) => Ok(Box::new(ProcessLeg::spawn(words, options.rate, ids)?)),
        }
    }
}

impl FromStr for WayOut {
    type Err = BadWayOut;

    fn from_str(text: &str) -> Result<Self, BadWayOut> {
        let bad = |problem: &str| BadWayOut { text: text.to_owned(), problem: problem.to_owned() };
        if let Some(command) = text.strip_prefix("process:") {
            let words = shell_words::split(command).map_err(|_| bad("a quote in the command is not closed"))?;
            return if words.is_empty() { Err(bad("the command is missing")) } else { Ok(Self::Process(words)) };
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(bad("use chirp://HOST:PORT/PATH, chirps://HOST:PORT/PATH or process:COMMAND"));
        };
        let web = match scheme {
            "chirp" => "ws",
            "chirps" => "wss",
            "ws" | "wss" => return Err(bad("say which protocol the WebSocket speaks: chirp:// or chirps://")),
            _ => return Err(bad("use chirp://, chirps:// or process:")),
        };
        let url = Url::parse(&format!("{web}://{rest}")).map_err(|error| bad(&error.to_string()))?;
        if url.password().is_some() || !url.username().is_empty() {
            return Err(bad("credentials do not belong into an address: set TRUNKLINE_AGENT_CREDENTIALS=user:password"));
        }
        Ok(Self::Chirp(url))
    }
}

impl fmt::Display for WayOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chirp(url) => f.write_str(&url.as_str().replacen("ws", "chirp", 1)),
            Self::Process(words) => write!(f, "process:{}", shell_words::join(words)),
        }
    }
}

impl serde::Serialize for WayOut {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for WayOut {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
