//! The CHIRP door: a WebSocket server that takes calls in.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{ChirpLeg, ChirpLimits, Credentials, RESULT_ID_HEADER, RUN_ID_HEADER, SCENARIO_ID_HEADER};
use crate::transport::tls::{self, TlsError, Wire};

/// How long a caller may take from its connection to the end of its upgrade.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Connections that may be in their handshake, or on their way out after a refusal, at the same time.
const MOST_HANDSHAKES: usize = 256;

/// How a door is set up.
#[derive(Debug, Clone)]
pub struct DoorConfig {
    /// Where it listens. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// `wss://` instead of `ws://`.
    pub tls: Option<TlsFiles>,
    /// Who may come in; none: anyone who reaches the door, which is why such a door must listen on loopback.
    pub credentials: Option<Credentials>,
    /// What a caller may not exceed.
    pub limits: ChirpLimits,
    /// Calls at the same time; another one is closed with 1008.
    pub max_calls: usize,
}

/// PEM files.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, and the chain above it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// A door that does not open.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Open to the network and to everyone.
    #[error("a door on {0}, which is not loopback, needs credentials")]
    Unguarded(SocketAddr),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A call that came in.
pub struct Arrival {
    /// The caller.
    pub leg: ChirpLeg,
    /// Where it came from.
    pub peer: SocketAddr,
    /// The run, if the caller's upgrade request told it.
    pub run_id: Option<String>,
    /// The result, likewise.
    pub result_id: Option<String>,
    /// The scenario, likewise.
    pub scenario_id: Option<String>,
}

/// An open door. Dropping it closes it; calls that came in go on.
pub struct Door {
    address: SocketAddr,
    arrivals: mpsc::Receiver<Arrival>,
    listening: JoinHandle<()>,
}

/// What every connection's handshake needs.
struct Threshold {
    config: DoorConfig,
    tls: Option<tokio_rustls::TlsAcceptor>,
    calls: Arc<Semaphore>,
    via: String,
}

impl Door {
    /// Opens a door.
    ///
    /// # Errors
    /// [`DoorError`]: the address is taken or not ours, the door is unguarded, the TLS files cannot be used.
    pub async fn open(config: DoorConfig) -> Result<Self, DoorError> {
        let listen = config.listen;
        if !listen.ip().is_loopback() && config.credentials.is_none() {
            return Err(DoorError::Unguarded(listen));
        }
        let files = config.tls.as_ref();
        let tls = files.map(|files| tls::server_config(&files.certificate, &files.key)).transpose()?;
        let listener = TcpListener::bind(listen).await.map_err(|source| DoorError::Listen { listen, source })?;
        let address = listener.local_addr().map_err(|source| DoorError::Listen { listen, source })?;
        let threshold = Threshold {
            via: format!("chirp door {address}"),
            calls: Arc::new(Semaphore::new(config.max_calls)),
            tls: tls.map(tokio_rustls::TlsAcceptor::from),
            config,
        };
        let (sender, arrivals) = mpsc::channel(16);
        let listening = tokio::spawn(listen_for(listener, Arc::new(threshold), sender));
        Ok(Self { address, arrivals, listening })
    }

    /// Where the door is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next call. Dropping the wait loses none.
    pub async fn next(&mut self) -> Arrival {
        match self.arrivals.recv().await {
            Some(arrival) => arrival,
            // The listening task ends with the door alone.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen_for(listener: TcpListener, threshold: Arc<Threshold>, arrivals: mpsc::Sender<Arrival>) {
    let handshakes = Arc::new(Semaphore::new(MOST_HANDSHAKES));
    loop {
        let permit = Arc::clone(&handshakes).acquire_owned().await.expect("the semaphore is never closed");
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or a connection that went away again: neither ends the door.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (threshold, arrivals) = (Arc::clone(&threshold), arrivals.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE_TIME, threshold.welcome(stream, peer)).await {
                Ok(Ok(Some(arrival))) => {
                    // The door closed meanwhile: so does the connection.
                    drop(arrivals.send(arrival).await);
                }
                Ok(Ok(None)) => {}
                Ok(Err(problem)) => tracing::info!("a connection from {peer} was no call: {problem}"),
                Err(_) => tracing::info!("a connection from {peer} took too long for its handshake"),
            }
            drop(permit);
        });
    }
}

impl Threshold {
    /// Takes a connection through its handshake; none when it is refused with a close.
    async fn welcome(&self, stream: TcpStream, peer: SocketAddr) -> Result<Option<Arrival>, String> {
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let wire: Box<dyn Wire> = match &self.tls {
            None => Box::new(stream),
            Some(tls) => Box::new(tls.accept(stream).await.map_err(|error| format!("TLS: {}", tls::explain(&error)))?),
        };
        let mut headers = HeaderMap::new();
        let web_socket = Some(self.config.limits.web_socket_config());
        // The callback's types are tungstenite's: it wants the whole response as its error.
        #[allow(clippy::result_large_err)]
        let check = |request: &Request, response: Response| {
            headers.clone_from(request.headers());
            self.admit(request).map(|()| response)
        };
        let socket = accept_hdr_async_with_config(wire, check, web_socket).await.map_err(|error| error.to_string())?;
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let permit = Arc::clone(&self.calls).try_acquire_owned().ok();
        let full = permit.is_none();
        let leg = ChirpLeg::new(socket, self.via.clone(), true, self.config.limits, permit);
        if full {
            let detail = format!("all {} calls are taken", self.config.max_calls);
            tracing::warn!("a call from {peer} was refused: {detail}");
            leg.refuse(&detail).await;
            return Ok(None);
        }
        let (run_id, result_id) = (header(RUN_ID_HEADER), header(RESULT_ID_HEADER));
        Ok(Some(Arrival { leg, peer, run_id, result_id, scenario_id: header(SCENARIO_ID_HEADER) }))
    }

    // tungstenite wants the whole response as the error.
    #[allow(clippy::result_large_err)]
    fn admit(&self, request: &Request) -> Result<(), ErrorResponse> {
        let Some(credentials) = &self.config.credentials else { return Ok(()) };
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if credentials.admits(given) {
            return Ok(());
        }
        let mut refusal = ErrorResponse::new(Some("wrong or missing credentials\n".to_owned()));
        *refusal.status_mut() = StatusCode::UNAUTHORIZED;
        let challenge = HeaderValue::from_static("Basic realm=\"trunkline\"");
        refusal.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        Err(refusal)
    }
}
