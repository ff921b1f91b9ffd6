//! The dial: a WebSocket client that places calls.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, Request, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use url::Url;

use super::{Socket, shown};
use crate::transport::tls::{self, TlsError, Wire};
use crate::transport::{SetUp, Stage};

/// Tries after the first (Cekura's CHIRP page: three).
const RETRIES: u32 = 3;
/// The pause before the first retry; it doubles.
const BACKOFF: Duration = Duration::from_millis(500);
/// How long one try may take.
const TRY_TIME: Duration = Duration::from_secs(10);

/// A call that could not be placed.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The far side does not take our credentials. Not tried again.
    #[error("websocket-authentication-failed: {} answered {status}", shown(url))]
    Authentication {
        /// Whom we dialled.
        url: Url,
        /// 401 or 403.
        status: u16,
    },
    /// The far side answers, but not with a WebSocket. Not tried again.
    #[error("{} is no {wire} WebSocket: it answered {status}", shown(url))]
    NotAWebSocket {
        /// Whom we dialled.
        url: Url,
        /// What it should have spoken.
        wire: &'static str,
        /// The HTTP status.
        status: u16,
    },
    /// Nobody there, each time that we tried.
    #[error("{} cannot be reached, tried {}: {problem}", shown(url), times(*tries))]
    Unreachable {
        /// Whom we dialled.
        url: Url,
        /// How often.
        tries: u32,
        /// What went wrong the last time.
        problem: String,
    },
    /// A header or an address that cannot be sent.
    #[error("cannot dial {}: {problem}", shown(url))]
    Request {
        /// Whom we would have dialled.
        url: Url,
        /// Why not.
        problem: String,
    },
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The headers of an upgrade request. Any of them may be secret: each is marked so. Tungstenite logs the request as it is sent
/// all the same, below `info`: the command line lets none of its lines through there.
///
/// # Errors
/// [`DialError::Request`], naming the header and not its value.
pub(in crate::transport) fn headers(
    url: &Url,
    told: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<(HeaderName, HeaderValue)>, DialError> {
    let header = |(name, value): (String, String)| {
        let problem = |problem: String| DialError::Request { url: url.clone(), problem: format!("header {name:?}: {problem}") };
        let header = HeaderName::try_from(&name).map_err(|error| problem(error.to_string()))?;
        let mut value = HeaderValue::try_from(&value).map_err(|error| problem(error.to_string()))?;
        value.set_sensitive(true);
        Ok((header, value))
    };
    told.into_iter().map(header).collect()
}

/// Connects to a WebSocket server that speaks `wire`; when it cannot be reached, tries again three times, with a growing pause,
/// or not at all where it is to be tried `once`.
///
/// # Errors
/// [`DialError`].
pub(in crate::transport) async fn connect(
    url: &Url,
    wire: &'static str,
    headers: &[(HeaderName, HeaderValue)],
    config: WebSocketConfig,
    once: bool,
    set_up: &mut SetUp,
) -> Result<Socket, DialError> {
    let mut pause = BACKOFF;
    let mut tries = 1;
    loop {
        let attempt = tokio::time::timeout(TRY_TIME, try_once(url, wire, headers, config, set_up));
        let problem = match attempt.await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(Attempt::Final(error))) => return Err(error),
            Ok(Err(Attempt::Again(problem))) => problem,
            Err(_) => format!("no answer within {} s", TRY_TIME.as_secs()),
        };
        if once || tries > RETRIES {
            return Err(DialError::Unreachable { url: url.clone(), tries, problem });
        }
        tracing::info!("{} cannot be reached ({problem}); trying again in {} ms", shown(url), pause.as_millis());
        tokio::time::sleep(pause).await;
        pause *= 2;
        tries += 1;
        set_up.again();
    }
}

/// `once`, `4 times`.
fn times(tries: u32) -> String {
    if tries == 1 { "once".to_owned() } else { format!("{tries} times") }
}

/// Why one try failed.
enum Attempt {
    Again(String),
    Final(DialError),
}

async fn try_once(
    url: &Url,
    wire: &'static str,
    headers: &[(HeaderName, HeaderValue)],
    config: WebSocketConfig,
    set_up: &mut SetUp,
) -> Result<Socket, Attempt> {
    open(url, headers, config, set_up).await.map_err(|error| match error {
        OpenError::Status(status) => refused(url, wire, status),
        OpenError::Broken(problem) => Attempt::Again(problem),
        OpenError::Never(error) => Attempt::Final(error),
    })
}

/// Why a WebSocket was not opened.
pub(in crate::transport) enum OpenError {
    /// The far side answered the upgrade with this.
    Status(StatusCode),
    /// The far side is not there, or breaks off.
    Broken(String),
    /// No other try will do better.
    Never(DialError),
}

/// Opens a WebSocket, in one try and with no limit of time. Its stages are `tcp`, `tls` and `web_socket`.
///
/// # Errors
/// [`OpenError`].
pub(in crate::transport) async fn open(
    url: &Url,
    headers: &[(HeaderName, HeaderValue)],
    config: WebSocketConfig,
    set_up: &mut SetUp,
) -> Result<Socket, OpenError> {
    let broken = |error: io::Error| OpenError::Broken(error.to_string());
    let request = request(url, headers).map_err(OpenError::Never)?;
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);
    set_up.enter(Stage::Tcp);
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await.map_err(broken)?;
    stream.set_nodelay(true).map_err(broken)?;
    let stream: Box<dyn Wire> = if url.scheme() == "wss" {
        set_up.enter(Stage::Tls);
        let config = tls::client_config().map_err(|error| OpenError::Never(error.into()))?;
        let name = host.trim_matches(['[', ']']).to_owned();
        let name = rustls::pki_types::ServerName::try_from(name)
            .map_err(|error| OpenError::Never(DialError::Request { url: url.clone(), problem: error.to_string() }))?;
        let connected = tokio_rustls::TlsConnector::from(config).connect(name, stream).await;
        Box::new(connected.map_err(|error| OpenError::Broken(tls::explain(&error)))?)
    } else {
        Box::new(stream)
    };
    set_up.enter(Stage::WebSocket);
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => {
            set_up.done();
            Ok(socket)
        }
        Err(WsError::Http(response)) => Err(OpenError::Status(response.status())),
        Err(error) => Err(OpenError::Broken(error.to_string())),
    }
}

fn refused(url: &Url, wire: &'static str, status: StatusCode) -> Attempt {
    let (url, code) = (url.clone(), status.as_u16());
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Attempt::Final(DialError::Authentication { url, status: code }),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Attempt::Again(format!("it answered {status}"))
        }
        _ => Attempt::Final(DialError::NotAWebSocket { url, wire, status: code }),
    }
}

fn request(url: &Url, headers: &[(HeaderName, HeaderValue)]) -> Result<Request<()>, DialError> {
    let problem = |error: WsError| DialError::Request { url: url.clone(), problem: error.to_string() };
    let mut request = url.as_str().into_client_request().map_err(problem)?;
    for (name, value) in headers {
        request.headers_mut().insert(name, value.clone());
    }
    Ok(request)
}
