//! The dial: a session is started where a runner wants one, a connection is offered, and the bot is waited for.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use serde_json::{Value, json};
use url::Url;

use super::address::{Entry, PipecatAddress};
use super::ice::IceServers;
use super::leg::{OfferError, SmallWebRtcLeg};
use super::line::Line;
use super::signalling::{Signalling, SignallingError};
use crate::audio::Rate;
use crate::audio::opus::OpusError;
use crate::call::{CallIds, EndReason, Leg};
use crate::transport::pipecat::web_socket::{self, PipecatError};
use crate::transport::webrtc::{PeerError, PeerState};
use crate::transport::{Secret, SetUp, Stage};

/// How long a bot may take to say that it is ready. One without RTVI never does: it is called all the same.
const READY_TIME: Duration = Duration::from_secs(10);
/// Tries after the first of a server that is not there, and the pause before the first of them; it doubles.
const RETRIES: u32 = 3;
const BACKOFF: Duration = Duration::from_millis(500);

/// A bot that cannot be called by HTTP.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// A step over HTTP and WebRTC.
    #[error(transparent)]
    Step(#[from] WebRtcError),
    /// The WebSocket of the session that was started.
    #[error(transparent)]
    WebSocket(#[from] PipecatError),
}

/// A step that failed on the way to a bot.
#[derive(Debug, thiserror::Error)]
#[error("Pipecat, {}: {problem}", stage.name().replace('_', " "))]
pub struct WebRtcError {
    /// The step that failed.
    pub stage: Stage,
    /// Why.
    #[source]
    pub problem: WebRtcProblem,
}

/// What went wrong in a step.
#[derive(Debug, thiserror::Error)]
pub enum WebRtcProblem {
    /// The bot's server.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// The codec.
    #[error(transparent)]
    Opus(#[from] OpusError),
    /// No way to the bot.
    #[error("not within {waited_s} s: {problem}")]
    NoWay {
        /// How long was waited.
        waited_s: f64,
        /// What was tried.
        problem: PeerError,
    },
    /// The bot ended it before it had begun.
    #[error("{0}")]
    Gone(String),
}

impl From<SignallingError> for WebRtcProblem {
    fn from(error: SignallingError) -> Self {
        Self::Offer(error.into())
    }
}

/// How a bot is called.
#[derive(Debug, Clone)]
pub struct CallOptions {
    /// What the bot is told, as `runner_args.body`.
    pub body: Option<Value>,
    /// Goes to the bot's server as `Authorization: Bearer`.
    pub key: Option<Secret>,
    /// STUN and TURN servers.
    pub ice: IceServers,
    /// Of a bot that is called over a WebSocket: at which it takes audio.
    pub rate: Rate,
    /// How long each step may take.
    pub step_time: Duration,
    /// A server that is not there is not tried again.
    pub once: bool,
}

/// What a bot is told of a call: `metadata`, which is mostly JSON, else the call's ids.
pub(in crate::transport) fn body(metadata: Option<&str>, ids: &CallIds) -> Option<Value> {
    if let Some(metadata) = metadata {
        return Some(serde_json::from_str(metadata).unwrap_or_else(|_| metadata.into()));
    }
    let known = [("scenario_id", &ids.scenario_id), ("run_id", &ids.run_id)];
    let known: serde_json::Map<_, _> =
        known.into_iter().filter_map(|(name, id)| Some((name.to_owned(), json!(id.clone()?)))).collect();
    (!known.is_empty()).then(|| known.into())
}

/// Calls the bot at `address`: until it says that it is ready (RTVI), until it is heard, or for ten seconds. The stages are `session`
/// where one is started, `offer`, `connection` and `agent_ready`; of a session over a WebSocket `session`, and those of the WebSocket.
///
/// # Errors
/// [`CallError`], which names the step.
pub async fn dial(address: &PipecatAddress, options: &CallOptions, set_up: &mut SetUp) -> Result<Box<dyn Leg>, CallError> {
    let failed = |stage| move |problem| CallError::Step(WebRtcError { stage, problem });
    let signalling = Signalling::new(&address.url, options.key.clone(), options.step_time)
        .map_err(|error| failed(Stage::Offer)(error.into()))?;
    let body = options.body.clone();
    match address.entry {
        Entry::StartWebSocket => {
            let body = body.unwrap_or_else(|| json!({}));
            set_up.enter(Stage::Session);
            let url = reached(options.once, set_up, Stage::Session, || signalling.start_web_socket(&body)).await;
            let url = url.map_err(|error| failed(Stage::Session)(error.into()))?;
            Ok(Box::new(web_socket::dial(&url, options.rate, [], options.once, set_up).await?))
        }
        Entry::StartWebRtc => {
            let asked = body.unwrap_or_else(|| json!({}));
            set_up.enter(Stage::Session);
            let started = reached(options.once, set_up, Stage::Session, || signalling.start(&asked)).await;
            let (signalling, servers) = started.map_err(|error| failed(Stage::Session)(error.into()))?;
            let ice = options.ice.clone().and(servers);
            Ok(Box::new(connect(address, signalling, ice, None, options, set_up).await?))
        }
        Entry::Offer => Ok(Box::new(connect(address, signalling, options.ice.clone(), body.as_ref(), options, set_up).await?)),
    }
}

/// Asks a server, again where it is not there: it may be about to start. Another failure may have started something.
async fn reached<T, F: Future<Output = Result<T, SignallingError>>>(
    once: bool,
    set_up: &mut SetUp,
    stage: Stage,
    mut ask: impl FnMut() -> F,
) -> Result<T, SignallingError> {
    let (mut pause, mut left) = (BACKOFF, if once { 0 } else { RETRIES });
    loop {
        match ask().await {
            Err(error @ SignallingError::Unreachable { .. }) if left > 0 => {
                tracing::info!("{error}; trying again in {} ms", pause.as_millis());
                tokio::time::sleep(pause).await;
                (pause, left) = (pause * 2, left - 1);
                set_up.again();
                set_up.enter(stage);
            }
            asked => return asked,
        }
    }
}

async fn connect(
    address: &PipecatAddress,
    signalling: Signalling,
    servers: IceServers,
    body: Option<&Value>,
    options: &CallOptions,
    set_up: &mut SetUp,
) -> Result<SmallWebRtcLeg, WebRtcError> {
    let ice = servers.options(address.relay_only);
    let failed = |stage| move |problem| WebRtcError { stage, problem };
    set_up.enter(Stage::Offer);
    let towards = addresses(&address.url).await;
    let nothing = || failed(Stage::Offer)(WebRtcProblem::Gone("there is nothing to offer".to_owned()));
    let (line, sdp) = Line::offer(&towards, &ice).ok_or_else(nothing)?;
    let leg = SmallWebRtcLeg::new(line, signalling.clone(), (towards, ice), address.to_string());
    let mut leg = leg.map_err(|error| failed(Stage::Offer)(error.into()))?;
    let answer = reached(options.once, set_up, Stage::Offer, || signalling.offer(&sdp, None, body)).await;
    let answered = answer.map_err(OfferError::from).and_then(|answer| leg.answered(answer));
    answered.map_err(|error| failed(Stage::Offer)(error.into()))?;

    set_up.enter(Stage::Connection);
    let connected =
        tokio::time::timeout(options.step_time, until(&mut leg, |leg, _| leg.line().peer().state() == PeerState::Connected));
    match connected.await {
        Ok(connected) => connected.map_err(failed(Stage::Connection))?,
        Err(_) => {
            let problem = leg.line().peer().no_way().unwrap_or_else(|| PeerError::Broken("it was gone again".to_owned()));
            return Err(failed(Stage::Connection)(WebRtcProblem::NoWay { waited_s: options.step_time.as_secs_f64(), problem }));
        }
    }
    set_up.enter(Stage::AgentReady);
    match tokio::time::timeout(READY_TIME, until(&mut leg, |leg, heard| heard || leg.is_ready())).await {
        Ok(ready) => ready.map_err(failed(Stage::AgentReady))?,
        Err(_) => tracing::info!("the bot does not say that it is ready: it has no RTVI, or is slow; it is called all the same"),
    }
    set_up.done();
    Ok(leg)
}

/// Polls the leg until `done`, which is told whether something was heard.
async fn until(leg: &mut SmallWebRtcLeg, done: impl Fn(&SmallWebRtcLeg, bool) -> bool) -> Result<(), WebRtcProblem> {
    poll_fn(|cx| {
        let mut heard = false;
        loop {
            if let Some((reason, detail)) = leg.ended() {
                let how = match reason {
                    EndReason::HungUp => "the bot hung up",
                    _ => detail,
                };
                return Poll::Ready(Err(WebRtcProblem::Gone(how.to_owned())));
            }
            if done(leg, heard) {
                return Poll::Ready(Ok(()));
            }
            match leg.poll_beginning(cx) {
                Poll::Ready(something) => heard |= something,
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// Where the bot's server is: the bot itself probably is there too.
async fn addresses(url: &Url) -> Vec<SocketAddr> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or(80);
    match tokio::net::lookup_host((host, port)).await {
        Ok(found) => found.collect(),
        // That it cannot be reached is told where it is asked.
        Err(_) => Vec::new(),
    }
}
