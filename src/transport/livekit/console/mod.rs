//! A LiveKit agent with no LiveKit server: a child process that dials us over the TCP console of `livekit-agents`.
//!
//! The command is the agent's own: `python -m livekit.agents console agent.py`. It is started with ` --connect-addr HOST:PORT` at
//! its end, or with the address in place of `{addr}` where the command has it. Both ways: a length (u32, big-endian) and a
//! [`livekit.agent.AgentSessionMessage`](super::session), 1 MiB at most; audio is s16le at 48 kHz, one channel. The caller's audio
//! goes out without a gap. The agent's comes in bursts, is played in real time and acknowledged when it was heard.
//!
//! The child's environment and its log are those of an audio process ([`crate::transport::process`]), its stdout being log as
//! well. There is no room and no job metadata on this wire. At the end of the call its process group gets SIGTERM, which ends a
//! LiveKit agent in order, and SIGKILL when that takes more than ten seconds.

mod dial;
mod frame;
mod leg;
mod playback;

use std::fmt;

pub use dial::{ConsoleError, DIAL_TIME, dial};
pub use frame::{BadFrame, FrameReader, MAX_MESSAGE, frame};
pub use leg::ConsoleLeg;
pub use playback::{Play, Playback};

use crate::audio::Rate;
use crate::call::Abilities;
use crate::transport::Capability;
use crate::transport::process::spelled;

/// The console's one rate.
pub const RATE: Rate = Rate::HZ_48000;
/// Stands in a command for the address that the agent is to dial.
const ADDRESS: &str = "{addr}";

/// What the console carries.
const ABILITIES: Abilities = Abilities { continuous_sink: true, speech_marks: true, transcripts: true, ..Abilities::NONE };
/// What the console can do, for the table in the README.
pub(in crate::transport) const CAPABILITY: Capability = Capability {
    wire: "LiveKit agent's console",
    way_in: None,
    way_out: Some("`livekit-console:COMMAND`"),
    audio: "48 kHz, s16le",
    abilities: ABILITIES,
    tried: "`livekit-agents` 1.8.9",
};

/// The command of an agent that dials us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleCommand(Vec<String>);

impl ConsoleCommand {
    /// From the command's words; none without any.
    #[must_use]
    pub fn new(words: Vec<String>) -> Option<Self> {
        (!words.is_empty()).then_some(Self(words))
    }

    /// The words that make the agent dial `address`.
    #[must_use]
    pub fn dialling(&self, address: &str) -> Vec<String> {
        let mut words: Vec<String> = self.0.iter().map(|word| word.replace(ADDRESS, address)).collect();
        if words == self.0 {
            words.extend(["--connect-addr".to_owned(), address.to_owned()]);
        }
        words
    }
}

impl fmt::Display for ConsoleCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&spelled("livekit-console", &self.0))
    }
}
