//! What every wire over a WebSocket shares: the door that takes connections in, the dial that places them, and the link that
//! sends, reads and closes politely.

mod dial;
mod door;
mod idle;
mod link;
mod token;

pub use dial::DialError;
pub(super) use dial::{OpenError, connect, headers, open};
pub(super) use door::refusal;
pub use door::{Admitted, Door, DoorError, Entrance, Request, TlsFiles};
pub(super) use idle::IdleWatch;
pub(super) use link::{Link, Next, Read, parting, web_socket_config};
pub(super) use token::shows;
pub use token::{TokenDoor, TokenEntrance};

use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::WebSocketStream;
use url::Url;

use super::tls::Wire;

/// A WebSocket that came through a door, with its place among the calls that the door takes.
pub struct Taken {
    pub(super) socket: Socket,
    pub(super) via: String,
    pub(super) permit: OwnedSemaphorePermit,
}

/// A WebSocket, plain or encrypted.
pub(super) type Socket = WebSocketStream<Box<dyn Wire>>;

/// The ids of a call, in the upgrade request of the caller. Cekura documents these names for its text WebSockets
/// (<https://docs.cekura.ai/documentation/integrations/chat-testing>); the sandbox sends them with CHIRP too.
pub const RUN_ID_HEADER: &str = "X-VOCERA-RUN-ID";
/// See [`RUN_ID_HEADER`].
pub const RESULT_ID_HEADER: &str = "X-VOCERA-RESULT-ID";
/// See [`RUN_ID_HEADER`].
pub const SCENARIO_ID_HEADER: &str = "X-VOCERA-SCENARIO-ID";

/// The names that a door takes for each id: Cekura's for WebSockets, then those of its SIP calls, which gateways pass on
/// (<https://docs.cekura.ai/documentation/integrations/sip>).
pub(super) const ID_HEADERS: [[&str; 2]; 3] =
    [[RUN_ID_HEADER, "X-Run-Id"], [RESULT_ID_HEADER, "X-Result-Id"], [SCENARIO_ID_HEADER, "X-Scenario-Id"]];

/// The spelling of a way out over a WebSocket: [`shown`], with `scheme` for `ws`.
pub(super) fn spelled(url: &Url, scheme: &str) -> String {
    shown(url).replacen("ws", scheme, 1)
}

/// An address as it is shown: its user, its password and what stands in its query may be secret.
pub(crate) fn shown(url: &Url) -> String {
    let mut bare = url.clone();
    // An address that can have no user has none to be taken out.
    let _ = (bare.set_username(""), bare.set_password(None));
    bare.set_query(None);
    bare.set_fragment(None);
    if url.query().is_some() { format!("{bare}?…") } else { bare.to_string() }
}
