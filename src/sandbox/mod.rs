//! The local stand-in for Cekura's API: the same HTTP paths, shapes, errors and statuses, kept in SQLite. A run is really
//! carried out: a [`Carrier`] calls its agent with the scripted caller, and records the call.
//!
//! It stands in for what cannot be had offline. It judges nothing but what a script, a threshold on the recording or a rule can.

mod answers;
mod caller;
mod carrier;
mod chat;
mod http;
mod judge;
mod links;
mod listen;
mod metrics;
mod project;
mod request;
mod runner;
mod store;
mod webhook;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinHandle;

pub use caller::{PACING_SLIP_KEY, RECEIVED_RATE_KEY, ScriptedCarrier};
pub use carrier::{CancelSwitch, CancelToken, Carrier, Progress, RunEnd, RunOrder, RunOutcome, Stage, Target, TestProfile};
pub use chat::ChatDesk;
pub use http::ApiLimits;
pub use metrics::MetricThresholds;
pub use project::{Agent, Profile, Project, ProjectError};
pub use webhook::WebhookConfig;

use crate::cekura::{Key, Mode};
use links::Links;
use runner::{Parts, Runner};
use store::Store;
use webhook::Webhook;

/// The folder of the recordings, below the sandbox's.
const RECORDINGS: &str = "recordings";

/// The sandbox cannot be opened or its memory not be used.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The folder cannot be made.
    #[error("cannot use the sandbox folder {}: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database cannot be read or written.
    #[error("the sandbox's database {}: {source}", path.display())]
    Store {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// Another sandbox has the folder.
    #[error("another sandbox is using {}", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// The folder is of a newer Trunkline.
    #[error("{} has layout {found}: a newer Trunkline made it", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its layout.
        found: i64,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The webhooks cannot be sent.
    #[error("the webhooks cannot be sent: {0}")]
    Webhook(String),
    /// Open to the network and to everyone.
    #[error("a sandbox on {0}, which is not loopback, needs a key (CEKURA_API_KEY)")]
    Unguarded(SocketAddr),
}

/// How a sandbox is set up.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The folder of its database and its recordings.
    pub data: PathBuf,
    /// The key that requests must carry; none: any.
    pub key: Option<Key>,
    /// What it knows.
    pub project: Project,
    /// What a run must keep to.
    pub thresholds: MetricThresholds,
    /// Where its webhooks go.
    pub webhook: Option<WebhookConfig>,
    /// Takes shapes that the API would refuse, where their meaning is clear.
    pub lenient: bool,
    /// What it takes at most.
    pub limits: ApiLimits,
    /// The folder of its recordings; none: below `data`.
    pub recordings: Option<PathBuf>,
}

impl SandboxConfig {
    /// A sandbox at any free port of this machine that knows `project` and takes any key.
    #[must_use]
    pub fn local(data: PathBuf, project: Project) -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            data,
            key: None,
            project,
            thresholds: MetricThresholds::default(),
            webhook: None,
            lenient: false,
            limits: ApiLimits::default(),
            recordings: None,
        }
    }
}

/// A sandbox that is open. Dropping it closes it, and ends its calls.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    runner: Arc<Runner>,
    serving: JoinHandle<()>,
}

impl Sandbox {
    /// Opens a sandbox. `chats` is where `carrier` finds the API chats.
    ///
    /// # Errors
    /// [`SandboxError`].
    pub async fn open(config: SandboxConfig, carrier: Arc<dyn Carrier>, chats: Arc<ChatDesk>) -> Result<Self, SandboxError> {
        let SandboxConfig { listen, data, key, project, thresholds, webhook, lenient, limits, recordings } = config;
        if !listen.ip().is_loopback() && key.is_none() {
            return Err(SandboxError::Unguarded(listen));
        }
        let store = Store::open(&data)?;
        let recordings = std::path::absolute(recordings.unwrap_or_else(|| data.join(RECORDINGS)));
        let recordings = recordings.map_err(|source| SandboxError::Folder { path: data.clone(), source })?;
        let listener = TcpListener::bind(listen).await.map_err(|source| SandboxError::Listen { listen, source })?;
        let address = listener.local_addr().map_err(|source| SandboxError::Listen { listen, source })?;
        let links = Arc::new(Links::new(&url_of(address)));
        let webhook = webhook.map(|webhook| Webhook::new(webhook, Arc::clone(&links))).transpose();
        let webhook = webhook.map_err(|error| SandboxError::Webhook(error.to_string()))?;
        let (most_calls, most_recorded) = (limits.most_calls, limits.most_recorded);
        let parts = Parts { store, project, thresholds, recordings, carrier, webhook, most_calls, most_recorded };
        let runner = Arc::new(Runner::new(parts));
        let api = http::Api { runner: Arc::clone(&runner), chats, links, key, lenient, limits };
        let router = http::router(api);
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!("the sandbox has stopped listening: {error}");
            }
        });
        Ok(Self { address, runner, serving })
    }

    /// Whether a sandbox carries runs of `mode` out.
    #[must_use]
    pub fn carries_out(mode: Mode) -> bool {
        request::support(mode) == request::Support::CarriedOut
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address for a client.
    #[must_use]
    pub fn url(&self) -> String {
        url_of(self.address)
    }
}

/// Does what waits for a disk or takes long, while the other tasks of this thread, calls with their pace, go on elsewhere. What
/// else the same task has under way waits.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// What is bound to every address is reached at loopback.
fn url_of(address: SocketAddr) -> String {
    match address.ip().is_unspecified() {
        true => format!("http://{}", SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))),
        false => format!("http://{address}"),
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.serving.abort();
        self.runner.stop();
    }
}
