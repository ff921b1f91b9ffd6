//! LiveKit's webhooks: the server posts what happens in its rooms (<https://docs.livekit.io/intro/basics/rooms-participants-tracks/webhooks-events/>). Only those that are
//! signed with our own key and secret are believed; each names a room that is worth a look.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use livekit_api::webhooks::{WebhookError, WebhookReceiver};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::super::Server;

/// The longest body that is read, in bytes.
const LONGEST: usize = 1 << 20;
/// Rooms that may wait for a look; what comes then is found by listing.
const MOST_WAITING: usize = 1_024;

/// A door for a server's webhooks. It is closed when this is dropped.
#[derive(Debug)]
pub struct Webhooks {
    address: SocketAddr,
    rooms: mpsc::Receiver<String>,
    serving: JoinHandle<()>,
}

/// The webhooks' door does not open.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for webhooks on {address}: {source}")]
pub struct WebhooksError {
    /// Where.
    pub address: SocketAddr,
    /// Why not.
    pub source: std::io::Error,
}

struct Desk {
    receiver: WebhookReceiver,
    rooms: mpsc::Sender<String>,
}

impl Webhooks {
    /// Listens for the webhooks of `server`, on any path.
    ///
    /// # Errors
    /// [`WebhooksError`].
    pub async fn open(address: SocketAddr, server: &Server) -> Result<Self, WebhooksError> {
        let failed = |source| WebhooksError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (sender, rooms) = mpsc::channel(MOST_WAITING);
        let desk = Arc::new(Desk { receiver: server.webhooks(), rooms: sender });
        let router = Router::new().fallback(axum::routing::post(take).with_state(desk)).layer(DefaultBodyLimit::max(LONGEST));
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!("no webhooks come any more: {error}");
            }
        });
        Ok(Self { address, rooms, serving })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next room that something happened in.
    pub(super) async fn room(&mut self) -> String {
        match self.rooms.recv().await {
            Some(room) => room,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Webhooks {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let token = token.strip_prefix("Bearer ").unwrap_or(token);
    let Ok(body) = std::str::from_utf8(&body) else { return StatusCode::BAD_REQUEST };
    let room = match desk.receiver.receive(body, token) {
        Ok(event) => event.room.map(|room| room.name),
        // It is the server's, and has fields that a later version has brought.
        Err(WebhookError::InvalidData(_)) => serde_json::from_str::<serde_json::Value>(body)
            .ok()
            .and_then(|event| Some(event.get("room")?.get("name")?.as_str()?.to_owned())),
        Err(error) => {
            tracing::warn!("a webhook that is not the server's is refused: {error}");
            return StatusCode::UNAUTHORIZED;
        }
    };
    if let Some(room) = room.filter(|room| !room.is_empty()) {
        // When too many wait, the rooms are found by listing.
        drop(desk.rooms.try_send(room));
    }
    StatusCode::OK
}
