//! Pipecat: self-hosted bots and their clients. Voice goes over a WebSocket ([`web_socket`]) or over WebRTC ([`web_rtc`]); what is said beside
//! it is RTVI, the same over both: [`rtvi`] is what a bot tells, [`Bot`] what a client is told. A bot behind a runner is asked for by HTTP
//! first: [`dial`].

mod address;
mod bot;
mod dial;
mod ice;
pub mod rtvi;
mod server;
pub mod web_rtc;
pub mod web_socket;

pub use address::PipecatAddress;
pub use bot::{Bot, Understood};
pub(super) use dial::body;
pub use dial::{CallError, CallOptions, dial};
pub use ice::{BadIceServers, IceServers};
pub use server::{BotServerError, DailyRoom, start_in_daily};
pub use web_socket::{Audio, BadFrame, Frame, MAX_MESSAGE, PipecatCallerLeg, PipecatDoor, PipecatError, PipecatLeg, encode_audio};
