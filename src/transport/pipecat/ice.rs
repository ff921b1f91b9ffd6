//! STUN and TURN servers as browsers write them (`RTCIceServer`), and as Pipecat's runner has them in `PIPECAT_ICE_SERVERS`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::transport::webrtc::{IceOptions, IceServer, IceServerError};

/// STUN and TURN servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IceServers(Vec<IceServerConfig>);

/// One of them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IceServerConfig {
    urls: Urls,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<String>,
}

impl std::fmt::Debug for IceServerConfig {
    /// Without the credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceServerConfig").field("urls", &self.urls).field("username", &self.username).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Urls {
    One(String),
    Several(Vec<String>),
}

/// Text that names no STUN and TURN servers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadIceServers {
    /// An address.
    #[error(transparent)]
    Address(#[from] IceServerError),
    /// JSON that is none of an `RTCIceServer`, or of a list of them. What is wrong is told without what stands there.
    #[error("the STUN and TURN servers cannot be read: line {line}, column {column}: {problem}")]
    Json {
        /// Where.
        line: usize,
        /// Where in it.
        column: usize,
        /// What kind of problem.
        problem: &'static str,
    },
}

impl IceServers {
    /// Reads addresses with commas between them, one JSON object with `urls`, `username` and `credential`, or a JSON list of either.
    ///
    /// # Errors
    /// [`BadIceServers`], which repeats no credential.
    pub fn parse(text: &str) -> Result<Self, BadIceServers> {
        let text = text.trim();
        let plain = |url: &str| IceServerConfig { urls: Urls::One(url.to_owned()), username: None, credential: None };
        let servers = if text.starts_with('[') {
            let entries: Vec<Value> = serde_json::from_str(text).map_err(unreadable)?;
            let entry = |entry: Value| match entry {
                Value::String(url) => Ok(plain(&url)),
                other => serde_json::from_value(other).map_err(unreadable),
            };
            entries.into_iter().map(entry).collect::<Result<_, _>>()?
        } else if text.starts_with('{') {
            vec![serde_json::from_str(text).map_err(unreadable)?]
        } else {
            text.split(',').map(str::trim).filter(|url| !url.is_empty()).map(plain).collect()
        };
        servers.iter().flat_map(IceServerConfig::servers).collect::<Result<Vec<_>, _>>()?;
        Ok(Self(servers))
    }

    /// There are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// With those of `others`.
    pub(super) fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// As a connection takes them; an address that cannot be used is left out. With `relay_only`, nothing but relays is.
    pub(super) fn options(&self, relay_only: bool) -> IceOptions {
        let read = self.0.iter().flat_map(IceServerConfig::servers);
        let servers = read.filter_map(|server| server.inspect_err(|error| tracing::info!("{error}")).ok()).collect();
        IceOptions { servers, relay_only }
    }
}

impl IceServerConfig {
    fn servers(&self) -> impl Iterator<Item = Result<IceServer, IceServerError>> {
        let urls = match &self.urls {
            Urls::One(url) => std::slice::from_ref(url),
            Urls::Several(urls) => urls,
        };
        let (username, credential) = (self.username.as_deref().unwrap_or_default(), self.credential.as_deref().unwrap_or_default());
        urls.iter().map(move |url| IceServer::new(url, username, credential))
    }
}

fn unreadable(error: serde_json::Error) -> BadIceServers {
    let problem = match error.classify() {
        serde_json::error::Category::Data => "a server has urls, and may have username and credential; nothing else",
        _ => "it is no JSON",
    };
    BadIceServers::Json { line: error.line(), column: error.column(), problem }
}
