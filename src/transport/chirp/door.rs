//! The CHIRP door: a WebSocket server that takes calls in.

use std::net::SocketAddr;

use tokio_tungstenite::tungstenite::http::{HeaderValue, Response, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::{ChirpLeg, ChirpLimits, Credentials};
use crate::transport::web_socket::{Admitted, Entrance, Request, Taken, TlsFiles, refusal, web_socket_config};

/// How a CHIRP door is set up.
#[derive(Debug, Clone)]
pub struct ChirpDoor {
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

impl ChirpDoor {
    /// A door at `listen` with no credentials, 64 calls, messages of 1 MiB and no idle time.
    #[must_use]
    pub fn at(listen: SocketAddr) -> Self {
        Self { listen, tls: None, credentials: None, limits: ChirpLimits::default(), max_calls: 64 }
    }
}

impl Entrance for ChirpDoor {
    fn wire(&self) -> &'static str {
        "chirp"
    }

    fn listen(&self) -> SocketAddr {
        self.listen
    }

    fn tls(&self) -> Option<&TlsFiles> {
        self.tls.as_ref()
    }

    fn guarded(&self) -> bool {
        self.credentials.is_some()
    }

    fn max_calls(&self) -> usize {
        self.max_calls
    }

    fn web_socket(&self) -> WebSocketConfig {
        web_socket_config(self.limits.max_message)
    }

    fn refusal(&self, request: &Request) -> Option<Response<String>> {
        let credentials = self.credentials.as_ref()?;
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if credentials.admits(given) {
            return None;
        }
        let mut refusal = refusal(StatusCode::UNAUTHORIZED, "wrong or missing credentials\n".to_owned());
        let challenge = HeaderValue::from_static("Basic realm=\"trunkline\"");
        refusal.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        Some(refusal)
    }

    async fn admit(&self, taken: Taken) -> Result<Admitted, String> {
        Ok(ChirpLeg::new(taken.socket, taken.via, true, self.limits, Some(taken.permit)).into())
    }
}
