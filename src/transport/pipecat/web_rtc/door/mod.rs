//! The door: takes offers as a bot's server does (`/api/offer`, and `/start` with its sessions), so that a Pipecat client can call any
//! agent, and has a page of its own on which a browser can.

mod http;
mod leg;
mod reception;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use self::leg::{Asked, ClientLeg};
use self::reception::{Asker, Reception};
use super::line::Line;
use crate::transport::pipecat::ice::IceServers;
use crate::transport::web_socket::{DoorError, TlsFiles};
use crate::transport::webrtc::PeerError;
use crate::transport::{Arrival, Arrivals, Secret, tls};

/// The door's name.
pub const WIRE: &str = "pipecat-webrtc";
/// What may be asked of a call that has not been answered yet.
const MOST_ASKED: usize = 16;
/// Sessions that were started and not called yet. The oldest goes when there are more.
const MOST_SESSIONS: usize = 1024;
/// How long a call may take to answer another offer.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// A door for offers. Pages of other origins than its own may call too (CORS): all that show the token, or without a token those that
/// are served from this machine.
#[derive(Debug, Clone)]
pub struct OfferDoor {
    /// Where it listens. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// `https://` instead of `http://`: a browser on another machine gives its microphone to no other page.
    pub tls: Option<TlsFiles>,
    /// What a client sends as `Authorization: Bearer`, or as `token` in the address. A door without it must listen on loopback.
    pub token: Option<Secret>,
    /// Calls at the same time; another one is refused with 503.
    pub max_calls: usize,
    /// STUN and TURN servers, which the client is told of too.
    pub ice: IceServers,
    /// The agent is to say the first word; none: not known.
    pub agent_speaks_first: Option<bool>,
}

/// An open door. Dropping it closes it; calls that came in go on.
pub struct OpenOfferDoor {
    address: SocketAddr,
    encrypted: bool,
    arrivals: Arrivals,
}

impl OfferDoor {
    /// Opens the door.
    ///
    /// # Errors
    /// [`DoorError`]: the address is taken or not ours, the door is unguarded, the TLS files cannot be used.
    pub async fn open(self) -> Result<OpenOfferDoor, DoorError> {
        let listen = self.listen;
        if !listen.ip().is_loopback() && self.token.is_none() {
            return Err(DoorError::Unguarded { wire: WIRE, listen });
        }
        let tls = self.tls.as_ref().map(|files| tls::server_config(&files.certificate, &files.key)).transpose()?;
        let encrypted = tls.is_some();
        let deaf = |source| DoorError::Listen { wire: WIRE, listen, source };
        let listener = TcpListener::bind(listen).await.map_err(deaf)?;
        let address = listener.local_addr().map_err(deaf)?;
        let arrivals = Arrivals::from_task(|sender| async move {
            let desk = Arc::new(Desk::new(self, address, sender));
            let reception = Reception::new(listener, tls.map(TlsAcceptor::from));
            let service = http::router(desk).into_make_service_with_connect_info::<Asker>();
            if let Err(error) = axum::serve(reception, service).await {
                tracing::error!("the {WIRE} door closed: {error}");
            }
        });
        Ok(OpenOfferDoor { address, encrypted, arrivals })
    }
}

impl OpenOfferDoor {
    /// Where the door is.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its page.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http{}://{}/", if self.encrypted { "s" } else { "" }, self.address)
    }
}

impl From<OpenOfferDoor> for Arrivals {
    fn from(door: OpenOfferDoor) -> Self {
        door.arrivals
    }
}

/// What the requests share.
struct Desk {
    door: OfferDoor,
    via: String,
    arrivals: mpsc::Sender<Arrival>,
    places: Arc<Semaphore>,
    calls: Mutex<HashMap<String, mpsc::Sender<Asked>>>,
    /// The oldest first.
    sessions: Mutex<Vec<(String, Option<Value>)>>,
}

/// An offer that is not answered.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("all {0} calls are taken")]
    Full(usize),
    #[error("no call has the pc_id {0:?}")]
    UnknownCall(String),
    #[error("no session has the id {0:?}")]
    UnknownSession(String),
    #[error(transparent)]
    Offer(#[from] PeerError),
    #[error("the offer has no audio that goes both ways")]
    NoAudio,
    #[error("the call is over")]
    Over,
    #[error("{0}")]
    Broken(String),
}

/// Where a call comes from, and what it says of itself.
struct Visitor {
    address: SocketAddr,
    ids: [Option<String>; 3],
    body: Option<Value>,
}

impl Desk {
    fn new(door: OfferDoor, address: SocketAddr, arrivals: mpsc::Sender<Arrival>) -> Self {
        let places = Arc::new(Semaphore::new(door.max_calls));
        let via = format!("{WIRE} door {address}");
        Self { door, via, arrivals, places, calls: Mutex::default(), sessions: Mutex::default() }
    }

    /// A call is offered: its id and the answer. It comes in once the connection stands.
    fn take(&self, offer: &str, visitor: Visitor) -> Result<(String, String), Refusal> {
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Refusal::Full(self.door.max_calls))?;
        let (line, answer) = Line::answer(offer, &[visitor.address], &self.door.ice.options(false))?;
        if !line.can_speak() {
            return Err(Refusal::NoAudio);
        }
        let (ask, asked) = mpsc::channel(MOST_ASKED);
        let (ice, via) = (self.door.ice.options(false), self.via.clone());
        let leg = ClientLeg::new(line, asked, (visitor.address, ice), via, permit);
        let mut leg = leg.map_err(|error| Refusal::Broken(error.to_string()))?;
        let pc_id = Uuid::new_v4().to_string();
        {
            let mut calls = self.calls.lock().expect("nobody panics with it");
            calls.retain(|_, call| !call.is_closed());
            calls.insert(pc_id.clone(), ask);
        }
        let (arrivals, agent_speaks_first) = (self.arrivals.clone(), self.door.agent_speaks_first);
        tokio::spawn(async move {
            let peer = visitor.address.to_string();
            if let Err(why) = leg.connected().await {
                return tracing::info!("an offer of {peer} came to nothing: {why}");
            }
            let metadata = visitor.body.map(|body| body.to_string());
            let [run_id, result_id, scenario_id] = visitor.ids;
            let leg = Box::new(leg);
            // The door closed meanwhile: so does the connection.
            drop(arrivals.send(Arrival { leg, peer, run_id, result_id, scenario_id, agent_speaks_first, metadata }).await);
        });
        Ok((pc_id, answer))
    }

    /// Another offer for a call: the answer to it. `restart`: in the place of a connection that is lost.
    async fn offer_again(&self, pc_id: &str, sdp: String, restart: bool) -> Result<String, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.ask(pc_id, Asked::Offer { sdp, restart, reply }).await?;
        match tokio::time::timeout(ANSWER_TIME, answer).await {
            Ok(Ok(answer)) => Ok(answer?),
            Ok(Err(_)) | Err(_) => Err(Refusal::Over),
        }
    }

    /// Candidates of a call's client that came later.
    async fn trickle(&self, pc_id: &str, candidates: Vec<String>) -> Result<(), Refusal> {
        self.ask(pc_id, Asked::Candidates(candidates)).await
    }

    async fn ask(&self, pc_id: &str, asked: Asked) -> Result<(), Refusal> {
        let call = self.calls.lock().expect("nobody panics with it").get(pc_id).cloned();
        let call = call.ok_or_else(|| Refusal::UnknownCall(pc_id.to_owned()))?;
        // It is full where the call takes nothing: then its client may ask again.
        call.try_send(asked).map_err(|_| Refusal::Over)
    }

    /// Starts a session: its id.
    fn start(&self, body: Option<Value>) -> String {
        let id = Uuid::new_v4().to_string();
        let mut sessions = self.sessions.lock().expect("nobody panics with it");
        if sessions.len() == MOST_SESSIONS {
            sessions.remove(0);
        }
        sessions.push((id.clone(), body));
        id
    }

    /// What a session was started with.
    fn session(&self, id: &str) -> Result<Option<Value>, Refusal> {
        let sessions = self.sessions.lock().expect("nobody panics with it");
        let found = sessions.iter().find(|(known, _)| known == id);
        found.map(|(_, body)| body.clone()).ok_or_else(|| Refusal::UnknownSession(id.to_owned()))
    }
}
