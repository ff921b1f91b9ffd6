//! Telephony providers' WebSockets: voice of a phone call as JSON and audio, as Twilio, Telnyx, Plivo, Exotel, Vonage and Genesys
//! stream it to a bot.
//!
//! As a door we are the bot that a provider calls; as a dial we play the provider towards a bot's WebSocket server. Each
//! [`Dialect`] has a file with its messages in both directions, and owns no socket; one [`TelephonyLeg`] carries them all.
//!
//! A bot sends its speech in bursts. It may set a mark behind it, which is answered when the call has played what was before it, and
//! may clear what was not heard yet: then the call's playout is emptied and the marks are answered at once. What a provider's REST
//! API does (hanging up, transfers) is no part of this: a bot ends the call when it closes the connection.

mod dial;
mod dialect;
mod door;
mod exotel;
mod genesys;
mod json;
mod leg;
mod media_streams;
mod order;
mod plivo;
mod provider;
mod telnyx;
mod twilio;
mod vonage;

pub use dial::{TelephonyError, dial};
pub use dialect::{BadMessage, CallDetails, Codec, Dialect, Format, Incoming, Outgoing, Received, Role, Start};
pub use door::TelephonyDoor;
pub use leg::TelephonyLeg;
pub use provider::{Provider, TelephonyAddress};

use super::Capability;

/// Tried against a real bot behind the provider's serializer.
const TRIED: &str = "`pipecat-ai` 1.14.0";

const fn capability(wire: &'static str, [door, dial]: [&'static str; 2], audio: &'static str) -> Capability {
    Capability { wire, way_in: Some(door), way_out: Some(dial), audio, abilities: leg::OF_BOT, tried: TRIED }
}

/// What the wires can do, for the table in the README; in the order of [`Provider::ALL`].
pub(in crate::transport) const CAPABILITIES: [Capability; 6] = [
    capability("Twilio Media Streams", ["`[doors.twilio]`", "`twilio+ws://`, `twilio+wss://`"], "8 kHz, mu-law"),
    capability("Telnyx", ["`[doors.telnyx]`", "`telnyx+ws://`, `telnyx+wss://`"], "8 kHz, mu-law or A-law"),
    capability("Plivo", ["`[doors.plivo]`", "`plivo+ws://`, `plivo+wss://`"], "8 kHz mu-law, 8 or 16 kHz s16le"),
    capability("Exotel", ["`[doors.exotel]`", "`exotel+ws://`, `exotel+wss://`"], "8, 16 or 24 kHz, s16le"),
    capability("Vonage", ["`[doors.vonage]`", "`vonage+ws://`, `vonage+wss://`"], "8, 16 or 24 kHz, s16le"),
    capability("Genesys AudioHook", ["`[doors.genesys]`", "`genesys+ws://`, `genesys+wss://`"], "8 kHz, mu-law"),
];
