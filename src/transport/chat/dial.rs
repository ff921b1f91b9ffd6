//! The chat dial: we are the caller, as Cekura is.

use sha2::{Digest, Sha256};
use url::Url;

use super::session::SessionRules;
use super::{ChatLeg, MAX_MESSAGE, SECRET_HEADER};
use crate::transport::web_socket::{self, DialError};

/// A secret. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Without the line end of the file that it comes from; none when nothing is left.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim_end_matches(['\r', '\n']);
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether this is the secret. Takes as long for a near miss as for a far one.
    #[must_use]
    pub fn admits(&self, given: &[u8]) -> bool {
        Sha256::digest(given) == Sha256::digest(&self.0)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Connects to a chat agent, with the call's ids and whatever else is to be told in `headers`; tries again three times, with a growing pause, when it cannot
/// be reached.
///
/// # Errors
/// [`DialError`].
pub async fn dial(url: &Url, secret: Option<&Secret>, headers: &[(String, String)]) -> Result<ChatLeg, DialError> {
    let mut sent = Vec::new();
    if let Some(secret) = secret {
        sent.push(web_socket::header(url, SECRET_HEADER, secret.reveal(), true)?);
    }
    for (name, value) in headers {
        // The ids are no secret; what else is told may be one.
        let own = name.to_ascii_uppercase().starts_with("X-VOCERA-");
        sent.push(web_socket::header(url, name, value, !own)?);
    }
    let socket = web_socket::connect(url, "chat", &sent, web_socket::web_socket_config(MAX_MESSAGE)).await?;
    let rules = SessionRules { idle: None, pings: true, far_is_caller: false, agent_speaks_first: None };
    Ok(ChatLeg::new(socket, url.as_str().replacen("ws", "chat", 1), rules, None))
}
