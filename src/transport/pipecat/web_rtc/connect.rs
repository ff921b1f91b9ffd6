//! A connection is offered, and the bot waited for.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use serde_json::Value;
use url::Url;

use super::leg::{OfferError, SmallWebRtcLeg};
use super::line::Line;
use crate::audio::opus::OpusError;
use crate::call::EndReason;
use crate::transport::pipecat::address::PipecatAddress;
use crate::transport::pipecat::dial::CallOptions;
use crate::transport::pipecat::ice::IceServers;
use crate::transport::pipecat::server::{BotServer, BotServerError, reached};
use crate::transport::webrtc::{PeerError, PeerState};
use crate::transport::{SetUp, Stage};

/// How long a bot may take to say that it is ready. One without RTVI never does: it is called all the same.
const READY_TIME: Duration = Duration::from_secs(10);

/// A step over WebRTC that failed.
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

impl From<BotServerError> for WebRtcProblem {
    fn from(error: BotServerError) -> Self {
        Self::Offer(error.into())
    }
}

/// Offers a connection to the bot of `server`, and waits until it says that it is ready (RTVI), until it is heard, or for ten seconds. The
/// stages are `offer`, `connection` and `agent_ready`.
///
/// # Errors
/// [`WebRtcError`], which names the step.
pub(in crate::transport::pipecat) async fn connect(
    address: &PipecatAddress,
    server: BotServer,
    servers: &IceServers,
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
    let leg = SmallWebRtcLeg::new(line, server.clone(), (towards, ice), address.to_string());
    let mut leg = leg.map_err(|error| failed(Stage::Offer)(error.into()))?;
    let answer = reached(options.once, set_up, Stage::Offer, || server.offer(&sdp, None, body)).await;
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
