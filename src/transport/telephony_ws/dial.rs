//! The dial: we play the provider towards a bot's WebSocket server.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Map;
use uuid::Uuid;

use super::dialect::{CallDetails, Outgoing, Role};
use super::leg::{Beginning, START_TIME, TelephonyLeg};
use super::provider::{Provider, TelephonyAddress};
use crate::call::{CallIds, EndReason};
use crate::transport::web_socket::{self, DialError};
use crate::transport::{SetUp, Stage};

/// The longest message that is taken, in bytes: some bots send an utterance whole.
const MAX_MESSAGE: usize = 1 << 20;

/// A bot that cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum TelephonyError {
    /// It cannot be reached.
    #[error(transparent)]
    WebSocket(#[from] DialError),
    /// It hung up, or broke the protocol, before the stream had begun.
    #[error("{via} was gone before the stream had begun: {}", if detail.is_empty() { "it hung up" } else { detail })]
    Gone {
        /// The way out.
        via: String,
        /// Why.
        reason: EndReason,
        /// In words.
        detail: String,
    },
    /// It does not open the session.
    #[error("{via} did not answer our open within {} s", START_TIME.as_secs())]
    NotOpened {
        /// The way out.
        via: String,
    },
}

/// Connects to a bot and begins the stream, with the call's ids and its metadata as the stream's parameters. The stages are those
/// of a WebSocket, and `agent_ready` where the bot answers the begin.
///
/// # Errors
/// [`TelephonyError`].
pub async fn dial(
    address: &TelephonyAddress,
    ids: &CallIds,
    metadata: Option<&str>,
    headers: impl IntoIterator<Item = (String, String)>,
    once: bool,
    set_up: &mut SetUp,
) -> Result<TelephonyLeg, TelephonyError> {
    let TelephonyAddress { provider, format, url } = address;
    let headers = web_socket::headers(url, headers)?;
    let config = web_socket::web_socket_config(MAX_MESSAGE);
    let socket = web_socket::connect(url, provider.name(), &headers, config, once, set_up).await?;
    let dialect = provider.dialect(Role::Provider, *format);
    let mut leg = TelephonyLeg::new(socket, dialect, Role::Provider, address.to_string(), None, None);
    leg.say(Outgoing::Begin(&details(ids, metadata)));
    if *provider == Provider::Genesys {
        set_up.enter(Stage::AgentReady);
        let begun = std::future::poll_fn(|cx| leg.poll_beginning(cx));
        match tokio::time::timeout(START_TIME, begun).await {
            Ok(Beginning::Begun) => {}
            Ok(Beginning::Gone(reason, detail)) => {
                return Err(TelephonyError::Gone { via: address.to_string(), reason, detail });
            }
            Err(_) => return Err(TelephonyError::NotOpened { via: address.to_string() }),
        }
        set_up.done();
    }
    Ok(leg)
}

fn details(ids: &CallIds, metadata: Option<&str>) -> CallDetails {
    let known = [
        ("run_id", ids.run_id.as_deref()),
        ("result_id", ids.result_id.as_deref()),
        ("scenario_id", ids.scenario_id.as_deref()),
        ("metadata", metadata),
    ];
    let parameters: Map<_, _> = known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect();
    let began_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    CallDetails { stream: Uuid::new_v4(), call: Uuid::new_v4(), began_ms, parameters }
}
