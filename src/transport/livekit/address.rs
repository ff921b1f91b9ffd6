//! A room's spelling as a way out.

use std::fmt;
use std::time::Duration;

use url::Url;

use super::leg::ABILITIES;
use super::{Entrance, RoomCall, Server};
use crate::call::CallIds;
use crate::transport::Capability;

/// Rooms, as [`crate::transport::capability_table`] has them.
pub const CAPABILITY: Capability = Capability {
    wire: "LiveKit room",
    way_in: Some("`[doors.livekit]`, an agent worker"),
    way_out: Some("`livekit://ROOM?agent=NAME`"),
    audio: "48 kHz, Opus",
    abilities: ABILITIES,
    tried: "livekit-server 1.9.12, 1.11.0 and 1.13.5, `livekit` 1.1.21 and `livekit-agents` 1.8.9 (Python)",
};

/// Where an agent is called in a room: `livekit://ROOM?agent=NAME&metadata=TEXT`, each part of it may be missing; `relay=only` lets
/// media go over the server's TURN service alone; with `livekit+ws://HOST:PORT/ROOM` or `livekit+wss://…` the server is another than
/// that of `LIVEKIT_URL`. With `livekit-chat` in place of `livekit` the agent is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomAddress {
    /// The agent is written to, not spoken to.
    chat: bool,
    /// The server, where the address names one.
    server: Option<Url>,
    room: Option<String>,
    agent: Option<String>,
    metadata: Option<String>,
    identity: Option<String>,
    relay_only: bool,
}

impl RoomAddress {
    /// Reads an address: its scheme is `livekit` or `livekit-chat`, with `+ws` or `+wss` or neither. None: it is another.
    pub(in crate::transport) fn parse(text: &str) -> Option<Result<Self, String>> {
        let (scheme, rest) = text.split_once("://")?;
        let (scheme, server) = scheme.split_once('+').map_or((scheme, None), |(scheme, web)| (scheme, Some(web)));
        let chat = match scheme {
            "livekit" => false,
            "livekit-chat" => true,
            _ => return None,
        };
        if !matches!(server, None | Some("ws" | "wss")) {
            return None;
        }
        Some(Self::read(chat, server, rest))
    }

    fn read(chat: bool, server: Option<&str>, rest: &str) -> Result<Self, String> {
        // A room's name is no host name: `Url` would change its letters.
        let url = match server {
            Some(web) => Url::parse(&format!("{web}://{rest}")),
            None => Url::parse(&format!("ws://room/{rest}")),
        };
        let url = url.map_err(|error| error.to_string())?;
        if url.password().is_some() || !url.username().is_empty() {
            return Err("credentials do not belong into an address: set LIVEKIT_API_KEY and LIVEKIT_API_SECRET".to_owned());
        }
        let name = url.path().trim_matches('/');
        let name = url::form_urlencoded::parse(name.replace('+', "%2B").as_bytes()).next().map(|(name, _)| name.into_owned());
        let mut address = Self {
            chat,
            server: server.map(|_| bare(&url)),
            room: name.filter(|name| !name.is_empty()),
            agent: None,
            metadata: None,
            identity: None,
            relay_only: false,
        };
        for (key, value) in url.query_pairs() {
            let value = Some(value.into_owned()).filter(|value| !value.is_empty());
            match key.as_ref() {
                "agent" => address.agent = value,
                "metadata" => address.metadata = value,
                "identity" => address.identity = value,
                "relay" if value.as_deref() == Some("only") => address.relay_only = true,
                "relay" => return Err("relay can only be \"only\": media over the server's TURN service alone".to_owned()),
                other => return Err(format!("{other:?} is none of agent, metadata, identity and relay")),
            }
        }
        Ok(address)
    }

    /// The agent is written to, not spoken to.
    pub(in crate::transport) const fn is_chat(&self) -> bool {
        self.chat
    }

    /// The agent that is asked for by its name.
    pub(crate) fn agent(&self) -> Option<&str> {
        self.agent.as_deref()
    }

    /// The call that is to be placed. `server` is the one that the settings name: its key and secret are taken for the
    /// address's own server too. The agent is told the address's metadata, else `metadata`, else the call's ids.
    pub(in crate::transport) fn call(
        &self,
        server: &Server,
        ids: &CallIds,
        metadata: Option<&str>,
        step_time: Duration,
    ) -> RoomCall {
        let server = match &self.server {
            Some(url) => server.at(url.clone()),
            None => server.clone(),
        };
        let ids = ids.told().map(|ids| ids.to_string()).unwrap_or_default();
        let metadata = self.metadata.as_deref().or(metadata).map_or(ids, str::to_owned);
        let entrance = Entrance::Made {
            server,
            room: self.room.clone(),
            room_metadata: String::new(),
            agent_name: self.agent.clone(),
            metadata,
        };
        let identity = self.identity.clone().unwrap_or_else(|| "caller".to_owned());
        RoomCall { entrance, publish: None, identity, relay_only: self.relay_only, step_time }
    }
}

fn bare(url: &Url) -> Url {
    let mut bare = url.clone();
    bare.set_path("");
    bare.set_query(None);
    bare.set_fragment(None);
    bare
}

impl fmt::Display for RoomAddress {
    /// Without the metadata, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.chat { "livekit-chat" } else { "livekit" };
        match &self.server {
            Some(server) => write!(f, "{scheme}+{server}")?,
            None => write!(f, "{scheme}://")?,
        }
        f.write_str(self.room.as_deref().unwrap_or_default())?;
        let agent = self.agent.as_ref().map(|agent| format!("agent={agent}"));
        let relay = self.relay_only.then(|| "relay=only".to_owned());
        let query: Vec<_> = agent.into_iter().chain(relay).collect();
        if query.is_empty() { Ok(()) } else { write!(f, "?{}", query.join("&")) }
    }
}
