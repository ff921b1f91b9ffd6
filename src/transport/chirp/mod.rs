//! CHIRP: voice over a WebSocket, as Cekura's `run_scenarios_chirp` speaks it
//! (<https://docs.cekura.ai/documentation/integrations/websocket-chirp>).
//!
//! Binary messages carry s16le at 16 kHz, one channel, any even length (20 ms is usual). Text messages carry events:
//! `{type, id, ts_ms, data}` with `speech.started` and `speech.completed` (`data.utterance_id`) and `session.error`
//! (`data.code`, `data.message`). Closes: 1000 done, 1008 refused, 1011 internal error.
//!
//! Trunkline adds two optional fields: `data.sample`, the boundary's place in the sender's stream, in samples since the
//! connection opened, and `data.interruption`, the condition of the sender's script that makes it speak over the other side.
//! Where they are there, a recording knows the boundary to the sample and that the interruption was meant; a peer that does
//! not know them ignores them.

mod dial;
mod door;
mod leg;
mod protocol;

pub use super::web_socket::{DialError, RESULT_ID_HEADER, RUN_ID_HEADER, SCENARIO_ID_HEADER};
pub use dial::{DialOptions, dial};
pub use door::ChirpDoor;
pub use leg::{ChirpLeg, ChirpLimits};
pub use protocol::{ErrorCode, Incoming, Refusal, Session};

use base64::Engine as _;
use sha2::{Digest, Sha256};

use super::Capability;
use crate::audio::Rate;

/// What CHIRP can do, for the table in the README.
pub(crate) const CAPABILITY: Capability = Capability {
    wire: "CHIRP",
    way_in: Some("`[doors.chirp]`, ws:// and wss://"),
    way_out: Some("`chirp://`, `chirps://`"),
    audio: "16 kHz, s16le",
    abilities: leg::ABILITIES,
    tried: "`websockets` 17.4 (Python), both ends",
};

/// CHIRP's one rate.
pub const RATE: Rate = Rate::HZ_16000;

/// A user and a password for HTTP Basic authentication (RFC 7617). Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    password: String,
}

impl Credentials {
    /// From `user:password`; none without the colon.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (user, password) = text.trim_end_matches(['\r', '\n']).split_once(':')?;
        Some(Self { user: user.to_owned(), password: password.to_owned() })
    }

    /// The value of an `Authorization` header.
    #[must_use]
    pub fn header(&self) -> String {
        let plain = format!("{}:{}", self.user, self.password);
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(plain))
    }

    /// Whether an `Authorization` header carries these. Takes as long for a near miss as for a far one.
    #[must_use]
    pub fn admits(&self, header: Option<&str>) -> bool {
        let scheme_and_rest = header.and_then(|value| value.split_once(' '));
        let Some((scheme, encoded)) = scheme_and_rest else { return false };
        let given = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).unwrap_or_default();
        let expected = format!("{}:{}", self.user, self.password);
        scheme.eq_ignore_ascii_case("basic") && Sha256::digest(given) == Sha256::digest(expected)
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}
