//! The dial by HTTP: a session is started where a runner wants one, and the bot called over WebRTC or a WebSocket.

use std::time::Duration;

use serde_json::{Value, json};

use super::address::{Entry, PipecatAddress};
use super::ice::IceServers;
use super::server::{BotServer, BotServerError, reached};
use super::web_rtc::{self, WebRtcError};
use super::web_socket::{self, PipecatError};
use crate::audio::Rate;
use crate::call::{CallIds, Leg};
use crate::transport::{Secret, SetUp, Stage};

/// A bot that cannot be called by HTTP.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No session was started.
    #[error("Pipecat, session: {0}")]
    Session(#[from] BotServerError),
    /// Over WebRTC.
    #[error(transparent)]
    WebRtc(#[from] WebRtcError),
    /// Over the WebSocket of the session that was started.
    #[error(transparent)]
    WebSocket(#[from] PipecatError),
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
    ids.told()
}

/// Calls the bot at `address`. The stages are `session` where one is started, then those of WebRTC ([`web_rtc`]) or the WebSocket.
///
/// # Errors
/// [`CallError`], which names the step.
pub async fn dial(address: &PipecatAddress, options: &CallOptions, set_up: &mut SetUp) -> Result<Box<dyn Leg>, CallError> {
    let server = BotServer::new(&address.url, options.key.clone(), options.step_time)?;
    if address.entry == Entry::Offer {
        let body = options.body.as_ref();
        return Ok(Box::new(web_rtc::connect(address, server, &options.ice, body, options, set_up).await?));
    }
    let body = options.body.clone().unwrap_or_else(|| json!({}));
    set_up.enter(Stage::Session);
    if address.entry == Entry::StartWebSocket {
        let url = reached(options.once, set_up, Stage::Session, || server.start_web_socket(&body)).await?;
        return Ok(Box::new(web_socket::dial(&url, options.rate, [], options.once, set_up).await?));
    }
    let (session, servers) = reached(options.once, set_up, Stage::Session, || server.start(&body)).await?;
    let servers = options.ice.clone().and(servers);
    Ok(Box::new(web_rtc::connect(address, session, &servers, None, options, set_up).await?))
}
