//! Pipecat: self-hosted bots and their clients. Voice goes over a WebSocket ([`web_socket`]) or over WebRTC ([`web_rtc`]); what is said beside
//! it is RTVI, from the bot's side ([`rtvi`]: what a bot tells; [`Bot`]: what a client is told) the same over both.

mod bot;
pub mod rtvi;
pub mod web_rtc;
pub mod web_socket;

pub use bot::{Bot, Understood};
pub use web_socket::{Audio, BadFrame, Frame, MAX_MESSAGE, PipecatCallerLeg, PipecatDoor, PipecatError, PipecatLeg, encode_audio};
