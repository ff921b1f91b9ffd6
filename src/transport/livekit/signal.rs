//! The signalling connection: LiveKit's own client in a task of its own, since its calls wait. Messages are few: a room polls a
//! channel for them.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use livekit_protocol::{JoinResponse, ReconnectReason, ReconnectResponse, signal_request, signal_response};
use livekit_signaling::{
    CLIENT_PROTOCOL_DEFAULT, SignalClient, SignalEvent, SignalEvents, SignalOptions, SignalResult, SignalSdkOptions,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::error::{JoinError, Verdict, sort};
use super::net;

/// How long one try may take.
pub(super) const CONNECT_TIME: Duration = Duration::from_secs(5);
/// With 16 the data channels are opened in band; from 18 on they have fixed ids that are not in the descriptions.
const PROTOCOL: u32 = 16;
/// How long a lost session is looked for: longer than the official clients' ten tries, which take about 40 s.
const RECOVER_TIME: Duration = Duration::from_secs(45);
/// The pause before the second try to recover; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(300);
/// See [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What the task tells the room.
#[derive(Debug)]
pub(super) enum Signalled {
    /// A message of the server.
    Message(Box<signal_response::Message>),
    /// The connection is gone.
    Lost(String),
    /// The session goes on, on a new connection.
    Resumed(Box<ReconnectResponse>),
    /// The session is a new one.
    Rejoined(Box<JoinResponse>),
    /// There is no session any more.
    Failed(JoinError),
}

/// What the room tells the task.
enum Order {
    Send(Box<signal_request::Message>),
    Recover { reason: ReconnectReason, anew: bool },
    Confirm,
    Close,
}

/// The room's end of the signalling connection.
pub(super) struct Signal {
    orders: mpsc::UnboundedSender<Order>,
    told: mpsc::UnboundedReceiver<Signalled>,
    task: JoinHandle<()>,
}

impl Signal {
    /// Connects, in one try.
    ///
    /// # Errors
    /// [`JoinError`].
    pub(super) async fn connect(url: &str, token: &str) -> Result<(Self, JoinResponse), JoinError> {
        net::install();
        let connected = connect(url, token).await;
        let (client, join, events) = connected.map_err(|error| match sort(error, url) {
            Verdict::Again(error) | Verdict::GiveUp(error) => error,
            Verdict::Anew => JoinError::Refused("the server sent the participant away".to_owned()),
        })?;
        let (orders, ordered) = mpsc::unbounded_channel();
        let (tell, told) = mpsc::unbounded_channel();
        let driver = Driver { url: url.to_owned(), client, events, tell };
        Ok((Self { orders, told, task: tokio::spawn(driver.run(ordered)) }, join))
    }

    /// Sends a message; while the connection is lost, one that is of use later waits.
    pub(super) fn send(&self, message: signal_request::Message) {
        self.order(Order::Send(Box::new(message)));
    }

    /// Looks for the lost session, or asks for a new one with `anew`. [`Signalled::Resumed`], [`Signalled::Rejoined`] or
    /// [`Signalled::Failed`] follows.
    pub(super) fn recover(&self, reason: ReconnectReason, anew: bool) {
        self.order(Order::Recover { reason, anew });
    }

    /// The resumed session is in order again: what waited is sent.
    pub(super) fn confirm(&self) {
        self.order(Order::Confirm);
    }

    /// Closes the connection, after all that was sent.
    pub(super) fn close(&self) {
        self.order(Order::Close);
    }

    /// The next thing that the task tells. After the end: nothing any more.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Signalled> {
        match self.told.poll_recv(cx) {
            Poll::Ready(Some(told)) => Poll::Ready(told),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// The task has closed the connection and is over.
    pub(super) fn is_closed(&self) -> bool {
        self.told.is_closed() && self.told.is_empty()
    }

    fn order(&self, order: Order) {
        // The task is over: the room has been told why.
        drop(self.orders.send(order));
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        // A room that is dropped without leaving is gone at once, as a crashed participant is.
        if !self.orders.is_closed() {
            self.task.abort();
        }
    }
}

async fn connect(url: &str, token: &str) -> SignalResult<(SignalClient, JoinResponse, SignalEvents)> {
    let mut options = SignalOptions::default();
    // What is subscribed to is said track by track: video is not.
    options.auto_subscribe = false;
    options.connect_timeout = CONNECT_TIME;
    options.region_failover = false;
    options.protocol_version = PROTOCOL;
    options.client_capabilities = Vec::new();
    options.client_protocol = CLIENT_PROTOCOL_DEFAULT;
    let mut sdk = SignalSdkOptions::default();
    sdk.sdk_version = Some(env!("CARGO_PKG_VERSION").to_owned());
    options.sdk_options = sdk;
    SignalClient::connect(url, token, options, None).await
}

/// The task's side.
struct Driver {
    url: String,
    client: SignalClient,
    events: SignalEvents,
    tell: mpsc::UnboundedSender<Signalled>,
}

impl Driver {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        // What is ordered while a session is being looked for.
        let mut waiting = VecDeque::new();
        loop {
            let order = match waiting.pop_front() {
                Some(order) => Some(order),
                None => tokio::select! {
                    order = orders.recv() => order,
                    event = self.events.recv() => {
                        self.pass_on(event).await;
                        continue;
                    }
                },
            };
            match order {
                Some(Order::Send(message)) => self.client.send(*message).await,
                Some(Order::Confirm) => self.client.set_reconnected().await,
                Some(Order::Recover { reason, anew }) => {
                    let Some(told) = self.recover_unless_closed(reason, anew, &mut orders, &mut waiting).await else { return };
                    let failed = matches!(told, Signalled::Failed(_));
                    if self.tell.send(told).is_err() || failed {
                        return;
                    }
                }
                Some(Order::Close) | None => {
                    self.client.close().await;
                    return;
                }
            }
        }
    }

    /// None: the room wants no session any more.
    async fn recover_unless_closed(
        &mut self,
        reason: ReconnectReason,
        anew: bool,
        orders: &mut mpsc::UnboundedReceiver<Order>,
        waiting: &mut VecDeque<Order>,
    ) -> Option<Signalled> {
        let recover = self.recover(reason, anew);
        tokio::pin!(recover);
        loop {
            tokio::select! {
                told = &mut recover => return Some(told),
                order = orders.recv() => match order {
                    Some(Order::Close) | None => return None,
                    Some(order) => waiting.push_back(order),
                },
            }
        }
    }

    async fn pass_on(&self, event: Option<SignalEvent>) {
        let told = match event {
            Some(SignalEvent::Message(message)) => Signalled::Message(message),
            // The end of the connection before the last comes late, and is none.
            Some(SignalEvent::Close(_)) if self.client.is_connected().await => return,
            Some(SignalEvent::Close(reason)) => Signalled::Lost(reason.into_owned()),
            None => Signalled::Lost("the signalling client has ended".to_owned()),
        };
        // The room is gone, and its order to close is on its way.
        drop(self.tell.send(told));
    }

    /// Tries the old session first, then a new one, until one is had or the time is up.
    async fn recover(&mut self, reason: ReconnectReason, mut anew: bool) -> Signalled {
        let until = tokio::time::Instant::now() + RECOVER_TIME;
        let mut pause = FIRST_PAUSE;
        loop {
            let tried = if anew {
                self.rejoin().await
            } else {
                self.client.restart(reason).await.map(|told| Signalled::Resumed(Box::new(told)))
            };
            let error = match tried {
                Ok(told) => return told,
                Err(error) => match sort(error, &self.url) {
                    Verdict::GiveUp(error) => return Signalled::Failed(error),
                    Verdict::Anew if !anew => {
                        anew = true;
                        continue;
                    }
                    Verdict::Anew => JoinError::Refused("the server sends the participant away".to_owned()),
                    Verdict::Again(error) => error,
                },
            };
            tracing::info!("the LiveKit session is not back yet: {error}");
            if tokio::time::Instant::now() + pause >= until {
                return Signalled::Failed(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            // A server that does not let us resume may have been started anew, and know nothing of us.
            anew = true;
        }
    }

    async fn rejoin(&mut self) -> SignalResult<Signalled> {
        let (client, join, events) = connect(&self.url, &self.client.token()).await?;
        self.client.close().await;
        (self.client, self.events) = (client, events);
        Ok(Signalled::Rejoined(Box::new(join)))
    }
}
