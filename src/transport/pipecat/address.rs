//! The spelling of a bot behind HTTP as a way out.

use std::fmt;

use url::Url;

use crate::transport::web_socket;

/// A bot that is called by HTTP: `pipecat+http://HOST:PORT/api/offer`, or `pipecat+https://…`, takes a WebRTC offer. A path that
/// ends in `/start`, or none, is that of a runner, which is asked for a session first; `transport=websocket` lets it have one over a
/// WebSocket. `relay=only` lets media go over TURN servers alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipecatAddress {
    /// Without what is ours in its query.
    pub(super) url: Url,
    pub(super) entry: Entry,
    pub(super) relay_only: bool,
}

/// How a call begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// With a WebRTC offer.
    Offer,
    /// With a runner's session over WebRTC.
    StartWebRtc,
    /// With a runner's session over a WebSocket.
    StartWebSocket,
}

impl PipecatAddress {
    /// Reads an address whose scheme is `pipecat+http` or `pipecat+https`. None: it is another.
    pub(in crate::transport) fn parse(text: &str) -> Option<Result<Self, String>> {
        let rest = text.strip_prefix("pipecat+").filter(|rest| rest.starts_with("http://") || rest.starts_with("https://"))?;
        Some(Self::read(rest))
    }

    fn read(rest: &str) -> Result<Self, String> {
        let mut url = Url::parse(rest).map_err(|error| error.to_string())?;
        if url.password().is_some() || !url.username().is_empty() {
            return Err("credentials do not belong into an address: set PIPECAT_API_KEY".to_owned());
        }
        if url.path() == "/" {
            url.set_path("/start");
        }
        let starts = url.path().trim_end_matches('/').ends_with("/start");
        let mut address =
            Self { url: url.clone(), entry: if starts { Entry::StartWebRtc } else { Entry::Offer }, relay_only: false };
        let mut others = Vec::new();
        for (key, value) in url.query_pairs() {
            match (key.as_ref(), value.as_ref()) {
                ("relay", "only") => address.relay_only = true,
                ("relay", _) => return Err("relay can only be \"only\": media over TURN servers alone".to_owned()),
                ("transport", _) if !starts => return Err("transport is for a runner's /start".to_owned()),
                ("transport", "webrtc") => address.entry = Entry::StartWebRtc,
                ("transport", "websocket") => address.entry = Entry::StartWebSocket,
                ("transport", other) => return Err(format!("the transport {other:?} is none of webrtc and websocket")),
                _ => others.push((key.into_owned(), value.into_owned())),
            }
        }
        address.url.set_query(None);
        if !others.is_empty() {
            address.url.query_pairs_mut().extend_pairs(others);
        }
        Ok(address)
    }
}

impl fmt::Display for PipecatAddress {
    /// Without what may be secret in its query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pipecat+{}", web_socket::shown(&self.url))?;
        let transport = (self.entry == Entry::StartWebSocket).then_some("transport=websocket");
        let relay = self.relay_only.then_some("relay=only");
        let ours: Vec<_> = transport.into_iter().chain(relay).collect();
        if ours.is_empty() {
            return Ok(());
        }
        write!(f, "{}{}", if self.url.query().is_some() { "&" } else { "?" }, ours.join("&"))
    }
}
