//! Servers that help to find a way: STUN (RFC 8489) tells how we look from outside, TURN (RFC 8656) passes media on.

use std::fmt;

use crate::transport::Secret;

/// The port of STUN and TURN (RFC 7064, RFC 7065).
const PORT: u16 = 3478;
/// The port of TURN over TLS (RFC 7065).
const TLS_PORT: u16 = 5349;
/// So much of a bad address is repeated.
const LONGEST_SHOWN: usize = 100;

/// How a connection may find its way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IceOptions {
    /// STUN and TURN servers.
    pub servers: Vec<IceServer>,
    /// Media goes over a TURN server or not at all, and the far side is told none of our own addresses.
    pub relay_only: bool,
}

/// One address of a STUN or TURN server, as `RTCIceServer.urls` of the browsers has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceServer {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) service: Service,
}

/// What a server is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Service {
    /// Our address as it sees it.
    Stun,
    /// An address of its own, from which it passes on to us.
    Turn { via: Via, username: String, credential: Secret },
}

/// How a TURN server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    Udp,
    Tcp,
    Tls,
}

/// The address of a STUN or TURN server cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{shown} is not the address of a STUN or TURN server: {problem}")]
pub struct IceServerError {
    /// The address, without what may be secret in it.
    pub shown: String,
    /// What is wrong.
    pub problem: &'static str,
}

impl IceServer {
    /// Reads `stun:HOST[:PORT]`, `turn:HOST[:PORT][?transport=udp|tcp]` or `turns:HOST[:PORT]`. `username` and `credential` are of
    /// use for TURN only.
    ///
    /// # Errors
    /// [`IceServerError`], which repeats neither of the two.
    pub fn new(url: &str, username: &str, credential: &str) -> Result<Self, IceServerError> {
        Self::read(url, username, credential).map_err(|problem| {
            let shown = if url.contains('@') { "this".to_owned() } else { format!("{:?}", prefix(url)) };
            IceServerError { shown, problem }
        })
    }

    fn read(url: &str, username: &str, credential: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = url.split_once(':').ok_or("it has no scheme")?;
        let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
        let transport = match query {
            None => None,
            Some(query) => Some(query.strip_prefix("transport=").ok_or("only `transport` may follow the host")?),
        };
        let via = match (scheme.to_ascii_lowercase().as_str(), transport) {
            ("stun", None) => None,
            ("stun", Some(_)) => return Err("STUN goes over UDP only"),
            ("stuns", _) => return Err("STUN over TLS tells nothing of UDP"),
            ("turn", None | Some("udp")) => Some(Via::Udp),
            ("turn", Some("tcp")) => Some(Via::Tcp),
            ("turns", None | Some("tcp")) => Some(Via::Tls),
            ("turns", Some("udp")) => return Err("TURN over DTLS is not supported"),
            ("turn" | "turns", Some(_)) => return Err("the transport is neither udp nor tcp"),
            _ => return Err("its scheme is none of stun, turn and turns"),
        };
        let (host, port) = host_and_port(place)?;
        let port = port.unwrap_or(if via == Some(Via::Tls) { TLS_PORT } else { PORT });
        let service = match via {
            None => Service::Stun,
            Some(via) => {
                let credential = Secret::new(credential).filter(|_| !username.is_empty());
                let credential = credential.ok_or("TURN needs a user name and a credential")?;
                Service::Turn { via, username: username.to_owned(), credential }
            }
        };
        Ok(Self { host: host.to_owned(), port, service })
    }

    pub(super) const fn via(&self) -> Option<Via> {
        match &self.service {
            Service::Stun => None,
            Service::Turn { via, .. } => Some(*via),
        }
    }
}

fn host_and_port(place: &str) -> Result<(&str, Option<u16>), &'static str> {
    if place.contains(['/', '@']) {
        return Err("a host, and a port if need be, follow the scheme");
    }
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("an IPv6 address ends with ]")?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or("a port follows a colon")?) })
        }
        None => place.rsplit_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() || (host.contains(':') && !place.starts_with('[')) {
        return Err("there is no host, or an IPv6 address without brackets");
    }
    let port = port.map(|port| port.parse().ok().filter(|port| *port > 0).ok_or("the port is no number from 1 to 65535"));
    Ok((host, port.transpose()?))
}

fn prefix(text: &str) -> &str {
    let end = text.char_indices().nth(LONGEST_SHOWN).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

impl fmt::Display for IceServer {
    /// Without the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, transport) = match self.via() {
            None => ("stun", ""),
            Some(Via::Udp) => ("turn", "?transport=udp"),
            Some(Via::Tcp) => ("turn", "?transport=tcp"),
            Some(Via::Tls) => ("turns", "?transport=tcp"),
        };
        let brackets = if self.host.contains(':') { ["[", "]"] } else { ["", ""] };
        write!(f, "{scheme}:{}{}{}:{}{transport}", brackets[0], self.host, brackets[1], self.port)
    }
}
