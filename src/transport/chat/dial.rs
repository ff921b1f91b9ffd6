//! The chat dial: we are the caller, as Cekura is.

use url::Url;

use super::session::SessionRules;
use super::{ChatLeg, MAX_MESSAGE, SECRET_HEADER};
use crate::transport::web_socket::{self, DialError};
use crate::transport::{Secret, SetUp};

/// Connects to a chat agent, with the call's ids and whatever else is to be told in `headers`; when it cannot be reached, tries
/// again three times, with a growing pause, or not at all where it is to be tried `once`. Its stages are `tcp`, `tls` and
/// `web_socket`.
///
/// # Errors
/// [`DialError`].
pub async fn dial(
    url: &Url,
    secret: Option<&Secret>,
    headers: &[(String, String)],
    once: bool,
    set_up: &mut SetUp,
) -> Result<ChatLeg, DialError> {
    let secret = secret.map(|secret| (SECRET_HEADER.to_owned(), secret.reveal().to_owned()));
    let sent = web_socket::headers(url, secret.into_iter().chain(headers.iter().cloned()))?;
    let config = web_socket::web_socket_config(MAX_MESSAGE);
    let socket = web_socket::connect(url, "chat", &sent, config, once, set_up).await?;
    let rules = SessionRules { idle: None, pings: true, far_is_caller: false, agent_speaks_first: None };
    Ok(ChatLeg::new(socket, web_socket::spelled(url, "chat"), rules, None))
}
