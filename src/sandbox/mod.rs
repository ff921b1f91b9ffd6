//! The local stand-in for Cekura's API: the same HTTP paths, shapes, errors and statuses, kept in SQLite. A run is really
//! carried out: a [`Carrier`] dials its address with the scripted caller.
//!
//! It stands in for what cannot be had offline. It judges nothing but what a script can: whether the call was carried out
//! to its end.

mod answers;
mod caller;
mod carrier;
mod http;
mod request;
mod runner;
mod store;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use caller::{PACING_SLIP_KEY, ScriptedCarrier};
pub use carrier::{
    CancelSwitch, CancelToken, Carrier, Progress, RunEnd, RunOrder, RunOutcome, Speaker, TestProfile, TranscriptLine,
};

use crate::cekura::Key;
use runner::Runner;
use store::Store;

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
    /// Open to the network and to everyone.
    #[error("a sandbox on {0}, which is not loopback, needs a key (CEKURA_API_KEY)")]
    Unguarded(SocketAddr),
}

/// A scenario as the sandbox knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct SandboxScenario {
    /// Its id: its place in the suite, from 1.
    pub id: u64,
    /// Its key in the suite.
    pub key: Option<String>,
    /// Its name.
    pub name: String,
    /// What is to come out of it.
    pub expected_outcome: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its longest call.
    pub max_duration: Option<Duration>,
    /// Its own test profile.
    pub test_profile: Option<TestProfile>,
}

/// How a sandbox is set up.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The folder of its database.
    pub data: PathBuf,
    /// The key that requests must carry; none: any.
    pub key: Option<Key>,
    /// What can be run.
    pub scenarios: Vec<SandboxScenario>,
    /// The agent's own address, for starts without one.
    pub agent_websocket_url: Option<String>,
}

/// A sandbox that is open. Dropping it closes it, and ends its calls.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    runner: Arc<Runner>,
    serving: JoinHandle<()>,
}

impl Sandbox {
    /// Opens a sandbox.
    ///
    /// # Errors
    /// [`SandboxError`].
    pub async fn open(config: SandboxConfig, carrier: Arc<dyn Carrier>) -> Result<Self, SandboxError> {
        let listen = config.listen;
        if !listen.ip().is_loopback() && config.key.is_none() {
            return Err(SandboxError::Unguarded(listen));
        }
        let store = Store::open(&config.data)?;
        let listener = TcpListener::bind(listen).await.map_err(|source| SandboxError::Listen { listen, source })?;
        let address = listener.local_addr().map_err(|source| SandboxError::Listen { listen, source })?;
        let runner = Arc::new(Runner::new(store, config.scenarios, carrier));
        let api = http::Api { runner: Arc::clone(&runner), key: config.key, agent_url: config.agent_websocket_url };
        let router = http::router(api);
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!("the sandbox has stopped listening: {error}");
            }
        });
        Ok(Self { address, runner, serving })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address for a client.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.serving.abort();
        self.runner.stop();
    }
}
