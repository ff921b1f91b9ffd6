//! The CHIRP dial: a WebSocket client that places calls.

use url::Url;

use super::{ChirpLeg, ChirpLimits, Credentials};
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
}

/// Connects to a CHIRP server; tries again three times, with a growing pause, when it cannot be reached.
///
/// # Errors
/// [`DialError`].
pub async fn dial(url: &Url, options: &DialOptions) -> Result<ChirpLeg, DialError> {
    let mut headers = Vec::new();
    if let Some(credentials) = &options.credentials {
        headers.push(web_socket::header(url, "authorization", &credentials.header(), true)?);
    }
    for (name, value) in &options.headers {
        // The ids are no secret; what else is told may be one.
        let own = name.to_ascii_uppercase().starts_with("X-VOCERA-");
        headers.push(web_socket::header(url, name, value, !own)?);
    }
    let config = web_socket::web_socket_config(options.limits.max_message);
    let socket = web_socket::connect(url, "CHIRP", &headers, config).await?;
    let via = web_socket::shown(url).replacen("ws", "chirp", 1);
    Ok(ChirpLeg::new(socket, via, options.continuous, options.limits, None))
}
