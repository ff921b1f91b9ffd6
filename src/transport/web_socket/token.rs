//! A door whose callers show a token: for wires that have no credentials of their own.

use std::net::SocketAddr;
use std::time::Duration;

use tokio_tungstenite::tungstenite::http::{self, HeaderValue, Response, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::Taken;
use super::door::{Admitted, Entrance, Request, TlsFiles, refusal};
use super::link::web_socket_config;
use crate::transport::Secret;

/// How such a door is set up.
#[derive(Debug, Clone)]
pub struct TokenDoor {
    /// Where it listens. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// `wss://` instead of `ws://`.
    pub tls: Option<TlsFiles>,
    /// What a caller must show: as `Authorization: Bearer TOKEN`, as `?token=TOKEN`, or as the last segment of the path. None:
    /// anyone who reaches the door may come in, which is why such a door must listen on loopback.
    pub token: Option<Secret>,
    /// Calls at the same time; another one is closed with 1008.
    pub max_calls: usize,
    /// The longest message, in bytes; a longer one closes the connection with 1008.
    pub max_message: usize,
    /// How long a caller may send nothing; then the connection is closed with 1008. None: for ever.
    pub idle: Option<Duration>,
}

impl TokenDoor {
    /// A door at `listen` with no token, 64 calls, messages of 1 MiB and no idle time.
    #[must_use]
    pub fn at(listen: SocketAddr) -> Self {
        Self { listen, tls: None, token: None, max_calls: 64, max_message: 1 << 20, idle: None }
    }

    /// The refusal of an upgrade request that does not show the token.
    fn refusal(&self, request: &Request) -> Option<Response<String>> {
        let token = self.token.as_ref()?;
        if shows(request, token) {
            return None;
        }
        let mut refusal = refusal(StatusCode::UNAUTHORIZED, "wrong or missing token\n".to_owned());
        refusal.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Some(refusal)
    }
}

/// A request shows the token: as `Authorization: Bearer TOKEN`, as `?token=TOKEN`, or as the last segment of its path.
pub(in crate::transport) fn shows<T>(request: &http::Request<T>, token: &Secret) -> bool {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = header.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let query = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
    let query = query.filter(|(name, _)| name == "token").map(|(_, token)| token.into_owned().into_bytes());
    let segment = request.uri().path().rsplit('/').next().unwrap_or_default().as_bytes().to_vec();
    let bearer = bearer.map(|(_, token)| token.trim().as_bytes().to_vec());
    bearer.into_iter().chain(query).chain([segment]).any(|given| token.admits(&given))
}

/// A door whose callers show a token, but for what is its own.
pub trait TokenEntrance: Send + Sync + 'static {
    /// The wire's name.
    fn wire(&self) -> &'static str;
    /// Where it is, and for whom.
    fn door(&self) -> &TokenDoor;
    /// Takes a call that came in, as [`Entrance::admit`].
    fn admit(&self, taken: Taken) -> impl Future<Output = Result<Admitted, String>> + Send;
}

impl<E: TokenEntrance> Entrance for E {
    fn wire(&self) -> &'static str {
        TokenEntrance::wire(self)
    }

    fn listen(&self) -> SocketAddr {
        self.door().listen
    }

    fn tls(&self) -> Option<&TlsFiles> {
        self.door().tls.as_ref()
    }

    fn guarded(&self) -> bool {
        self.door().token.is_some()
    }

    fn max_calls(&self) -> usize {
        self.door().max_calls
    }

    fn web_socket(&self) -> WebSocketConfig {
        web_socket_config(self.door().max_message)
    }

    fn refusal(&self, request: &Request) -> Option<Response<String>> {
        self.door().refusal(request)
    }

    fn admit(&self, taken: Taken) -> impl Future<Output = Result<Admitted, String>> + Send {
        TokenEntrance::admit(self, taken)
    }
}
