//! The door: a WebSocket server that takes calls in.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
pub use tokio_tungstenite::tungstenite::handshake::server::Request;
use tokio_tungstenite::tungstenite::handshake::server::{create_response, write_response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::link::refuse;
use super::{ID_HEADERS, Socket, Taken};
use crate::transport::arrival::{Arrival, Arrivals, CallerLeg};
use crate::transport::origin;
use crate::transport::tls::{self, TlsError, Wire};

/// How long a caller may take from its connection to the end of its upgrade.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Connections that may be in their handshake, or on their way out after a refusal, at the same time.
const MOST_HANDSHAKES: usize = 256;
/// The longest head of an upgrade request, in bytes.
const LONGEST_HEAD: usize = 32 * 1024;

/// What is a door's own: its wire, who may come in, what a call's leg is.
pub trait Entrance: Send + Sync + 'static {
    /// The wire's name: `chirp`, `chat`.
    fn wire(&self) -> &'static str;
    /// Where it listens. Port 0 takes any free one.
    fn listen(&self) -> SocketAddr;
    /// `wss://` instead of `ws://`.
    fn tls(&self) -> Option<&TlsFiles>;
    /// Nobody comes in without credentials. A door that is not guarded must listen on loopback.
    fn guarded(&self) -> bool;
    /// Calls at the same time; another one is closed with 1008.
    fn max_calls(&self) -> usize;
    /// The agent is to say the first word; none: not known.
    fn agent_speaks_first(&self) -> Option<bool> {
        None
    }
    /// Buffers and limits of its WebSockets.
    fn web_socket(&self) -> WebSocketConfig;
    /// The refusal of an upgrade request; none: it may come in.
    fn refusal(&self, request: &Request) -> Option<Response<String>>;
    /// Takes a call that came in. What must be heard of it before it is one is waited for, within the time of the handshake; who
    /// is no caller is closed here, and the error is logged.
    fn admit(&self, taken: Taken) -> impl Future<Output = Result<Admitted, String>> + Send;
}

/// A call that was taken in.
pub struct Admitted {
    /// The caller.
    pub leg: Box<dyn CallerLeg>,
    /// The run, the result and the scenario, where the caller tells them on its wire. The headers of its upgrade request go
    /// before them.
    pub ids: [Option<String>; 3],
    /// What else it says of the call.
    pub metadata: Option<String>,
}

/// A caller that says nothing of the call on its wire.
impl<L: CallerLeg + 'static> From<L> for Admitted {
    fn from(leg: L) -> Self {
        Self { leg: Box::new(leg), ids: [None, None, None], metadata: None }
    }
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
        /// The door's wire.
        wire: &'static str,
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Open to the network and to everyone.
    #[error("a {wire} door on {listen}, which is not loopback, needs credentials")]
    Unguarded {
        /// The door's wire.
        wire: &'static str,
        /// The address.
        listen: SocketAddr,
    },
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// An open door. Dropping it closes it; calls that came in go on.
pub struct Door {
    wire: &'static str,
    tls: bool,
    address: SocketAddr,
    arrivals: Arrivals,
}

/// What every connection's handshake needs.
struct Threshold<E> {
    entrance: E,
    tls: Option<tokio_rustls::TlsAcceptor>,
    calls: Arc<Semaphore>,
    via: String,
}

impl Door {
    /// Opens a door.
    ///
    /// # Errors
    /// [`DoorError`]: the address is taken or not ours, the door is unguarded, the TLS files cannot be used.
    pub async fn open(entrance: impl Entrance) -> Result<Self, DoorError> {
        let (wire, listen) = (entrance.wire(), entrance.listen());
        if !listen.ip().is_loopback() && !entrance.guarded() {
            return Err(DoorError::Unguarded { wire, listen });
        }
        let tls = entrance.tls().map(|files| tls::server_config(&files.certificate, &files.key)).transpose()?;
        let deaf = |source| DoorError::Listen { wire, listen, source };
        let listener = TcpListener::bind(listen).await.map_err(deaf)?;
        let address = listener.local_addr().map_err(deaf)?;
        let encrypted = tls.is_some();
        let threshold = Threshold {
            via: format!("{wire} door {address}"),
            calls: Arc::new(Semaphore::new(entrance.max_calls())),
            tls: tls.map(tokio_rustls::TlsAcceptor::from),
            entrance,
        };
        let arrivals = Arrivals::from_task(|sender| listen_for(listener, Arc::new(threshold), sender));
        Ok(Self { wire, tls: encrypted, address, arrivals })
    }

    /// The wire's name.
    #[must_use]
    pub fn wire(&self) -> &'static str {
        self.wire
    }

    /// Where the door is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the door is, as its callers write it: `ws://127.0.0.1:8765/`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}/", if self.tls { "wss" } else { "ws" }, self.address)
    }

    /// The next call. Dropping the wait loses none.
    pub async fn next(&mut self) -> Arrival {
        self.arrivals.next().await
    }
}

impl From<Door> for Arrivals {
    fn from(door: Door) -> Self {
        door.arrivals
    }
}

async fn listen_for<E: Entrance>(listener: TcpListener, threshold: Arc<Threshold<E>>, arrivals: mpsc::Sender<Arrival>) {
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

impl<E: Entrance> Threshold<E> {
    /// Takes a connection through its handshake; none when it is refused with a close.
    async fn welcome(&self, stream: TcpStream, peer: SocketAddr) -> Result<Option<Arrival>, String> {
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let wire: Box<dyn Wire> = match &self.tls {
            None => Box::new(stream),
            Some(tls) => Box::new(tls.accept(stream).await.map_err(|error| format!("TLS: {}", tls::explain(&error)))?),
        };
        let Some((socket, headers)) = self.upgrade(wire).await? else { return Ok(None) };
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let Ok(permit) = Arc::clone(&self.calls).try_acquire_owned() else {
            let detail = format!("all {} calls are taken", self.entrance.max_calls());
            tracing::warn!("a call from {peer} was refused: {detail}");
            refuse(socket, detail).await;
            return Ok(None);
        };
        let taken = Taken { socket, via: self.via.clone(), permit };
        let agent_speaks_first = self.entrance.agent_speaks_first();
        let Admitted { leg, ids, metadata } = self.entrance.admit(taken).await?;
        let told = ID_HEADERS.map(|names| names.into_iter().find_map(header));
        let [run_id, result_id, scenario_id] = std::array::from_fn(|id| told[id].clone().or_else(|| ids[id].clone()));
        Ok(Some(Arrival { leg, peer: peer.to_string(), run_id, result_id, scenario_id, agent_speaks_first, metadata }))
    }

    fn refusal(&self, request: &Request) -> Option<Response<String>> {
        if self.entrance.guarded() {
            return self.entrance.refusal(request);
        }
        origin::stranger(request.headers()).map(|problem| refusal(StatusCode::FORBIDDEN, format!("{problem}\n")))
    }

    /// The HTTP part (RFC 6455 section 4.2). None when it was another request, which is answered: a plain GET asks whether the
    /// door is there, as a load balancer or a tunnel does.
    async fn upgrade(&self, mut wire: Box<dyn Wire>) -> Result<Option<(Socket, HeaderMap)>, String> {
        let (request, rest) = match read_head(&mut wire).await {
            Ok(read) => read,
            Err(problem) => {
                answer(&mut wire, &refusal(StatusCode::BAD_REQUEST, format!("{problem}\n"))).await?;
                return Err(problem);
            }
        };
        let wants = request.headers().contains_key(header::UPGRADE);
        let refused = match create_response(&request) {
            _ if !wants => {
                let text = format!("trunkline: a {} door, to be called over a WebSocket\n", self.entrance.wire());
                answer(&mut wire, &refusal(StatusCode::OK, text)).await?;
                return Ok(None);
            }
            Err(error) => refusal(StatusCode::BAD_REQUEST, format!("{error}\n")),
            Ok(response) => match self.refusal(&request) {
                Some(refused) => refused,
                None => {
                    answer(&mut wire, &response).await?;
                    let config = Some(self.entrance.web_socket());
                    let socket = WebSocketStream::from_partially_read(wire, rest, Role::Server, config).await;
                    return Ok(Some((socket, request.into_parts().0.headers)));
                }
            },
        };
        let problem = format!("refused with {}: {}", refused.status(), refused.body().trim_end());
        answer(&mut wire, &refused).await?;
        Err(problem)
    }
}

/// A request's head and what came after it.
async fn read_head(wire: &mut Box<dyn Wire>) -> Result<(Request, Vec<u8>), String> {
    let mut bytes = Vec::new();
    loop {
        if let Some((length, request)) = Request::try_parse(&bytes).map_err(|error| error.to_string())? {
            return Ok((request, bytes.split_off(length)));
        }
        if bytes.len() >= LONGEST_HEAD {
            return Err(format!("the request's head is longer than {LONGEST_HEAD} bytes"));
        }
        if wire.read_buf(&mut bytes).await.map_err(|error| error.to_string())? == 0 {
            return Err("it closed before its request was whole".to_owned());
        }
    }
}

/// A short answer in words; the connection ends with it.
pub(in crate::transport) fn refusal(status: StatusCode, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let length = HeaderValue::from(response.body().len());
    let fixed: [(HeaderName, HeaderValue); 3] = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (header::CONNECTION, HeaderValue::from_static("close")),
        (header::CONTENT_LENGTH, length),
    ];
    response.headers_mut().extend(fixed);
    response
}

async fn answer<B: Body>(wire: &mut Box<dyn Wire>, response: &Response<B>) -> Result<(), String> {
    let mut bytes = Vec::new();
    write_response(&mut bytes, response).map_err(|error| error.to_string())?;
    bytes.extend_from_slice(response.body().bytes());
    wire.write_all(&bytes).await.map_err(|error| error.to_string())?;
    wire.flush().await.map_err(|error| error.to_string())
}

/// The body of an answer.
trait Body {
    fn bytes(&self) -> &[u8];
}

impl Body for () {
    fn bytes(&self) -> &[u8] {
        &[]
    }
}

impl Body for String {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}
