//! The CHIRP dial: a WebSocket client that places calls.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, Request, StatusCode, header};
use url::Url;

use super::{ChirpLeg, ChirpLimits, Credentials};
use crate::transport::tls::{self, TlsError, Wire};

/// Tries after the first (Cekura's CHIRP page: three).
const RETRIES: u32 = 3;
/// The pause before the first retry; it doubles.
const BACKOFF: Duration = Duration::from_millis(500);
/// How long one try may take.
const TRY_TIME: Duration = Duration::from_secs(10);

/// How to dial.
#[derive(Debug, Clone, Default)]
pub struct DialOptions {
    /// Sent as HTTP Basic authentication.
    pub credentials: Option<Credentials>,
    /// More headers of the upgrade request.
    pub headers: Vec<(String, String)>,
    /// What the far side may not exceed.
    pub limits: ChirpLimits,
    /// The far side sends audio without a gap: it is a caller and not an agent.
    pub continuous: bool,
}

/// A call that could not be placed.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The far side does not take our credentials. Not tried again.
    #[error("websocket-authentication-failed: {url} answered {status}")]
    Authentication {
        /// Whom we dialled.
        url: Url,
        /// 401 or 403.
        status: u16,
    },
    /// The far side answers, but not with a WebSocket. Not tried again.
    #[error("{url} is no CHIRP WebSocket: it answered {status}")]
    NotAWebSocket {
        /// Whom we dialled.
        url: Url,
        /// The HTTP status.
        status: u16,
    },
    /// Nobody there, each time that we tried.
    #[error("{url} cannot be reached, tried {tries} times: {problem}")]
    Unreachable {
        /// Whom we dialled.
        url: Url,
        /// How often.
        tries: u32,
        /// What went wrong the last time.
        problem: String,
    },
    /// A header or an address that cannot be sent.
    #[error("cannot dial {url}: {problem}")]
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

/// Connects to a CHIRP server; tries again three times, with a growing pause, when it cannot be reached.
///
/// # Errors
/// [`DialError`].
pub async fn dial(url: &Url, options: &DialOptions) -> Result<ChirpLeg, DialError> {
    let mut pause = BACKOFF;
    let mut tries = 1;
    loop {
        let attempt = tokio::time::timeout(TRY_TIME, try_once(url, options));
        let problem = match attempt.await {
            Ok(Ok(leg)) => return Ok(leg),
            Ok(Err(Attempt::Final(error))) => return Err(error),
            Ok(Err(Attempt::Again(problem))) => problem,
            Err(_) => format!("no answer within {} s", TRY_TIME.as_secs()),
        };
        if tries > RETRIES {
            return Err(DialError::Unreachable { url: url.clone(), tries, problem });
        }
        tracing::info!("{url} cannot be reached ({problem}); trying again in {} ms", pause.as_millis());
        tokio::time::sleep(pause).await;
        pause *= 2;
        tries += 1;
    }
}

/// Why one try failed.
enum Attempt {
    Again(String),
    Final(DialError),
}

async fn try_once(url: &Url, options: &DialOptions) -> Result<ChirpLeg, Attempt> {
    let again = |error: io::Error| Attempt::Again(error.to_string());
    let request = request(url, options).map_err(Attempt::Final)?;
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await.map_err(again)?;
    stream.set_nodelay(true).map_err(again)?;
    let wire: Box<dyn Wire> = if url.scheme() == "wss" {
        let config = tls::client_config().map_err(|error| Attempt::Final(error.into()))?;
        let name = host.trim_matches(['[', ']']).to_owned();
        let name = rustls::pki_types::ServerName::try_from(name)
            .map_err(|error| Attempt::Final(DialError::Request { url: url.clone(), problem: error.to_string() }))?;
        let connected = tokio_rustls::TlsConnector::from(config).connect(name, stream).await;
        Box::new(connected.map_err(|error| Attempt::Again(tls::explain(&error)))?)
    } else {
        Box::new(stream)
    };
    let web_socket = Some(options.limits.web_socket_config());
    match client_async_with_config(request, wire, web_socket).await {
        Ok((socket, _)) => {
            let via = url.as_str().replacen("ws", "chirp", 1);
            Ok(ChirpLeg::new(socket, via, options.continuous, options.limits, None))
        }
        Err(WsError::Http(response)) => Err(refused(url, response.status())),
        Err(error) => Err(Attempt::Again(error.to_string())),
    }
}

fn refused(url: &Url, status: StatusCode) -> Attempt {
    let (url, code) = (url.clone(), status.as_u16());
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Attempt::Final(DialError::Authentication { url, status: code }),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Attempt::Again(format!("it answered {status}"))
        }
        _ => Attempt::Final(DialError::NotAWebSocket { url, status: code }),
    }
}

fn request(url: &Url, options: &DialOptions) -> Result<Request<()>, DialError> {
    let problem = |problem: String| DialError::Request { url: url.clone(), problem };
    let mut request = url.as_str().into_client_request().map_err(|error| problem(error.to_string()))?;
    if let Some(credentials) = &options.credentials {
        let mut value = HeaderValue::from_str(&credentials.header()).map_err(|error| problem(error.to_string()))?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    for (name, value) in &options.headers {
        let header_name = HeaderName::try_from(name).map_err(|error| problem(format!("header {name:?}: {error}")))?;
        let value = HeaderValue::try_from(value).map_err(|error| problem(format!("header {name:?}: {error}")))?;
        request.headers_mut().insert(header_name, value);
    }
    Ok(request)
}
