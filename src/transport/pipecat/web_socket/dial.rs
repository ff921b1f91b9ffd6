//! The dial: a client of a bot's WebSocket server.

use std::time::Duration;

use url::Url;

use super::PipecatLeg;
use super::leg::Beginning;
use crate::audio::Rate;
use crate::call::EndReason;
use crate::transport::web_socket::{self, DialError};
use crate::transport::{SetUp, Stage};

/// The longest message that is taken, in bytes: 10 s of audio at 48 kHz. A bot sends 40 ms at a time, and 2 s before it hangs up.
pub const MAX_MESSAGE: usize = 1 << 20;
/// How long a bot may take to say that it is ready. One without RTVI never does: it is called all the same.
const READY_TIME: Duration = Duration::from_secs(10);

/// A bot that cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum PipecatError {
    /// It cannot be reached.
    #[error(transparent)]
    WebSocket(#[from] DialError),
    /// It does not let us in.
    #[error(
        "{via} refused the call with {status}: the token in the address is missing, wrong, too old, or was used before. \
             A Pipecat runner with `--ws-auth token` gives one in its answer to POST /start, for one call within five minutes"
    )]
    Refused {
        /// The way out.
        via: String,
        /// 401 or 403.
        status: u16,
    },
    /// It hung up, or broke the protocol, before it was ready.
    #[error("{via} was gone before the bot was ready{}", shown(*reason, detail))]
    Gone {
        /// The way out.
        via: String,
        /// Why.
        reason: EndReason,
        /// In words.
        detail: String,
    },
}

fn shown(reason: EndReason, detail: &str) -> String {
    match reason {
        _ if !detail.is_empty() => format!(": {detail}"),
        EndReason::HungUp => ": it hung up".to_owned(),
        _ => String::new(),
    }
}

/// Connects to a bot and waits until it is ready: until it says so (RTVI), until it speaks, or for ten seconds. Audio that comes
/// to a pipeline before it runs is swallowed in one burst. The bot takes audio at `rate`. The stages are those of a WebSocket,
/// then `agent_ready`.
///
/// # Errors
/// [`PipecatError`].
pub async fn dial(
    url: &Url,
    rate: Rate,
    headers: impl IntoIterator<Item = (String, String)>,
    once: bool,
    set_up: &mut SetUp,
) -> Result<PipecatLeg, PipecatError> {
    let headers = web_socket::headers(url, headers)?;
    let config = web_socket::web_socket_config(MAX_MESSAGE);
    let via = web_socket::spelled(url, "pipecat-ws");
    let socket = web_socket::connect(url, "Pipecat", &headers, config, once, set_up).await.map_err(|error| match error {
        DialError::Authentication { status, .. } => PipecatError::Refused { via: via.clone(), status },
        other => other.into(),
    })?;
    set_up.enter(Stage::AgentReady);
    let mut leg = PipecatLeg::new(socket, via.clone(), rate);
    let ready = std::future::poll_fn(|cx| leg.poll_beginning(cx));
    match tokio::time::timeout(READY_TIME, ready).await {
        Ok(Beginning::Begun) => {}
        Ok(Beginning::Gone(reason, detail)) => {
            return Err(PipecatError::Gone { via, reason, detail });
        }
        Err(_) => tracing::info!("the bot does not say that it is ready: it has no RTVI, or is slow; it is called all the same"),
    }
    set_up.done();
    Ok(leg)
}
