//! The task that has the socket to the server: it moves messages, starts the jobs, and looks for a server that is gone.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use livekit_protocol::ServerMessage;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::protocol::Message;

use super::WorkerError;
use super::job::{JobEnd, JobOver, bring};
use super::protocol::{Assignment, Protocol, Told};
use crate::transport::Arrival;
use crate::transport::livekit::{Server, ServerError, net};
use crate::transport::web_socket::{OpenError, Socket};

/// How long the worker's token is valid: it is looked at when the connection is made, and for each one a token is made.
const TOKEN_VALID: Duration = Duration::from_secs(600);
/// How long opening the socket, and sending a message, may take.
const STEP_TIME: Duration = Duration::from_secs(10);
/// The pause before the second try to register anew; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// See [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Opens the socket and registers, in one try: the worker's id at the server.
pub(super) async fn register(server: &Server, protocol: &mut Protocol) -> Result<(Socket, String), WorkerError> {
    let refused = |problem: String| WorkerError::NotRegistered { url: server.shown(), problem };
    let mut socket = open(server).await?;
    protocol.connected(Instant::now());
    loop {
        flush(&mut socket, protocol).await.map_err(refused)?;
        let message = tokio::select! {
            message = read(&mut socket) => message.map_err(refused)?,
            () = tokio::time::sleep_until(protocol.next_wake().into()) => {
                protocol.tick(Instant::now()).map_err(|dead| refused(dead.to_string()))?;
                continue;
            }
        };
        // Nothing else comes before it.
        if let Some(Told::Registered { worker_id }) = protocol.take(Instant::now(), message) {
            return Ok((socket, worker_id));
        }
    }
}

async fn open(server: &Server) -> Result<Socket, WorkerError> {
    let unreachable = |problem: String| WorkerError::Unreachable { url: server.shown(), problem };
    let mut url = server.url().clone();
    let scheme = if matches!(url.scheme(), "wss" | "https") { "wss" } else { "ws" };
    let changed = url.set_scheme(scheme);
    debug_assert!(changed.is_ok(), "each of the four schemes may become any other of them");
    url.set_path(&format!("{}/agent", url.path().trim_end_matches('/')));
    let token = server.worker_token(TOKEN_VALID)?;
    let opening = net::open(&url, vec![("Authorization".to_owned(), format!("Bearer {token}"))]);
    let opened = tokio::time::timeout(STEP_TIME, opening).await;
    let opened = opened.map_err(|_| unreachable(format!("no answer within {} s", STEP_TIME.as_secs())))?;
    opened.map_err(|error| match error {
        OpenError::Status(status) if matches!(status.as_u16(), 401 | 403) => ServerError::Unauthorized.into(),
        OpenError::Status(status) => unreachable(format!("it answered {status}")),
        OpenError::Broken(problem) => unreachable(problem),
        OpenError::Never(error) => unreachable(error.to_string()),
    })
}

/// The next message of the server. Dropping the wait loses nothing.
async fn read(socket: &mut Socket) -> Result<ServerMessage, String> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Binary(bytes))) => match ServerMessage::decode(bytes) {
                Ok(message) => return Ok(message),
                // A newer server may say more than we know.
                Err(error) => tracing::warn!("a message of the LiveKit server cannot be read: {error}"),
            },
            Some(Ok(Message::Close(_))) | None => return Err("it closed the connection".to_owned()),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.to_string()),
        }
    }
}

/// Sends all that waits.
async fn flush(socket: &mut Socket, protocol: &mut Protocol) -> Result<(), String> {
    while let Some(message) = protocol.outgoing() {
        let sent = tokio::time::timeout(STEP_TIME, socket.send(Message::binary(message.encode_to_vec()))).await;
        sent.map_err(|_| "it does not read".to_owned())?.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The registered worker.
pub(super) struct Task {
    server: Server,
    protocol: Protocol,
    arrivals: mpsc::Sender<Arrival>,
    drain: Option<oneshot::Receiver<()>>,
    /// Jobs of which no call has come so far.
    coming: JoinSet<()>,
    /// Ends a job that the server takes back.
    stops: HashMap<String, oneshot::Sender<()>>,
    /// Wait until the server knows that their job is over.
    telling: Vec<oneshot::Sender<()>>,
    over: (mpsc::UnboundedSender<JobOver>, mpsc::UnboundedReceiver<JobOver>),
}

impl Task {
    pub(super) fn new(server: Server, protocol: Protocol, arrivals: mpsc::Sender<Arrival>, drain: oneshot::Receiver<()>) -> Self {
        let (coming, stops) = (JoinSet::new(), HashMap::new());
        Self { server, protocol, arrivals, drain: Some(drain), coming, stops, telling: Vec::new(), over: mpsc::unbounded_channel() }
    }

    /// Goes on until it is drained.
    pub(super) async fn run(mut self, socket: Socket) {
        let mut connected = Some(socket);
        while let Some(mut socket) = connected {
            let Err(problem) = self.attend(&mut socket).await else {
                // It is over either way.
                drop(tokio::time::timeout(STEP_TIME, socket.close(None)).await);
                return;
            };
            tracing::warn!("the LiveKit server at {} is gone: {problem}; the worker looks for it", self.server.shown());
            drop(socket);
            connected = self.look_for_the_server().await;
        }
    }

    /// Serves the connection until it is lost, which is an error, or all is over.
    async fn attend(&mut self, socket: &mut Socket) -> Result<(), String> {
        loop {
            flush(socket, &mut self.protocol).await?;
            self.telling.clear();
            if self.protocol.is_drained() {
                return Ok(());
            }
            let wake = self.protocol.next_wake().into();
            tokio::select! {
                message = read(socket) => {
                    let told = self.protocol.take(Instant::now(), message?);
                    told.map_or(Ok(()), |told| self.mind(told))?;
                }
                () = tokio::time::sleep_until(wake) => self.protocol.tick(Instant::now()).map_err(|dead| dead.to_string())?,
                () = self.happened() => {}
            }
        }
    }

    /// Tries until the server is there and registers us; none: there is nothing left to be registered for.
    async fn look_for_the_server(&mut self) -> Option<Socket> {
        let mut pause = FIRST_PAUSE;
        loop {
            if self.protocol.is_drained() {
                return None;
            }
            let until = tokio::time::Instant::now() + pause;
            while tokio::time::timeout_at(until, self.happened()).await.is_ok() {
                // There is nobody to be told.
                self.telling.clear();
            }
            // A server that is there answers at once.
            match register(&self.server, &mut self.protocol).await {
                Ok((socket, worker_id)) => {
                    tracing::warn!("the worker is registered again, as {worker_id}");
                    return Some(socket);
                }
                Err(error) => tracing::info!("the worker is not registered: {error}"),
            }
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// Something that has nothing to do with the server: a job is over, or the worker is to drain. Dropping the wait loses nothing.
    async fn happened(&mut self) {
        let drain = async {
            match &mut self.drain {
                Some(drain) => drop(drain.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(JobOver { job_id, result, told }) = self.over.1.recv() => {
                self.stops.remove(&job_id);
                self.protocol.over(&job_id, result);
                self.telling.push(told);
            }
            () = drain => {
                self.drain = None;
                self.protocol.drain();
            }
            Some(done) = self.coming.join_next() => {
                if let Err(error) = done {
                    tracing::error!("a job broke down: {error}");
                }
            }
        }
    }

    fn mind(&mut self, told: Told) -> Result<(), String> {
        match told {
            Told::Registered { .. } => {}
            Told::Assigned(assignment) => self.begin(assignment),
            Told::Terminated { job_id } => {
                if let Some(stop) = self.stops.remove(&job_id) {
                    // The job may be over already.
                    let _ = stop.send(());
                }
            }
            Told::GoAway => return Err("it asks to be connected to anew".to_owned()),
        }
        Ok(())
    }

    fn begin(&mut self, assignment: Assignment) {
        tracing::info!(job = assignment.job_id, room = assignment.room, "the LiveKit server has given a job");
        let (stop, stopped) = oneshot::channel();
        let end = JobEnd::new(&assignment.job_id, self.over.0.clone());
        self.stops.insert(assignment.job_id.clone(), stop);
        self.coming.spawn(bring(assignment, self.server.url().clone(), end, stopped, self.arrivals.clone()));
    }
}
