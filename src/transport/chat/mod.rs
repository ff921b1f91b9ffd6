//! Chat: text with no audio, as Cekura's `run_scenarios_text` and `run_scenarios_with_websockets` speak it over a WebSocket
//! (<https://docs.cekura.ai/documentation/integrations/chat-testing>).
//!
//! Each text message is one JSON object, whole and not streamed: `{"content": …}`, `{"metadata": {…}}` (alone or beside
//! content), `{"role": "Function Call", "data": {id, name, arguments}}`, `{"role": "Function Call Result", "data": {id,
//! result}}`, and `{"type": "end_call"}` (with or without content), which ends the session. The caller pings every 30 s.
//!
//! The agents of a chat: a WebSocket ([`dial`]), a child process with the same frames a line ([`ChatProcess`]), a server of the
//! OpenAI interface ([`OpenAiLeg`]). The callers: a WebSocket at the [door](ChatDoor), and Cekura's REST interface for chats
//! ([`ApiChatLeg`]), which is polled and needs no door.
//!
//! A door tells its caller of an agent that did not hang up but crashed: `{"metadata": {"trunkline": {"agent_crashed": …}}}`,
//! then a close with 1011.

mod completion;
mod dial;
mod door;
mod leg;
mod openai;
mod process;
pub mod protocol;
mod rest;
pub mod session;

pub use dial::dial;
pub use door::ChatDoor;
pub use leg::ChatLeg;
pub use openai::{OpenAi, OpenAiError, OpenAiLeg};
pub use process::ChatProcess;
pub(crate) use rest::FAREWELL as REST_FAREWELL;
pub use rest::{ApiChatLeg, chats_of};

use super::Capability;
use crate::audio::Rate;
use crate::call::Abilities;

/// What a chat carries.
pub const ABILITIES: Abilities = Abilities { text_only: true, text: true, functions: true, transcripts: true, ..Abilities::NONE };
/// A chat has no audio; a leg must name a rate all the same.
const NO_RATE: Rate = Rate::HZ_8000;
/// The header that carries the door's secret (Cekura's chat page).
pub const SECRET_HEADER: &str = "X-VOCERA-SECRET";
/// The longest message where nothing else is said, in bytes.
pub const MAX_MESSAGE: usize = 1 << 20;

/// What a chat over a WebSocket can do, for the table in the README.
pub(super) const WEB_SOCKET: Capability = Capability {
    wire: "chat WebSocket",
    way_in: Some("`[doors.chat]`, ws:// and wss://"),
    way_out: Some("`chat://`, `chats://`"),
    audio: "none",
    abilities: ABILITIES,
    tried: "`websockets` 17.4 (Python), both ends",
};
/// What a child process that chats can do.
pub(super) const CHILD: Capability = Capability {
    wire: "chat process",
    way_in: None,
    way_out: Some("`chat-process:COMMAND`"),
    audio: "none",
    abilities: ABILITIES,
    tried: "Python scripts",
};
/// What a server of the OpenAI interface can do.
pub(super) const OPENAI: Capability = Capability {
    wire: "OpenAI-compatible HTTP",
    way_in: None,
    way_out: Some("`openai:URL?model=NAME`"),
    audio: "none",
    abilities: ABILITIES,
    tried: "`litellm` 1.106.2, whole and streamed",
};
/// What Cekura's REST interface for chats can do.
pub(super) const REST: Capability = Capability {
    wire: "Cekura's REST chat",
    way_in: Some("`run api_chat --wait`"),
    way_out: None,
    audio: "none",
    abilities: ABILITIES,
    tried: "a stand-in in Python",
};
