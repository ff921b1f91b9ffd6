//! The CHIRP dial: a WebSocket client that places calls.

use url::Url;

use super::{ChirpLeg, ChirpLimits, Credentials};
use crate::transport::SetUp;
use crate::transport::web_socket::{self, DialError};

/// How to dial.
#[derive(Debug, Clone, Default)]
pub struct DialOptions {
    /// Sent as HTTP Basic authentication.
    pub credentials: Option<Credentials>,
    /// More headers of the upgrade request.
    pub headers: Vec<(String, String)>,
    /// What the far side may not exceed.
    pub limits: ChirpLimits,
    /// The far side sends audio without a gap: it is a caller and not an agent.
    pub continuous: bool,
    /// It is tried once: whoever cannot be reached is not dialled again.
    pub once: bool,
}

/// Connects to a CHIRP server; tries again three times, with a growing pause, when it cannot be reached. Its stages are `tcp`,
/// `tls` and `web_socket`.
///
/// # Errors
/// [`DialError`].
pub async fn dial(url: &Url, options: &DialOptions, set_up: &mut SetUp) -> Result<ChirpLeg, DialError> {
    let credentials = options.credentials.as_ref().map(|credentials| ("authorization".to_owned(), credentials.header()));
    let headers = web_socket::headers(url, credentials.into_iter().chain(options.headers.iter().cloned()))?;
    let config = web_socket::web_socket_config(options.limits.max_message);
    let socket = web_socket::connect(url, "CHIRP", &headers, config, options.once, set_up).await?;
    let via = web_socket::spelled(url, "chirp");
    Ok(ChirpLeg::new(socket, via, options.continuous, options.limits, None))
}
