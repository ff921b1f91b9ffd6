//! The chat dial: we are the caller, as Cekura is.

use url::Url;

use super::session::SessionRules;
use super::{ChatLeg, MAX_MESSAGE, SECRET_HEADER};
use crate::transport::Secret;
use crate::transport::web_socket::{self, DialError};

/// Connects to a chat agent, with the call's ids and whatever else is to be told in `headers`; tries again three times, with a
/// growing pause, when it cannot be reached.
///
/// # Errors
/// [`DialError`].
pub async fn dial(url: &Url, secret: Option<&Secret>, headers: &[(String, String)]) -> Result<ChatLeg, DialError> {
    let secret = secret.map(|secret| (SECRET_HEADER.to_owned(), secret.reveal().to_owned()));
    let sent = web_socket::headers(url, secret.into_iter().chain(headers.iter().cloned()))?;
    let socket = web_socket::connect(url, "chat", &sent, web_socket::web_socket_config(MAX_MESSAGE)).await?;
    let rules = SessionRules { idle: None, pings: true, far_is_caller: false, agent_speaks_first: None };
    Ok(ChatLeg::new(socket, web_socket::spelled(url, "chat"), rules, None))
}
