//! The chat door: a WebSocket server that takes Cekura's text runs in, on any path.

use std::net::SocketAddr;
use std::time::Duration;

use tokio_tungstenite::tungstenite::http::{Response, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::session::{IDLE, SessionRules};
use super::{ChatLeg, MAX_MESSAGE, SECRET_HEADER};
use crate::transport::Secret;
use crate::transport::web_socket::{Admitted, Entrance, Request, Taken, TlsFiles, refusal, web_socket_config};

/// How a chat door is set up.
#[derive(Debug, Clone)]
pub struct ChatDoor {
    /// Where it listens. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// `wss://` instead of `ws://`.
    pub tls: Option<TlsFiles>,
    /// What a caller must send as `X-VOCERA-SECRET`; none: anyone who reaches the door, which is why such a door must listen on
    /// loopback.
    pub secret: Option<Secret>,
    /// The agent is to say the first word; none: not known.
    pub agent_speaks_first: Option<bool>,
    /// Calls at the same time; another one is closed with 1008.
    pub max_calls: usize,
    /// The longest message, in bytes; a longer one closes the connection with 1009.
    pub max_message: usize,
    /// The longest time without a content message of either side; none: for ever.
    pub idle: Option<Duration>,
}

impl ChatDoor {
    /// A door at `listen` with no secret, 64 calls, messages of 1 MiB and Cekura's idle time of 5 minutes.
    #[must_use]
    pub fn at(listen: SocketAddr) -> Self {
        Self {
            listen,
            tls: None,
            secret: None,
            agent_speaks_first: None,
            max_calls: 64,
            max_message: MAX_MESSAGE,
            idle: Some(IDLE),
        }
    }
}

impl Entrance for ChatDoor {
    fn wire(&self) -> &'static str {
        "chat"
    }

    fn listen(&self) -> SocketAddr {
        self.listen
    }

    fn tls(&self) -> Option<&TlsFiles> {
        self.tls.as_ref()
    }

    fn guarded(&self) -> bool {
        self.secret.is_some()
    }

    fn max_calls(&self) -> usize {
        self.max_calls
    }

    fn agent_speaks_first(&self) -> Option<bool> {
        self.agent_speaks_first
    }

    fn web_socket(&self) -> WebSocketConfig {
        web_socket_config(self.max_message)
    }

    fn refusal(&self, request: &Request) -> Option<Response<String>> {
        let secret = self.secret.as_ref()?;
        let problem = match request.headers().get(SECRET_HEADER) {
            None => "missing",
            Some(given) if !secret.admits(given.as_bytes()) => "wrong",
            Some(_) => return None,
        };
        Some(refusal(StatusCode::UNAUTHORIZED, format!("the {SECRET_HEADER} header is {problem}\n")))
    }

    async fn admit(&self, taken: Taken) -> Result<Admitted, String> {
        let (idle, agent_speaks_first) = (self.idle, self.agent_speaks_first);
        let rules = SessionRules { idle, pings: false, far_is_caller: true, agent_speaks_first };
        Ok(ChatLeg::new(taken.socket, taken.via, rules, Some(taken.permit)).into())
    }
}
